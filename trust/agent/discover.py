"""Finds the container runtime that the kubelet uses: from the kubelet to its socket, from the socket to the process.

Nothing is assumed about the distribution, since more than one container runtime may run on a node.
"""

import os
import re
from collections.abc import Sequence

from .faults import Fault, Reason
from .files import Tree
from .node import Node, Runtime, option

KNOWN_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k3s/cri-dockerd/cri-dockerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
)
"""Sockets of distributions that build the kubelet into another program."""

_LISTENING = 0x10000  # __SO_ACCEPTCON in the Flags column of /proc/net/unix, see proc(5)


def runtime(node: Node) -> Runtime:
    """Find the runtime that the kubelet uses. Raises Fault RUNTIME_UNKNOWN if there is none, or it does not answer."""
    if node.link(node.own_pid, "ns/pid") != node.link(1, "ns/pid") or node.own_pid == 1:
        raise Fault(Reason.RUNTIME_UNKNOWN, "The agent does not see the node's processes; its pod needs hostPID: true.")
    wanted = _sockets(node)
    listening = _listening(node)
    for path in wanted:
        inodes = listening.get(node.tree.real(path), set())
        holder = _holder(node, inodes)
        process = node.identity(holder) if holder else None
        if holder is None or process is None:
            continue
        try:
            name, version = node.version(node.tree.outside(path))
        except OSError as error:
            sentence = f"The runtime on {path} does not answer the CRI call Version ({error}); check its service."
            raise Fault(Reason.RUNTIME_UNKNOWN, sentence, path=path, error=str(error)) from error
        return Runtime(name, version, process, tuple(node.arguments(holder)), path)
    raise Fault(
        Reason.RUNTIME_UNKNOWN,
        f"No process listens on {' or '.join(wanted)}, where the kubelet expects its container runtime; start it.",
    )


def _sockets(node: Node) -> list[str]:
    """Paths at which the CRI socket may be, the most certain first."""
    for pid in node.pids():
        arguments = node.arguments(pid)
        if os.path.basename(arguments[0]) == "kubelet" and node.link(pid, "ns/pid") == node.link(1, "ns/pid"):
            endpoint = option(arguments, "container-runtime-endpoint")
            endpoint = endpoint or _from_kubelet_config(node.view(pid), arguments)
            return [_path(endpoint or KNOWN_SOCKETS[0])]
    # K3s, MicroK8s and others run the kubelet inside another program. The shim that started this container has the
    # runtime's address among its arguments as well.
    parent = node.text(node.own_pid, "stat").rpartition(")")[2].split()[1:2]
    arguments = node.arguments(int(parent[0])) if parent else []
    address = option(arguments, "address")
    if address and option(arguments, "namespace") != "moby":
        return [_path(address)]
    return list(KNOWN_SOCKETS)


def _from_kubelet_config(tree: Tree, arguments: Sequence[str]) -> str | None:
    """`containerRuntimeEndpoint` of the kubelet's YAML or JSON file and its drop-ins, of which the last one counts."""
    folder = option(arguments, "config-dir")
    paths = [option(arguments, "config"), *(tree.glob(f"{folder}/*.conf") if folder else [])]
    found = None
    for text in ((tree.read(path) or b"").decode(errors="replace") for path in paths if path):
        key = re.search(r"""^[\s{"']*containerRuntimeEndpoint["']?\s*:\s*["']?([^\s"'#,}]+)""", text, re.MULTILINE)
        key = key or re.search(r"""["']containerRuntimeEndpoint["']\s*:\s*["']([^"']+)""", text)
        found = key[1] if key else found
    return found


def _path(endpoint: str) -> str:
    return endpoint.removeprefix("unix://")


def _listening(node: Node) -> dict[str, set[str]]:
    """Inodes of the listening Unix sockets, by path with all links followed."""
    found: dict[str, set[str]] = {}
    for line in node.text(1, "net/unix").splitlines()[1:]:
        columns = line.split(maxsplit=7)
        if len(columns) == 8 and int(columns[3], 16) & _LISTENING and columns[7].startswith("/"):
            found.setdefault(node.tree.real(columns[7]), set()).add(columns[6])
    return found


def _holder(node: Node, inodes: set[str]) -> int | None:
    """The process that serves a socket. Process 1 is tried last, since it may hold a socket to start its service."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in sorted(node.pids(), key=lambda pid: (pid == 1, pid)):
        folder = node.proc / str(pid) / "fd"
        try:
            if any(node.link(pid, f"fd/{name}") in wanted for name in os.listdir(folder)):
                return pid
        except OSError:
            continue  # the process is gone, or we may not look at it
    return None
