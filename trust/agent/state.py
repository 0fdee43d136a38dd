"""What the agents of a node remember: who owns what and, until the node reboots, what the running runtime has read."""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from .faults import Fault, Reason
from .files import Tree

OWNERS = "/var/lib/private-registry-trust"
"""One `<owner>.json` for each stack, and one `config-*` for each changed configuration file."""
RUNNING = "/run/private-registry-trust"
"""The lock, and facts about running processes. It is empty after a boot."""
_MEMORY = f"{RUNNING}/runtime.json"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
"""A runtime's configuration may hold passwords, and its original text is kept in these folders."""

Process = list[Any]
"""A `node.Identity` as a JSON list."""
Key = list[Any]
"""`[key path, value]`: one string in the runtime's configuration."""


@dataclass
class Ownership:
    """What one owner has on this node. It is saved before the first file is written."""

    owner: str
    host: str
    pod: str
    """Uid of the pod that is responsible for these files. A younger pod writes its own uid here, and from then on the
    older one leaves the files alone as long as that one runs."""
    files: dict[str, str] = field(default_factory=dict[str, str])
    """SHA-256 of each file that we wrote, by path."""
    folders: list[str] = field(default_factory=list[str])
    """Folders that we made. Each is removed once it is empty."""
    before: list[str] = field(default_factory=list[str])
    """Uids of the pods whose files for other hosts are still among these."""


@dataclass
class ConfigChange:
    """A change of a runtime's configuration file: the file's original text, and the key that each owner needs in it."""

    file: str
    original: str | None
    """The text before the first owner's change; None if there was no file."""
    new_file: str
    """The text that stands in for the original if there was no file."""
    keys: dict[str, Key] = field(default_factory=dict[str, "Key"])
    """The key and value of each owner, by owner. It is empty only between the last two steps of the last removal."""
    written: str = ""
    """SHA-256 of the file as we wrote it, or were about to: this is saved before the file is written."""
    replaced: str = ""
    """SHA-256 of the file that was there before that. If the agent was killed in between, it is there still."""
    process: Process = field(default_factory=list[Any])
    """The runtime process at the moment of our write. It still has the old configuration; any later process has read
    ours."""


@dataclass
class RuntimeMemory:
    """What the running runtime has read, and which restarts were done for which content of the configuration."""

    process: Process = field(default_factory=list[Any])
    """The process that the next three are about."""
    loaded: list[Key] = field(default_factory=list["Key"])
    """The keys that this process has read."""
    roots: list[str] = field(default_factory=list[str])
    """The hosts directories that this process reads."""
    read: str = ""
    """Fingerprint of the configuration that this process has read, see `runtime_contract.Plan`; empty: not known."""
    armed: str = ""
    """The owner for whose change systemd may have a timer that takes the change back; empty: it has none. Such a timer
    ends with the boot, as this file does."""
    restarted: dict[str, Process] = field(default_factory=dict[str, "Process"])
    """For each content (SHA-256): the process that we restarted to load it. If another process runs now and the content
    is missing again, something reverts the file: do not restart in a loop."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """For each content (SHA-256) with which the runtime did not start: the sentence that says why."""


_Kind = TypeVar("_Kind", Ownership, ConfigChange, RuntimeMemory)


class State:
    """The memory on one node. Hold `lock` while you call any other method."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    @contextlib.contextmanager
    def lock(self, seconds: float) -> Generator[bool]:
        """Hold the node-wide lock of all agents; yields False if another one kept it for `seconds`."""
        self._tree.make_folders(RUNNING, FOLDER_MODE)
        descriptor = self._tree.open(f"{RUNNING}/lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            yield _flock(descriptor, time.monotonic() + seconds)
        finally:
            os.close(descriptor)

    def ownership(self, owner: str) -> Ownership | None:
        """What an owner has on this node."""
        return self._load(Ownership, f"{OWNERS}/{owner}.json")

    def ownerships(self) -> dict[str, Ownership]:
        """What each owner has on this node, by owner."""
        found = (self._load(Ownership, path) for path in self._tree.glob(f"{OWNERS}/*.json"))
        return {ownership.owner: ownership for ownership in found if ownership}

    def save_ownership(self, ownership: Ownership) -> None:
        """Save what an owner has; nothing is written if that is saved already."""
        self._save(f"{OWNERS}/{ownership.owner}.json", ownership)

    def drop_ownership(self, owner: str) -> None:
        """Forget an owner, the last step of its removal. The last owner removes the folder and any temporary files."""
        self._tree.remove(f"{OWNERS}/{owner}.json")
        self._tree.remove_temporaries(OWNERS)
        self._tree.remove_folder(OWNERS)

    def changes(self, *, damaged: bool = False) -> dict[str, ConfigChange]:
        """The changed configuration files, by path. There are none while no owner needs one changed.

        A record that is damaged raises Fault CONFIG_INVALID, or is left out if `damaged` records may be: without it
        nobody knows what the file was, and taking the file that is there for the original would keep our key for ever.
        """
        found: dict[str, ConfigChange] = {}
        for path in self._tree.glob(f"{OWNERS}/config-*"):
            text = (self._tree.read(path) or b"").decode(errors="replace")
            checksum, _, rest = text.partition("\n")
            change = _parsed(ConfigChange, rest) if checksum == _checksum(rest) else None
            if change:
                found[change.file] = change
            elif not damaged:
                raise Fault(
                    Reason.CONFIG_INVALID,
                    f"{path}, which says what the container runtime's configuration was before our change, is damaged; "
                    "take our key out of that configuration by hand if it is there, and remove this file.",
                    path=path,
                )
        return found

    def save_change(self, change: ConfigChange) -> None:
        """Save a change."""
        text = _text(change)
        self._write(_path_of(change), f"{_checksum(text)}\n{text}")

    def drop_change(self, change: ConfigChange) -> None:
        """Forget a change that no owner needs any more."""
        self._tree.remove(_path_of(change))

    def runtime_memory(self) -> RuntimeMemory:
        """What is known about the running runtime; nothing is after a reboot."""
        return self._load(RuntimeMemory, _MEMORY) or RuntimeMemory()

    def save_runtime_memory(self, memory: RuntimeMemory) -> None:
        """Save it; nothing is written if that is saved already."""
        self._save(_MEMORY, memory)

    def _load(self, kind: type[_Kind], path: str) -> _Kind | None:
        """Load a file; None if it is missing or broken."""
        return _parsed(kind, (self._tree.read(path) or b"").decode(errors="replace"))

    def _save(self, path: str, value: Ownership | RuntimeMemory) -> None:
        self._write(path, _text(value))

    def _write(self, path: str, text: str) -> None:
        self._tree.make_folders(path.rpartition("/")[0], FOLDER_MODE)
        self._tree.write(path, text.encode(), FILE_MODE)


def _path_of(change: ConfigChange) -> str:
    return f"{OWNERS}/config-{hashlib.sha256(change.file.encode()).hexdigest()[:8]}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(value: Ownership | ConfigChange | RuntimeMemory) -> str:
    return json.dumps(asdict(value), indent=1)


def _parsed(kind: type[_Kind], text: str) -> _Kind | None:
    """The value in a JSON text; None if it is broken. Fields that another version of the agent wrote are ignored."""
    known = {item.name for item in fields(kind)}
    try:
        found: dict[str, Any] = json.loads(text)
        return kind(**{key: value for key, value in found.items() if key in known})
    except (ValueError, TypeError, AttributeError):
        return None


def _flock(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
