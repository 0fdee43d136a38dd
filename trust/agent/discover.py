"""Finds the container runtime that the kubelet uses: from the kubelet to its socket, from the socket to the process.

Nothing is assumed about the distribution, since more than one container runtime may run on a node.
"""

import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from .faults import Fault, Reason
from .files import Tree
from .node import Node, Runtime, option

_CRIO = ("/run/crio/crio.sock",)
_CRI_DOCKERD = ("/run/k3s/cri-dockerd/cri-dockerd.sock", "/run/cri-dockerd.sock")
KNOWN_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    *_CRIO,
    *_CRI_DOCKERD,
)
"""Sockets of distributions that build the kubelet into another program."""

_KEY = "containerRuntimeEndpoint"
_LISTENING = 0x10000  # __SO_ACCEPTCON in the Flags column of /proc/net/unix, see proc(5)


def runtime(node: Node) -> Runtime:
    """Find the runtime that the kubelet uses. Raises Fault RUNTIME_UNKNOWN if there is none, or it does not answer."""
    if node.link(node.own_pid, "ns/pid") != node.link(1, "ns/pid") or node.own_pid == 1:
        raise Fault(Reason.RUNTIME_UNKNOWN, "The agent does not see the node's processes; its pod needs hostPID: true.")
    wanted, silent, problems = _sockets(node), list[str](), list[Fault]()
    for path in wanted:
        found = None
        try:
            with node.tree.opened(path) as socket:
                found = _behind(node, path, socket)
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        except OSError as error:
            sentence = f"The socket {path} cannot be asked who listens ({error}); check its service."
            problems.append(Fault(Reason.RUNTIME_UNKNOWN, sentence, path=path, error=str(error)))
            continue
        except Fault as fault:  # what listens there need not be the kubelet's runtime, as long as there are others
            problems.append(fault)
            continue
        if found:
            return found
        silent.append(path)
    sentences = [fault.sentence for fault in problems]
    if silent:
        expects = "where the kubelet expects its container runtime; start it."
        sentences.append(f"No process listens on {' or '.join(silent)}, {expects}")
    raise Fault(Reason.RUNTIME_UNKNOWN, " ".join(sentences), **(problems[0].details if problems else {}))


def server_of(node: Node, path: str, socket: str) -> int | None:
    """The process that serves the socket at `path`, which this process finds at `socket`; None if there is none."""
    pid = node.listener(socket)
    if pid == 1 or node.identity(pid) is None:  # systemd listens for a service that it starts with the socket
        return _holder(node, path)
    return pid


def _behind(node: Node, path: str, socket: str) -> Runtime | None:
    """The runtime behind the socket at `path`, which this process finds at `socket`; None if its process is gone.

    Raises Fault RUNTIME_UNKNOWN if it is not root's or does not serve CRI.
    """
    pid = server_of(node, path, socket)
    process = node.identity(pid) if pid else None
    if pid is None or process is None:
        return None
    if not node.is_roots(pid):
        raise Fault(
            Reason.RUNTIME_UNKNOWN,
            f"Process {pid}, which listens on {path}, does not run as root ({' '.join(node.arguments(pid))}), and the "
            "agent follows root's processes only; make sure that the kubelet's container runtime listens there.",
            path=path,
        )
    try:
        name, version = node.version(socket)
    except OSError as error:
        sentence = f"The runtime on {path} does not answer the CRI call Version ({error}); check its service."
        raise Fault(Reason.RUNTIME_UNKNOWN, sentence, path=path, error=str(error)) from error
    return Runtime(name, version, process, tuple(node.arguments(pid)), path)


def _sockets(node: Node) -> list[str]:
    """Paths at which the CRI socket may be, the most certain first."""
    for pid in node.pids():
        arguments = node.arguments(pid)
        if os.path.basename(arguments[0]) == "kubelet" and _belongs_to_the_node(node, pid):
            endpoint = option(arguments, "container-runtime-endpoint")
            endpoint = endpoint or _from_kubelet_config(node.view(pid), arguments)
            return [_path(endpoint or KNOWN_SOCKETS[0])]
    # K3s, MicroK8s and others run the kubelet inside another program; that of K3s hides its arguments from everybody.
    # What started this container tells the runtime: containerd's shim has the address among its arguments, CRI-O starts
    # conmon. Docker's containerd has a namespace of its own, and whatever CRI it serves, no kubelet pulls there.
    parent = node.text(node.own_pid, "stat").rpartition(")")[2].split()[1:2]
    arguments = node.arguments(int(parent[0])) if parent else [""]
    if os.path.basename(arguments[0]) in ("conmon", "conmonrs"):
        return [*_CRIO]
    if option(arguments, "namespace") == "moby":
        return [*_CRI_DOCKERD]
    address = option(arguments, "address")
    return [_path(address)] if address else [*KNOWN_SOCKETS]


def _from_kubelet_config(tree: Tree, arguments: Sequence[str]) -> str | None:
    """`containerRuntimeEndpoint` of the kubelet's YAML or JSON file and its drop-ins, of which the last one counts."""
    folder = option(arguments, "config-dir")
    paths = [option(arguments, "config"), *(tree.glob(f"{folder}/*.conf") if folder else [])]
    found = None
    for text in ((tree.read(path) or b"").decode(errors="replace") for path in paths if path):
        key = re.search(rf"""^[\s{{"']*{_KEY}["']?[ \t]*:[ \t]*["']?([^\s"'#,}}]*)""", text, re.MULTILINE)
        key = key or re.search(rf"""["']{_KEY}["']\s*:\s*["']?([^\s"',}}]*)""", text)
        found = key[1] if key else found
    return None if found in ("null", "~") else found  # a drop-in that says so takes the default


def _path(endpoint: str) -> str:
    """The path of the socket, as kubelets read it (cri-client's parseEndpoint): a bare path, or an URL."""
    return urlsplit(endpoint).path if endpoint.startswith("unix:") else endpoint


def _belongs_to_the_node(node: Node, pid: int) -> bool:
    """Whether a process is root's, and neither a pod's nor a nested cluster's. Anybody can call a process `kubelet`."""
    namespaces = ("ns/pid", "ns/mnt")
    return node.is_roots(pid) and all(node.link(pid, name) == node.link(1, name) for name in namespaces)


def _holder(node: Node, path: str) -> int | None:
    """The process that serves a socket which systemd has opened at `path`; systemd itself, process 1, is left out."""
    real = node.tree.real(path)
    wanted: set[str] = set()
    for line in node.text(1, "net/unix").splitlines()[1:]:
        columns = line.split(maxsplit=7)
        if len(columns) == 8 and int(columns[3], 16) & _LISTENING and columns[7].startswith("/"):
            wanted |= {f"socket:[{columns[6]}]"} if node.tree.real(columns[7]) == real else set()
    for pid in sorted(set(node.pids()) - {1}):
        try:
            if any(node.link(pid, f"fd/{name}") in wanted for name in os.listdir(node.proc / str(pid) / "fd")):
                return pid
        except OSError:
            continue  # the process is gone, or we may not look at it
    return None
