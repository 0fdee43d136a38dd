"""Which container runtime does the kubelet use: never assumed, followed from the kubelet to the process."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import cri
from .faults import Fault, Reason
from .files import Tree

KNOWN_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k3s/cri-dockerd/cri-dockerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
)
"""Where distributions that build the kubelet into another program put the socket."""

_LISTENING = 0x10000  # __SO_ACCEPTCON in the Flags column of /proc/net/unix, see proc(5)

Identity = tuple[int, int, str]
"""Process id, start time in clock ticks since boot, boot id: never the same for two processes."""


@dataclass(frozen=True)
class Node:
    """The node as the agent sees it; tests give it a folder that looks like /proc."""

    proc: Path = Path("/proc")
    own_pid: int = field(default_factory=os.getpid)
    version: Callable[[str], tuple[str, str]] = cri.version
    """Name and version of the runtime behind a socket, see `cri.version`."""
    before: Callable[[str, str], None] | None = None
    """Called ahead of every change of a file, see `files.Tree`."""

    @property
    def tree(self) -> Tree:
        """The node's own file system."""
        return Tree(self.proc / "1/root", self.before)

    def view(self, pid: int) -> Tree:
        """The file system that a process sees: the node's own one unless it has a mount namespace of its own."""
        if self.link(pid, "ns/mnt") in ("", self.link(1, "ns/mnt")):  # gone, or the common case
            return self.tree
        return Tree(self.proc / f"{pid}/root", self.before)

    def link(self, pid: int, name: str) -> str:
        """Target of a link below /proc/<pid>, empty if the process is gone."""
        try:
            return os.readlink(self.proc / str(pid) / name)
        except OSError:
            return ""

    def text(self, pid: int | str, name: str) -> str:
        """Content of a file below /proc/<pid>, empty if the process is gone."""
        try:
            return (self.proc / str(pid) / name).read_text(errors="replace")
        except OSError:
            return ""

    def arguments(self, pid: int) -> list[str]:
        """Command line of a process; empty for kernel threads."""
        return self.text(pid, "cmdline").rstrip("\0").split("\0")

    def pids(self) -> Iterator[int]:
        """All processes in view."""
        return (int(name) for name in os.listdir(self.proc) if name.isdecimal())

    def pods(self, uids: set[str]) -> set[str]:
        """Those pods of `uids` that have a process on this node, be it only the one that holds their namespaces."""
        groups = "".join(self.text(pid, "cgroup") for pid in self.pids()).replace("_", "-")  # systemd's spelling
        return {uid for uid in uids if uid in groups}

    def identity(self, pid: int) -> Identity | None:
        """None if the process is gone."""
        after_name = self.text(pid, "stat").rpartition(")")[2].split()
        boot = (self.tree.read("/proc/sys/kernel/random/boot_id") or b"").decode().strip()
        return (pid, int(after_name[19]), boot) if len(after_name) > 19 else None


@dataclass(frozen=True)
class Runtime:
    """The running container runtime."""

    name: str
    """`containerd`, `cri-o` or `docker`, as CRI calls it."""
    version: str
    process: Identity
    arguments: tuple[str, ...]
    socket: str

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version. Raises Fault RUNTIME_UNKNOWN if the version says neither."""
        found = re.search(r"(\d+)\.(\d+)", self.version)
        if not found:
            sentence = f"{self.name} calls its version {self.version!r}; expected a number such as 1.7.24."
            raise Fault(Reason.RUNTIME_UNKNOWN, sentence)
        return int(found[1]), int(found[2])

    @property
    def config(self) -> str:
        """Path of the file that containerd reads, which need not be there."""
        return option(self.arguments, "c", "config") or "/etc/containerd/config.toml"


def runtime(node: Node) -> Runtime:
    """Find the runtime that the kubelet uses. Raises Fault RUNTIME_UNKNOWN."""
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
            raise Fault(
                Reason.RUNTIME_UNKNOWN,
                f"The runtime on {path} does not answer the CRI call Version ({error}); check its service.",
            ) from error
        return Runtime(name, version, process, tuple(node.arguments(holder)), path)
    raise Fault(
        Reason.RUNTIME_UNKNOWN,
        f"No process listens on {' or '.join(wanted)}, where the kubelet expects its container runtime; start it.",
    )


def option(arguments: Sequence[str], *names: str) -> str | None:
    """Value of the last of `names` on a command line, given as `--name value`, `--name=value` or with one dash."""
    value = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, given = argument.partition("=")
        if argument.startswith("-") and name.lstrip("-") in names:
            value = given if equals else following
    return value


def _sockets(node: Node) -> list[str]:
    """Paths of the CRI socket, surest first."""
    for pid in node.pids():
        arguments = node.arguments(pid)
        if os.path.basename(arguments[0]) == "kubelet" and node.link(pid, "ns/pid") == node.link(1, "ns/pid"):
            endpoint = option(arguments, "container-runtime-endpoint")
            endpoint = endpoint or _from_kubelet_config(node.view(pid), arguments)
            return [_path(endpoint or KNOWN_SOCKETS[0])]
    # k3s, MicroK8s and others run the kubelet inside another program; the shim that started this container knows, too.
    parent = node.text(node.own_pid, "stat").rpartition(")")[2].split()[1:2]
    arguments = node.arguments(int(parent[0])) if parent else []
    address = option(arguments, "address")
    if address and option(arguments, "namespace") != "moby":
        return [_path(address)]
    return list(KNOWN_SOCKETS)


def _from_kubelet_config(tree: Tree, arguments: Sequence[str]) -> str | None:
    """`containerRuntimeEndpoint` of the kubelet's YAML or JSON file and drop-ins; the last one counts."""
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
    """Inodes of listening sockets by path, links followed."""
    found: dict[str, set[str]] = {}
    for line in node.text(1, "net/unix").splitlines()[1:]:
        columns = line.split(maxsplit=7)
        if len(columns) == 8 and int(columns[3], 16) & _LISTENING and columns[7].startswith("/"):
            found.setdefault(node.tree.real(columns[7]), set()).add(columns[6])
    return found


def _holder(node: Node, inodes: set[str]) -> int | None:
    """The process that serves a socket; the init system may hold it as well, to start the runtime on demand."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in sorted(node.pids(), key=lambda pid: (pid == 1, pid)):
        folder = node.proc / str(pid) / "fd"
        try:
            if any(node.link(pid, f"fd/{name}") in wanted for name in os.listdir(folder)):
                return pid
        except OSError:
            continue  # gone, or not ours to see
    return None
