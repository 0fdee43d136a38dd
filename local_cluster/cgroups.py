"""Every node has a control group in each hierarchy of the machine, which may be of version 1, version 2 or both.

systemd-nspawn is started inside them. So a node sees only its own groups, and all its processes can be found.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError

ROOT = Path("/sys/fs/cgroup")

NAME = "private-registry"
"""Group that holds the nodes' groups."""


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """A mounted cgroup file system."""

    path: Path
    version: int
    """1 or 2."""
    options: frozenset[str]
    """Super block options; in version 1 they hold the names of its controllers."""


def hierarchies() -> list[Hierarchy]:
    """Return the hierarchies that are mounted under /sys/fs/cgroup."""
    return parse(Path("/proc/self/mountinfo").read_text())


def parse(mountinfo: str) -> list[Hierarchy]:
    """Return the hierarchies in the text of a mountinfo file, proc_pid_mountinfo(5)."""
    versions = {"cgroup": 1, "cgroup2": 2}
    found: dict[Path, Hierarchy] = {}
    for line in mountinfo.splitlines():
        mount, _, file_system = line.partition(" - ")
        kind, _, options = file_system.split(" ", 2)
        path = Path(mount.split(" ")[4])
        if kind in versions and path.is_relative_to(ROOT):
            found[path] = Hierarchy(path=path, version=versions[kind], options=frozenset(options.split(",")))
    return list(found.values())


def create(node: str) -> list[Path]:
    """Make the node's group in every hierarchy; return the files that a process writes its id to in order to join."""
    joins: list[Path] = []
    for hierarchy in hierarchies():
        parent = hierarchy.path / NAME
        group = parent / node
        parent.mkdir(exist_ok=True)
        if hierarchy.path == ROOT:  # The machine has version 2 alone, so this hierarchy has all controllers.
            _delegate(hierarchy.path, parent)
        _inherit_processors(hierarchy, parent)
        group.mkdir(exist_ok=True)
        _inherit_processors(hierarchy, group)
        joins.append(group / "cgroup.procs")
    if not joins:
        raise ClusterError(f"no cgroup hierarchy is mounted under {ROOT}, so no node can be started: mount it")
    return joins


def _delegate(*groups: Path) -> None:
    """Let the children of these groups use every controller that the groups have."""
    for group in groups:
        controllers = (group / "cgroup.controllers").read_text().split()
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def _inherit_processors(hierarchy: Hierarchy, group: Path) -> None:
    """Give a group of version 1 the processors and memory of its parent: it accepts no process without them."""
    if hierarchy.version == 1 and "cpuset" in hierarchy.options:
        (group / "cgroup.clone_children").write_text("1")
        for name in ("cpuset.cpus", "cpuset.mems"):
            (group / name).write_text((group.parent / name).read_text())


def processes(node: str) -> set[int]:
    """Return the ids of all processes of a node."""
    return {
        int(pid)
        for hierarchy in hierarchies()
        for group in _tree(hierarchy.path / NAME / node)
        for pid in _read(group / "cgroup.procs").split()
    }


def kill(node: str, *, seconds: float = 10) -> None:
    """Kill all processes of a node and wait for their end.

    Raises:
        ClusterError: Some are left when the time is up.
    """
    deadline = time.monotonic() + seconds
    while left := processes(node):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes of {node} do not end, not even killed: {sorted(left)}")
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)


def remove(node: str) -> None:
    """Remove the groups of a node, which has no process any more, and the group that held it if it was the last."""
    for hierarchy in hierarchies():
        for group in reversed(_tree(hierarchy.path / NAME / node)):
            group.rmdir()
        parent = hierarchy.path / NAME
        if parent.exists() and not any(path.is_dir() for path in parent.iterdir()):
            parent.rmdir()


def nodes() -> set[str]:
    """Return the names of the nodes that have a group."""
    parents = (hierarchy.path / NAME for hierarchy in hierarchies())
    return {path.name for parent in parents if parent.exists() for path in parent.iterdir() if path.is_dir()}


def _tree(group: Path) -> list[Path]:
    """Return a group and those below it, parents first."""
    return [Path(folder) for folder, _, _ in os.walk(group)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # The group has been removed since it was listed.
        return ""
