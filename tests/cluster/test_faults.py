"""What real clusters do to nodes: each fault ends in a stated state, and `destroy` leaves the nodes as they were.

What disturbs a node happens on one that joins for these tests. The doctor says when a node is proved again.
"""

import os
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local_cluster import cgroups, nodes

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.diagnosis import SIGNAL_AGENT, agent_on, wait_diagnosis
from .support.faults import changes, on, our_file, path_on, replace_agent, state, wait_reason
from .support.node_state import config_trees, restarts
from .support.stacks import Deployed, Stack, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

SECOND_CONTAINERD = """\
version = 3
root = "/run/second/root"
state = "/run/second/state"
disabled_plugins = ["io.containerd.cri.v1.images"]

[grpc]
  address = "/run/second/containerd.sock"
"""


@pytest.fixture(scope="module")
def joined_stack(cluster: Cluster, joined_node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack with its agent on all nodes. When it is destroyed, every node is as it was."""
    before = {node: state(node) for node in (*cluster.nodes, joined_node)}
    with deployed_stack(cluster, tmp_path_factory.mktemp("faults")) as deployed:
        wait_diagnosis(cluster, deployed.stack)
        yield replace(deployed, trees_before={**deployed.trees_before, joined_node: before[joined_node]})
    for node, expected in before.items():
        assert state(node) == expected, node


@pytest.fixture
def node(cluster: Cluster, joined_stack: Deployed, joined_node: str) -> Iterator[str]:
    """The node to disturb. Afterwards all is proved again, and its containerd was never restarted by an agent."""
    yield joined_node
    wait_diagnosis(cluster, joined_stack.stack, timeout=120)
    assert joined_stack.trusted(joined_node)
    assert set(cluster.nodes) <= set(cluster.ready_nodes())


# The agent and its files


def test_a_killed_agent_comes_back_and_the_node_stays_trusted(joined_stack: Deployed, node: str) -> None:
    pod = agent_on(joined_stack, node)
    file = our_file(joined_stack, node)
    before = file.stat().st_mtime_ns
    # With the agent its container ends, and with that the program that has killed it: with 137, if it had no time left.
    signal = ("exec", "-n", joined_stack.namespace, pod, "-c", "agent", "--", "python3", "-c", SIGNAL_AGENT, "9")
    joined_stack.cluster.run("kubectl", *signal, check=False)

    def restarted() -> bool:
        [status] = joined_stack.cluster.get("pod", "-n", joined_stack.namespace, pod)["status"]["initContainerStatuses"]
        return status["restartCount"] == 1 and status.get("started", False)

    wait_until(restarted, "the agent was started again", timeout=30)
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nMIIB", "nonsense"])
def test_our_file_with_another_content_is_repaired(joined_stack: Deployed, node: str, content: str) -> None:
    our_file(joined_stack, node).write_text(content)
    wait_until(lambda: joined_stack.trusted(node), "our file is repaired", timeout=15)


def test_a_wiped_hosts_directory_is_filled_again(joined_stack: Deployed, node: str) -> None:
    on(node, "rm", "-rf", "/etc/containerd/certs.d", "/etc/containerd/certs.d:", "/etc/docker/certs.d")
    wait_until(lambda: joined_stack.trusted(node), "our file is back", timeout=15)


def test_a_foreign_hosts_toml_for_our_host_is_named_and_left_alone(joined_stack: Deployed, node: str) -> None:
    toml = joined_stack.hosts_directory(node) / "hosts.toml"
    toml.write_text(f'server = "https://{joined_stack.host}"\n')
    try:
        wait_reason(joined_stack, node, "FOREIGN_HOSTS_TOML")
        assert toml.read_text() == f'server = "https://{joined_stack.host}"\n'
    finally:
        toml.unlink()


def test_an_up_that_changes_nothing_fails_for_a_node_whose_agent_has_found_a_fault_since(
    joined_stack: Deployed, node: str
) -> None:
    stack = joined_stack.stack
    stack.pulumi("config", "set", "readyTimeout", "20s")
    stack.up()
    toml = joined_stack.hosts_directory(node) / "hosts.toml"
    toml.write_text(f'server = "https://{joined_stack.host}"\n')
    try:
        wait_reason(joined_stack, node, "FOREIGN_HOSTS_TOML")
        before = joined_stack.ready_agents()
        failed = stack.up(check=False)
        text = failed.stdout + failed.stderr
        assert failed.returncode != 0
        assert "3 of 4 nodes have pulled from the registry within 20s" in text
        assert f"{node}: FOREIGN_HOSTS_TOML" in text
        assert joined_stack.ready_agents() == before, "its pod is ready all the time, so only the agent's log tells"
    finally:
        toml.unlink()
    stack.pulumi("config", "rm", "readyTimeout")
    stack.up()  # waits until the agent says that the fault has passed


def test_a_host_folder_that_links_out_of_the_tree_is_named_and_not_followed(joined_stack: Deployed, node: str) -> None:
    folder = joined_stack.hosts_directory(node)
    elsewhere = path_on(node, "/srv/elsewhere")
    elsewhere.mkdir()
    on(node, "rm", "-rf", f"/{folder.relative_to(nodes.node_root(node))}")
    on(node, "ln", "-sT", "/srv/elsewhere", f"/{folder.relative_to(nodes.node_root(node))}")
    try:
        wait_reason(joined_stack, node, "SYMLINK_LEAVES_TREE")
        assert not list(elsewhere.iterdir())
    finally:
        folder.unlink()
        elsewhere.rmdir()


def test_a_read_only_etc_is_named(joined_stack: Deployed, node: str) -> None:
    on(node, "rm", "-rf", "/etc/containerd/certs.d", "/etc/containerd/certs.d:")
    on(node, "mount", "--bind", "/etc", "/etc")
    on(node, "mount", "-o", "remount,bind,ro", "/etc")
    try:
        if joined_stack.trusted(node):  # the agent was faster
            on(node, "mount", "-o", "remount,bind,rw", "/etc")
            on(node, "rm", "-rf", "/etc/containerd/certs.d", "/etc/containerd/certs.d:")
            on(node, "mount", "-o", "remount,bind,ro", "/etc")
        wait_reason(joined_stack, node, "READ_ONLY")
    finally:
        on(node, "umount", "/etc")


def test_a_second_containerd_is_not_taken_for_the_kubelets(joined_stack: Deployed, node: str) -> None:
    path_on(node, "/run/second").mkdir()
    path_on(node, "/run/second/config.toml").write_text(SECOND_CONTAINERD)
    unit = "second-containerd"
    on(node, "systemd-run", f"--unit={unit}", "containerd", "--config", "/run/second/config.toml")
    try:
        wait_until(path_on(node, "/run/second/containerd.sock").exists, "a second containerd runs", timeout=30)
        replace_agent(joined_stack, node)
        wait_diagnosis(joined_stack.cluster, joined_stack.stack)
        assert joined_stack.trusted(node)
    finally:
        on(node, "systemctl", "stop", unit)
        on(node, "rm", "-rf", "/run/second")


# The registry


def test_a_registry_that_is_down_at_the_start_is_named_and_nothing_but_the_ca_is_written(
    joined_stack: Deployed, node: str
) -> None:
    cluster = joined_stack.cluster
    scale = ("scale", "deployment/registry", "-n", joined_stack.namespace)
    # On the first node the runtime's configuration would have to be changed, too, and the runtime restarted.
    changed = cluster.nodes[0]
    counts = {name: restarts(name) for name in (changed, node)}
    cluster.kubectl(*scale, "--replicas=0")
    try:
        for name in (changed, node):
            replace_agent(joined_stack, name)
        for name in (changed, node):
            wait_until(
                lambda name=name: "NO_REGISTRY" in cluster.kubectl(
                    "logs", "-n", joined_stack.namespace, agent_on(joined_stack, name), "-c", "agent"
                ),
                f"the agent on {name} says NO_REGISTRY",
                timeout=60,
            )  # fmt: skip
            ours = config_trees(name).keys() - joined_stack.trees_before[name].keys()
            assert {path for path in ours if path.endswith(".crt") and joined_stack.host in path}
            assert not {path for path in ours if path.endswith("toml")}
        before = joined_stack.trees_before[changed]["etc/containerd/config.toml"]
        assert config_trees(changed)["etc/containerd/config.toml"] == before
        assert {name: restarts(name) for name in counts} == counts
    finally:
        cluster.kubectl(*scale, "--replicas=1")


# Nodes


def test_a_taint_keeps_no_agent_away(joined_stack: Deployed, node: str) -> None:
    cluster = joined_stack.cluster
    for effect in ("NoSchedule", "NoExecute"):
        cluster.kubectl("taint", "node", node, f"example.com/test=1:{effect}")
        try:
            replace_agent(joined_stack, node)
            wait_diagnosis(cluster, joined_stack.stack)
        finally:
            cluster.kubectl("taint", "node", node, "example.com/test-")


def test_containerd_that_restarts_during_a_pull_pulls_again(
    joined_stack: Deployed, node: str, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "random").write_bytes(os.urandom(300_000_000))
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        layer.add(tmp_path / "random", "random")
    image = f"{joined_stack.host}/test/interrupted:1"
    joined_stack.crane("push", app_image, image)
    joined_stack.crane(
        "append", "--base", image, "--new_layer", tmp_path / "layer.tar", "--new_tag", image, timeout=300
    )
    joined_stack.start_pods(namespace, image, [node])

    def happened(reason: str) -> bool:
        events = joined_stack.cluster.get("events", "-n", namespace)["items"]
        return any(event["reason"] == reason for event in events)

    wait_until(lambda: happened("Pulling"), "the pull began", timeout=30, interval=0.1)
    on(node, "systemctl", "restart", "containerd")
    assert not happened("Pulled")
    joined_stack.wait_running(namespace, [node], timeout=120)
    wait_diagnosis(joined_stack.cluster, joined_stack.stack)


def test_a_kubelet_that_is_down_is_named_and_the_files_stay(joined_stack: Deployed, node: str) -> None:
    on(node, "systemctl", "stop", "kubelet")
    try:
        wait_reason(joined_stack, node, "NODE_NOT_READY", timeout=120)
        assert joined_stack.trusted(node)
    finally:
        on(node, "systemctl", "start", "kubelet")


def test_a_node_is_proved_again_after_a_reboot(joined_stack: Deployed, node: str) -> None:
    nodes.restart_node(node)
    wait_diagnosis(joined_stack.cluster, joined_stack.stack, timeout=120)
    assert restarts(node) == 1
    for event in joined_stack.cluster.get("events", "-n", joined_stack.namespace)["items"]:
        assert "x509" not in event["message"], "the proof was pulled before the agent was ready"


def test_a_node_whose_etc_containerd_is_empty_at_each_boot_is_proved_again(joined_stack: Deployed, node: str) -> None:
    on(node, "cp", "/etc/containerd/config.toml", "/opt/config.toml")
    fstab = path_on(node, "/etc/fstab")
    old = fstab.read_text() if fstab.exists() else None
    fstab.write_text(f"{old or ''}tmpfs /etc/containerd tmpfs defaults 0 0\n")
    rule = path_on(node, "/etc/tmpfiles.d/containerd-config.conf")
    rule.write_text("C /etc/containerd/config.toml 0644 root root - /opt/config.toml\n")
    try:
        nodes.restart_node(node)
        assert "tmpfs" in on(node, "findmnt", "--noheadings", "--output=FSTYPE", "/etc/containerd")
        wait_diagnosis(joined_stack.cluster, joined_stack.stack, timeout=120)
        assert joined_stack.trusted(node)
        assert restarts(node) == 1
    finally:
        fstab, rule = path_on(node, "/etc/fstab"), path_on(node, "/etc/tmpfiles.d/containerd-config.conf")
        if old is None:
            fstab.unlink()
        else:
            fstab.write_text(old)
        rule.unlink()
        nodes.restart_node(node)
        on(node, "rm", "/opt/config.toml")


def test_another_owners_host_port_folder_is_used_and_left_behind(
    cluster: Cluster, joined_stack: Deployed, node: str
) -> None:
    with Stack(environment=cluster.environment, settings={"exposure": "nodePort", "storage": "memory"}) as stack:
        stack.up()
        host = stack.outputs()["registryUrl"]
        name, _, port = host.partition(":")
        assert port
        root = joined_stack.hosts_directory(node).parent
        theirs = root / f"{name}_{port}_"
        theirs.mkdir()
        (theirs / "stranger.txt").write_text("ours")
        before = (theirs / "stranger.txt").stat().st_mtime_ns
        wait_until(lambda: len(list(theirs.glob("private-registry*.crt"))) == 1, "our file moved there", timeout=15)
        wait_diagnosis(cluster, stack)
        stack.destroy()
        assert [path.name for path in theirs.iterdir()] == ["stranger.txt"]
        assert (theirs / "stranger.txt").stat().st_mtime_ns == before
        (theirs / "stranger.txt").unlink()
        theirs.rmdir()


@pytest.mark.parametrize("how", ["powered off", "cut off"])
def test_a_node_that_is_down_while_the_stack_is_destroyed_keeps_nothing_but_the_ca_of_a_power_cut(
    cluster: Cluster, joined_node: str, how: str
) -> None:
    before = state(joined_node)
    with Stack(environment=cluster.environment, settings={"readyTimeout": "45s"}) as stack:
        stack.up()
        outputs = stack.outputs()
        namespace, host = outputs["namespace"], outputs["registryUrl"]
        if how == "powered off":
            nodes.stop([joined_node])
        else:
            cgroups.kill(joined_node)
        try:
            began = time.monotonic()
            failed = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
            assert failed.returncode != 0
            assert "foregroundDeletion" in failed.stdout + failed.stderr
            assert time.monotonic() - began < 75
        finally:
            nodes.restart_node(joined_node)
        stack.destroy()
        gone = ("kubectl", "get", "namespace", namespace)
        wait_until(lambda: cluster.run(*gone, check=False).returncode != 0, "the namespace is gone", timeout=60)
    left = {path.removesuffix("/.") for path in changes(before, state(joined_node))}
    if how == "powered off":
        assert not left
        return
    # A kubelet that comes back does not start a pod again that is being deleted; so what the stack had there stays,
    # until the agent of another stack has missed its pod for ten minutes.
    innermost = {path for path in left if not any(other.startswith(f"{path}/") for other in left)}
    assert innermost
    assert not {path for path in innermost if namespace not in path and host not in path}
    for path in sorted(left, reverse=True):  # what is in a folder before the folder
        real = path_on(joined_node, path)
        real.rmdir() if real.is_dir() else real.unlink()
    assert state(joined_node) == before
