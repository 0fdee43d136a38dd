"""The process of the container runtime is found from the kubelet on, whatever the distribution."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import FixtureNode
from trust.agent import discover
from trust.agent.faults import Fault, Reason
from trust.agent.node import Node, Runtime, option

K3S_SOCKET = "/run/k3s/containerd/containerd.sock"
SHIM = ("/usr/bin/containerd-shim-runc-v2", "-namespace", "k8s.io", "-id", "0a1b", "-address")


def find(node: FixtureNode) -> Runtime:
    return discover.runtime(Node(node.proc, os.getpid(), node.tell_version, node.listener))


@pytest.mark.parametrize(
    ("kubelet", "files"),
    [
        ("/usr/bin/kubelet", {}),
        ("kubelet --container-runtime-endpoint=unix:///run/containerd/containerd.sock", {}),
        ("kubelet --container-runtime-endpoint /run/containerd/containerd.sock --v=2", {}),
        ("kubelet --container-runtime-endpoint=unix:/run/containerd/containerd.sock", {}),
        ("kubelet --config /k.yaml", {"/k.yaml": 'containerRuntimeEndpoint: "unix:SOCKET"\n'}),
        ("kubelet --config /k.yaml", {"/k.yaml": "containerRuntimeEndpoint:\ncontentType: a/b\n"}),
        ("kubelet --config /k.yaml", {"/k.yaml": "containerRuntimeEndpoint: null\ncontentType: a/b\n"}),
        ("kubelet --config /k.yaml", {"/k.yaml": "containerRuntimeEndpoint: ~\n"}),
        (
            "kubelet --config=/k.yaml --config-dir=/k.d",
            {
                "/k.yaml": "containerRuntimeEndpoint: unix:///old.sock\n",
                "/k.d/1.conf": '{"kind": "X", "containerRuntimeEndpoint": null}',
            },
        ),
        (
            "kubelet --config=/k.yaml --config-dir=/k.d",
            {
                "/k.yaml": "containerRuntimeEndpoint: unix:///old.sock\n",
                "/k.d/1.conf": '{"containerRuntimeEndpoint": ""}',
            },
        ),
        ("kubelet --config /k.yaml", {"/k.yaml": 'containerRuntimeEndpoint: "unix://SOCKET" # x\n'}),
        ("kubelet --config=/k.yaml", {"/k.yaml": "a: b\ncontainerRuntimeEndpoint: unix://SOCKET\n"}),
        ("kubelet --config=/k.yaml", {"/k.yaml": "{kind: X, containerRuntimeEndpoint: 'unix://SOCKET'}\n"}),
        ("kubelet --config=/k.json", {"/k.json": '{"kind": "X","containerRuntimeEndpoint":"unix://SOCKET"}'}),
        (
            "kubelet --config=/k.yaml",
            {"/k.yaml": "# containerRuntimeEndpoint: /no.sock\ncontainerRuntimeEndpoint: ''\n"},
        ),
        (
            "kubelet --config=/k.yaml --config-dir=/k.d",
            {
                "/k.yaml": "containerRuntimeEndpoint: unix:///old.sock\n",
                "/k.d/1.conf": "containerRuntimeEndpoint: SOCKET\n",
            },
        ),
    ],
)
def test_kubelet_names_the_socket(tmp_path: Path, kubelet: str, files: dict[str, str]) -> None:
    files = {path: text.replace("SOCKET", "/run/containerd/containerd.sock") for path, text in files.items()}
    node = FixtureNode(tmp_path, kubelet=tuple(kubelet.split()), files=files)
    found = find(node)
    assert (found.name, found.release, found.process[0]) == ("containerd", (1, 7), node.pid)
    assert found.arguments == ("/usr/bin/containerd",)


def test_socket_is_found_through_links_of_the_node(tmp_path: Path) -> None:
    node = FixtureNode(
        tmp_path, kubelet=("kubelet", "--container-runtime-endpoint=unix:///var/run/containerd/containerd.sock")
    )
    (node.root / "var/run").symlink_to("/run")
    assert find(node).process[0] == node.pid


def test_program_with_the_kubelet_inside_is_found_by_the_shim_of_this_pod(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path, kubelet=("/usr/local/bin/k3s", "server"), socket="/odd.sock")
    with pytest.raises(Fault, match="No process listens on .*k3s"):
        find(node)
    node.process(60, (*SHIM, "/odd.sock"))
    assert find(node).socket == "/odd.sock"


def test_program_with_the_kubelet_inside_is_found_by_its_well_known_socket(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path, kubelet=("/usr/local/bin/k3s", "server"), socket=K3S_SOCKET)
    assert find(node).socket == K3S_SOCKET


CONTAINERD_SOCKET, CRIO_SOCKET = "/run/containerd/containerd.sock", "/run/crio/crio.sock"
CRI_DOCKERD_SOCKET, K3S_CRI_DOCKERD_SOCKET = "/run/cri-dockerd.sock", "/run/k3s/cri-dockerd/cri-dockerd.sock"


def serve(node: FixtureNode, **sockets: Exception | tuple[str, str]) -> None:
    """Let a node without a kubelet of its own have processes that listen, by socket, and say what each answers."""
    for number, path in enumerate(sockets):
        node.write(path, "")
        node.process(70 + number, (f"/usr/bin/program-{number}",))
        node.listeners[path] = 70 + number

    def answer(_path: str) -> tuple[str, str]:
        said = sockets[f"/{Path(os.readlink(_path)).relative_to(node.root)}"]
        if isinstance(said, Exception):
            raise said
        return said

    node.tell_version = answer


def without_kubelet(tmp_path: Path, parent: tuple[str, ...], **sockets: Exception | tuple[str, str]) -> FixtureNode:
    """K3s, whose program hides its arguments; `parent` has started the agent's container."""
    node = FixtureNode(tmp_path, kubelet=("/usr/local/bin/k3s server",), socket="/none.sock")
    node.process(60, parent)
    serve(node, **sockets)
    return node


DOCKERS_SHIM = ("/usr/bin/containerd-shim-runc-v2", "-namespace", "moby", "-id", "0a1b", "-address", CONTAINERD_SOCKET)
NO_CRI = OSError("the socket does not serve the CRI runtime service")


@pytest.mark.parametrize("cri", [NO_CRI, ("containerd", "1.7.24")], ids=["docker.com's", "Ubuntu's"])
@pytest.mark.parametrize("socket", [CRI_DOCKERD_SOCKET, K3S_CRI_DOCKERD_SOCKET])
def test_docker_under_a_program_with_the_kubelet_inside_is_not_mistaken_for_its_containerd(
    tmp_path: Path, socket: str, cri: Exception | tuple[str, str]
) -> None:
    sockets = {CONTAINERD_SOCKET: cri, K3S_SOCKET: ("containerd", "2.1.1-k3s1"), socket: ("docker", "28.3.2")}
    node = without_kubelet(tmp_path, DOCKERS_SHIM, **sockets)
    found = find(node)
    assert (found.name, found.socket) == ("docker", socket)


def test_docker_without_a_cri_of_its_own_leaves_its_containerd_alone(tmp_path: Path) -> None:
    node = without_kubelet(tmp_path, DOCKERS_SHIM, **{CONTAINERD_SOCKET: ("containerd", "1.7.24")})
    with pytest.raises(Fault) as caught:
        find(node)
    assert CRI_DOCKERD_SOCKET in caught.value.sentence
    assert K3S_CRI_DOCKERD_SOCKET in caught.value.sentence
    assert CONTAINERD_SOCKET not in caught.value.sentence


@pytest.mark.parametrize("monitor", ["/usr/libexec/crio/conmon", "/usr/bin/conmonrs"])
def test_what_conmon_has_started_is_cri_os(tmp_path: Path, monitor: str) -> None:
    sockets = {CONTAINERD_SOCKET: ("containerd", "1.7.24"), CRIO_SOCKET: ("cri-o", "1.33.1")}
    found = find(without_kubelet(tmp_path, (monitor, "-b", "/run/containers/storage"), **sockets))
    assert (found.name, found.socket) == ("cri-o", CRIO_SOCKET)


@pytest.mark.parametrize("trouble", [NO_CRI, TimeoutError("timed out")])
def test_a_known_socket_without_cri_ends_no_search(tmp_path: Path, trouble: Exception) -> None:
    sockets = {CONTAINERD_SOCKET: trouble, CRIO_SOCKET: ("cri-o", "1.33.1")}
    node = without_kubelet(tmp_path, ("/bin/sh",), **sockets)
    assert find(node).socket == CRIO_SOCKET


def test_a_known_socket_whose_process_is_not_roots_ends_no_search(tmp_path: Path) -> None:
    sockets = {CONTAINERD_SOCKET: ("containerd", "1.7.24"), CRIO_SOCKET: ("cri-o", "1.33.1")}
    node = without_kubelet(tmp_path, ("/bin/sh",), **sockets)
    become(node, node.listeners[CONTAINERD_SOCKET], "another user's")
    assert find(node).socket == CRIO_SOCKET


def test_a_search_that_finds_nothing_names_all_that_was_tried_and_why(tmp_path: Path) -> None:
    node = without_kubelet(tmp_path, ("/bin/sh",), **{CONTAINERD_SOCKET: NO_CRI})
    with pytest.raises(Fault) as caught:
        find(node)
    assert f"The runtime on {CONTAINERD_SOCKET} does not answer the CRI call Version" in caught.value.sentence
    assert "No process listens on " in caught.value.sentence
    for path in set(discover.KNOWN_SOCKETS) - {CONTAINERD_SOCKET}:
        assert path in caught.value.sentence.partition("No process listens on ")[2]
    assert caught.value.details.get("path") == CONTAINERD_SOCKET


def test_a_socket_that_is_too_busy_to_be_asked_is_no_file_that_cannot_be_written(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path)

    def busy(path: str) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable", path)

    node.listener = busy
    with pytest.raises(Fault, match=r"containerd\.sock cannot be asked .*Resource temporarily unavailable") as caught:
        find(node)
    assert caught.value.reason == Reason.RUNTIME_UNKNOWN


def test_second_containerd_on_the_node_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    node = FixtureNode(
        tmp_path, socket=K3S_SOCKET, kubelet=("kubelet", f"--container-runtime-endpoint=unix://{K3S_SOCKET}")
    )
    node.process(70, ("/usr/bin/containerd",))
    node.write("/run/containerd/containerd.sock", "")
    node.listeners["/run/containerd/containerd.sock"] = 70
    assert find(node).process[0] == node.pid


SERVER = """
import os, socket, sys, time
server = socket.socket(socket.AF_UNIX)
os.chdir(sys.argv[2])  # a socket's path may have 107 bytes only
server.bind(sys.argv[1] + ".tmp")
server.listen()
os.rename(sys.argv[1] + ".tmp", sys.argv[1])  # as CreateListener of the kubelet's pkg/kubelet/util does
print(flush=True)
time.sleep(60)
"""


StartServer = Callable[[FixtureNode, str], "subprocess.Popen[bytes]"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts real processes that listen on a node's socket as cri-dockerd does, and puts them on the node."""
    started: list[subprocess.Popen[bytes]] = []

    def start(node: FixtureNode, path: str) -> subprocess.Popen[bytes]:
        socket = node.root / path[1:]
        socket.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", SERVER, socket.name, socket.parent], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        node.process(process.pid, ("/usr/bin/cri-dockerd",))
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_socket_that_was_bound_under_another_name_and_renamed_has_its_process_found(
    tmp_path: Path, server: StartServer
) -> None:
    """/proc/net/unix goes on with the name under which it was bound."""
    path = "/run/cri-dockerd.sock"
    node = FixtureNode(
        tmp_path, kubelet=("kubelet", "--container-runtime-endpoint=unix:///var/run/cri-dockerd.sock"), runtime="docker"
    )
    (node.root / "var/run").symlink_to("/run")
    pid = server(node, path).pid
    table = Path("/proc/net/unix").read_text()
    assert " cri-dockerd.sock.tmp\n" in table
    assert str(node.root / path[1:]) not in table
    found = discover.runtime(Node(node.proc, os.getpid(), node.tell_version))
    assert (found.name, found.process[0], found.arguments) == ("docker", pid, ("/usr/bin/cri-dockerd",))


def test_a_socket_that_nobody_listens_on_any_more_is_no_runtime(tmp_path: Path, server: StartServer) -> None:
    node = FixtureNode(tmp_path)
    process = server(node, node.socket)
    process.kill()
    process.wait()
    with pytest.raises(Fault, match="No process listens"):
        discover.runtime(Node(node.proc, os.getpid(), node.tell_version))


def test_kubelet_of_a_nested_cluster_is_passed_over(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path)
    node.process(40, ("kubelet", "--container-runtime-endpoint=unix:///nested.sock"))
    (node.proc / "40/ns/pid").unlink()
    (node.proc / "40/ns/pid").symlink_to("pid:[2]")
    assert find(node).socket == "/run/containerd/containerd.sock"


def test_a_socket_of_systemd_leads_to_the_service_that_it_has_started(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path)
    (node.proc / "1/fd/3").symlink_to("socket:[4711]")
    node.listeners[node.socket] = 1
    assert find(node).process[0] == node.pid
    node.end(node.pid)
    with pytest.raises(Fault, match="No process listens"):
        find(node)


def become(node: FixtureNode, pid: int, how: str) -> None:
    """Let a process be what an agent must not follow."""
    if how == "another user's":
        (node.proc / f"{pid}/status").write_text("Name:\ta\nUid:\t1000\t1000\t1000\t1000\n")
    elif how == "a setuid program's":
        (node.proc / f"{pid}/status").write_text("Name:\ta\nUid:\t1000\t0\t0\t0\n")
    elif how == "a setuid program's that became root":
        (node.proc / f"{pid}/exe").unlink(missing_ok=True)
        (node.proc / f"{pid}/exe").touch(0o4755)
        (node.proc / f"{pid}/exe").chmod(0o4755)
    else:
        (node.proc / f"{pid}/ns/mnt").unlink()
        (node.proc / f"{pid}/ns/mnt").symlink_to("mnt:[9]")


NOT_ROOTS = ["another user's", "a setuid program's", "a setuid program's that became root"]


@pytest.mark.parametrize("how", [*NOT_ROOTS, "a pod's"])
def test_a_process_that_only_calls_itself_kubelet_is_passed_over(tmp_path: Path, how: str) -> None:
    node = FixtureNode(tmp_path)
    node.process(40, ("kubelet", "--container-runtime-endpoint=unix:///trap.sock"))
    become(node, 40, how)
    node.process(41, ("trap",))
    node.write("/trap.sock", "")
    node.listeners["/trap.sock"] = 41
    found = find(node)
    assert (found.socket, found.process[0]) == ("/run/containerd/containerd.sock", node.pid)


@pytest.mark.parametrize("how", NOT_ROOTS)
def test_a_runtime_that_is_not_roots_is_named_and_not_followed(tmp_path: Path, how: str) -> None:
    node = FixtureNode(tmp_path)
    become(node, node.pid, how)
    node.tell_version = lambda _path: pytest.fail("it was asked")
    with pytest.raises(Fault, match=r"Process \d+, which listens on .* does not run as root") as caught:
        find(node)
    assert caught.value.reason == Reason.RUNTIME_UNKNOWN


def test_runtime_with_its_own_mounts_is_seen_through_its_own_root(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path)
    (node.proc / f"{node.pid}/ns/mnt").unlink()
    (node.proc / f"{node.pid}/ns/mnt").symlink_to("mnt:[2]")
    assert Node(node.proc).view(node.pid).top == node.proc / f"{node.pid}/root"
    assert Node(node.proc).view(50).top == node.proc / "1/root"
    assert Node(node.proc).view(9999).top == node.proc / "1/root"


def test_runtime_that_is_down_or_silent_is_named(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path)

    def silent(_path: str) -> tuple[str, str]:
        raise TimeoutError("timed out")

    node.tell_version = silent
    with pytest.raises(Fault, match=r"/run/containerd/containerd\.sock does not answer .* \(timed out\)") as caught:
        find(node)
    assert caught.value.reason == Reason.RUNTIME_UNKNOWN
    node.end(node.pid)
    with pytest.raises(Fault, match=r"No process listens on /run/containerd/containerd\.sock"):
        find(node)


def test_pod_without_the_processes_of_the_node_says_what_it_needs(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path)
    with pytest.raises(Fault, match="hostPID"):
        discover.runtime(Node(node.proc, 1, node.tell_version))


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("1.6.20~ds1", (1, 6)),
        ("v1.7.24", (1, 7)),
        ("2.4.2+unknown", (2, 4)),
        ("v2.0.5-k3s1", (2, 0)),
        ("1.30.0-dev", (1, 30)),
    ],
)
def test_versions(version: str, release: tuple[int, int]) -> None:
    assert Runtime("containerd", version, (1, 1, ""), (), "").release == release


def test_version_without_a_number_is_named() -> None:
    with pytest.raises(Fault, match="'unknown'"):
        _ = Runtime("containerd", "unknown", (1, 1, ""), (), "").release


def test_options_of_a_command_line() -> None:
    assert option(["x", "--config", "/a", "-c=/b"], "c", "config") == "/b"
    assert option(["x", "-config=/a"], "config") == "/a"
    assert option(["x", "config=/a", "--config"], "config") == ""
    assert option(["x"], "config") is None
