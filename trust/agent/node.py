"""The node as the agent sees it: its processes, its files, and the container runtime that runs on it."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import cri
from .faults import Fault, Reason
from .files import Signature, Tree

POD_UID = "POD_UID"
"""The variable in an agent's environment that holds the uid of its pod."""

Identity = tuple[int, int, str]
"""Process id, start time in clock ticks since boot, boot id. No two processes of a node ever share all three."""


@dataclass(frozen=True)
class Node:
    """Processes and files of the node; tests give it a folder that looks like /proc."""

    proc: Path = Path("/proc")
    own_pid: int = field(default_factory=os.getpid)
    version: Callable[[str], tuple[str, str]] = cri.version
    """Asks for name and version of the runtime behind a socket, see `cri.version`."""
    listener: Callable[[str], int] = cri.listener
    """Asks for the process that listens on a socket, see `cri.listener`."""
    before: Callable[[str, str], None] | None = None
    """Called ahead of every change of a file, see `files.Tree`."""
    met: dict[str, Signature] = field(default_factory=dict[str, Signature])
    """What walks through the node's files have met since it was emptied, see `files.unchanged`."""

    @property
    def tree(self) -> Tree:
        """The node's own file system."""
        return Tree(self.proc / "1/root", self.before, self.met)

    def view(self, pid: int) -> Tree:
        """The file system that a process sees. It is the node's own one, unless the process has its own mounts."""
        if self.link(pid, "ns/mnt") in ("", self.link(1, "ns/mnt")):  # the process is gone, or shares the node's mounts
            return self.tree
        return Tree(self.proc / f"{pid}/root", self.before, self.met)

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
        """Command line of a process. It is empty for kernel threads."""
        return self.text(pid, "cmdline").rstrip("\0").split("\0")

    def is_roots(self, pid: int) -> bool:
        """Whether a process runs as root, and no other user can have started it with arguments of his choice."""
        users = re.search(r"^Uid:(.*)$", self.text(pid, "status"), re.MULTILINE)
        try:
            program = os.stat(self.proc / str(pid) / "exe").st_mode
        except OSError:
            program = 0
        return users is not None and set(users[1].split()) == {"0"} and not program & stat.S_ISUID

    def pids(self) -> Iterator[int]:
        """Ids of all processes of the node."""
        return (int(name) for name in os.listdir(self.proc) if name.isdecimal())

    def pods(self, uids: set[str]) -> set[str]:
        """Those of the pods `uids`, all of them agents', that have a process on this node.

        The process's control group says its pod. A kubelet with `cgroupsPerQOS: false` makes no such groups, so what
        the DaemonSet puts into an agent's environment counts as well.
        """
        groups = "".join(self.text(pid, "cgroup") for pid in self.pids()).replace("_", "-")  # systemd writes - as _
        found = {uid for uid in uids if uid in groups}
        for pid in self.pids() if uids - found else ():
            environment = self.text(pid, "environ").split("\0")
            found |= {uid for uid in uids if f"{POD_UID}={uid}" in environment}
        return found

    def started(self, process: Identity) -> float:
        """When a process was started, in seconds since the epoch by the clock as it is set now; 0 if nothing tells."""
        boot = re.search(r"^btime (\d+)$", self.text("stat", ""), re.MULTILINE)
        return int(boot[1]) + process[1] / os.sysconf("SC_CLK_TCK") if boot else 0

    def identity(self, pid: int) -> Identity | None:
        """The identity of the process that has this id now, None if there is none."""
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
            raise Fault(Reason.RUNTIME_UNKNOWN, sentence, runtime=f"{self.name} {self.version}")
        return int(found[1]), int(found[2])


def option(arguments: Sequence[str], *names: str) -> str | None:
    """Value of the last of `names` on a command line, given as `--name value`, `--name=value` or with one dash."""
    value = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, given = argument.partition("=")
        if argument.startswith("-") and name.lstrip("-") in names:
            value = given if equals else following
    return value
