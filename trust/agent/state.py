"""What the agents of a node remember: who owns what, and, until the node reboots, what the running runtime has read."""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from .files import Tree

OWNERS = "/var/lib/private-registry-trust"
"""One `<owner>.json` for each stack, and one `config-*` for each changed configuration file."""
RUNNING = "/run/private-registry-trust"
"""Lock and facts about running processes."""
_NOTE = f"{RUNNING}/runtime.json"

Process = list[Any]
"""A `discover.Identity` as JSON has it."""
Key = list[Any]
"""`[key path, value]`: one string in the runtime's configuration."""


@dataclass
class Marker:
    """What one owner has on this node; written before the first file is."""

    owner: str
    host: str
    pod: str
    """Uid of the pod that answers for these files; a younger pod writes its own, the older one then leaves them."""
    files: dict[str, str] = field(default_factory=dict[str, str])
    """SHA-256 by path."""
    folders: list[str] = field(default_factory=list[str])
    """Folders that were not there before; they go when they are empty."""


@dataclass
class ConfigChange:
    """A runtime's configuration file that owners need changed: original, and the keys of each owner."""

    file: str
    original: str | None
    """Text before the first owner came; None if there was no file."""
    new_file: str
    """What stands in for an original that was not there."""
    keys: dict[str, Key] = field(default_factory=dict[str, "Key"])
    """By owner."""
    written: str = ""
    """SHA-256 of the file as we wrote it."""
    process: Process = field(default_factory=list[Any])
    """The runtime process that ran when we wrote it, hence has not read it."""


@dataclass
class Note:
    """Which process has read which keys, and which restarts were done or failed, by SHA-256 of the configuration."""

    process: Process = field(default_factory=list[Any])
    loaded: list[Key] = field(default_factory=list["Key"])
    restarted: dict[str, Process] = field(default_factory=dict[str, "Process"])
    """The process that was to be replaced."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """What went wrong."""


_Kind = TypeVar("_Kind", Marker, ConfigChange, Note)


class State:
    """The memory on one node. All but `lock` needs the lock."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    @contextlib.contextmanager
    def lock(self, seconds: float) -> Generator[bool]:
        """Hold the node-wide lock of all agents; yields False if another one kept it for `seconds`."""
        self._tree.make_folders(RUNNING)
        descriptor = os.open(self._tree.outside(f"{RUNNING}/lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _flock(descriptor, time.monotonic() + seconds)
        finally:
            os.close(descriptor)

    def markers(self) -> dict[str, Marker]:
        """By owner."""
        found = (self._load(Marker, path) for path in self._tree.glob(f"{OWNERS}/*.json"))
        return {marker.owner: marker for marker in found if marker}

    def save_marker(self, marker: Marker) -> None:
        """Idempotent."""
        self._save(f"{OWNERS}/{marker.owner}.json", marker)

    def drop_marker(self, owner: str) -> None:
        """The last step of leaving; the last owner takes the folder along, with what a killed agent left in it."""
        self._tree.remove(f"{OWNERS}/{owner}.json")
        self._tree.remove_temporaries(OWNERS)
        self._tree.remove_folder(OWNERS)

    def changes(self) -> dict[str, ConfigChange]:
        """By file; empty while no owner needs a configuration changed."""
        found = (self._load(ConfigChange, path) for path in self._tree.glob(f"{OWNERS}/config-*"))
        return {change.file: change for change in found if change}

    def save_change(self, change: ConfigChange) -> None:
        """Idempotent; a change without owners is forgotten."""
        path = f"{OWNERS}/config-{hashlib.sha256(change.file.encode()).hexdigest()[:8]}"
        if change.keys:
            self._save(path, change)
        else:
            self._tree.remove(path)

    def note(self) -> Note:
        """Empty after a reboot."""
        return self._load(Note, _NOTE) or Note()

    def save_note(self, note: Note) -> None:
        """Idempotent."""
        self._save(_NOTE, note)

    def _load(self, kind: type[_Kind], path: str) -> _Kind | None:
        """None if there is nothing, or no sense in it; keys of another version of the agent are passed over."""
        known = {item.name for item in fields(kind)}
        try:
            found: dict[str, Any] = json.loads(self._tree.read(path) or b"{}")
            return kind(**{key: value for key, value in found.items() if key in known})
        except (ValueError, TypeError, AttributeError):
            return None

    def _save(self, path: str, value: Marker | ConfigChange | Note) -> None:
        self._tree.make_folders(path.rpartition("/")[0])
        self._tree.write(path, json.dumps(asdict(value), indent=1).encode())


def _flock(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
