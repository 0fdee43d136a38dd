"""What the agents of a node remember: who owns what, and, until the node reboots, what the running runtime has read."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import Any

from .files import Tree

OWNERS = "/var/lib/private-registry-trust"
"""One `<owner>.json` for each stack, and `runtime-config` while the runtime's configuration is changed."""
RUNNING = "/run/private-registry-trust"
"""Lock and facts about running processes."""
CONFIG = f"{OWNERS}/runtime-config"
NOTE = f"{RUNNING}/runtime.json"

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
    """Which process has read which change, and which restarts were done or failed, by SHA-256 of the configuration."""

    process: Process = field(default_factory=list[Any])
    loaded: list[Key] = field(default_factory=list["Key"])
    restarted: dict[str, Process] = field(default_factory=dict[str, "Process"])
    """The process that was to be replaced, by configuration."""
    refused: dict[str, str] = field(default_factory=dict[str, str])


class State:
    """The memory on one node, for one owner."""

    def __init__(self, tree: Tree, owner: str) -> None:
        self._tree = tree
        self._path = f"{OWNERS}/{owner}.json"

    @contextlib.contextmanager
    def lock(self, seconds: float) -> Generator[bool]:
        """Hold the node-wide lock of all agents; yields False if another one kept it for `seconds`."""
        self._tree.make_folders(RUNNING)
        descriptor = os.open(self._tree.outside(f"{RUNNING}/lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _flock(descriptor, time.monotonic() + seconds)
        finally:
            os.close(descriptor)

    def marker(self) -> Marker | None:
        """None if this owner has nothing here."""
        found = self._load(self._path)
        return Marker(**found) if found else None

    def others(self) -> list[Marker]:
        """The markers of all other owners."""
        paths = (path for path in self._tree.glob(f"{OWNERS}/*.json") if path != self._path)
        return [Marker(**found) for found in map(self._load, paths) if found]

    def save_marker(self, marker: Marker) -> None:
        """Idempotent."""
        self._save(self._path, marker)

    def drop_marker(self) -> None:
        """The last step of leaving; the last owner takes the folder along."""
        self._tree.remove(self._path)
        self._tree.remove_folder(OWNERS)

    def change(self) -> ConfigChange | None:
        """None while no owner needs the runtime's configuration changed."""
        found = self._load(CONFIG)
        return ConfigChange(**found) if found else None

    def save_change(self, change: ConfigChange) -> None:
        """Idempotent; a change without owners is forgotten."""
        if change.keys:
            self._save(CONFIG, change)
        else:
            self._tree.remove(CONFIG)

    def note(self) -> Note:
        """Empty after a reboot."""
        return Note(**(self._load(NOTE) or {}))

    def save_note(self, note: Note) -> None:
        """Idempotent."""
        self._save(NOTE, note)

    def _load(self, path: str) -> dict[str, Any] | None:
        try:
            return json.loads(self._tree.read(path) or b"null")
        except ValueError:
            return None  # not ours any more; what it said is lost

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
