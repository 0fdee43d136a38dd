"""The one key that some runtimes need in their configuration.

Some containerd versions read a registry's CA only if one key is in their configuration. We set it for each stack,
restart containerd once, and remove it when the stack leaves. The file is always the original text plus one key per
stack. Whether the running process has read a key is decided by process identity (pid, start time, boot), not by time
stamps.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from . import tomledit
from .containerd import config_path
from .faults import Fault, Reason
from .files import TEMPORARY, Tree, read_text
from .host import Host, HostError
from .node import Runtime
from .runtime_contract import Edit
from .state import FILE_MODE, OWNERS, ConfigChange, RuntimeMemory, State

_BACKUP = f"{OWNERS}/.undo{TEMPORARY}"
"""The file as it was, while a restart is under way. The last owner removes it, as its name is a temporary file's."""


@dataclass
class _Wanted:
    """One owner's change of one file: what is there, and what it has to become."""

    tree: Tree
    runtime: Runtime
    owner: str
    edit: Edit
    change: ConfigChange
    """The change with this owner's key in it; its `written` and `process` are still those of the last write."""
    was_known: bool
    """Whether the change had this key before."""
    current: str | None
    """The text that is there; None: there is no file."""
    text: str
    """The text that is wanted."""

    @property
    def digest(self) -> str:
        return _sha(self.text)

    @property
    def key(self) -> list[object]:
        return [list(self.edit.key), self.edit.value]

    @property
    def process(self) -> list[int | str]:
        return list(self.runtime.process)


@dataclass
class RuntimeConfig:
    """Changes the runtime's configuration files. Hold the node's lock while you call any of its methods."""

    host: Host
    state: State
    node_name: str
    restart_allowed: bool
    log: Callable[[str], None]

    def original(self, path: str, text: str | None) -> str | None:
        """What a file with this text would be without the key of any owner."""
        change = self.state.changes().get(path)
        return _without(change, text) if change else text

    def apply(self, tree: Tree, runtime: Runtime, owner: str, edit: Edit, folders: Callable[[str], None]) -> Runtime:
        """Have `edit` in the file and in the running process, with at most one restart for each content of the file.

        `folders` is called with the file's path before folders for it are made. Returns the runtime that runs in the
        end. Raises Fault RESTART_NOT_ALLOWED, RESTART_FAILED or CONFIG_REVERTED, and EditError.
        """
        self.restore(tree, owner, keep=edit.file)
        wanted, memory = self._wanted(tree, runtime, owner, edit), self.state.runtime_memory()
        if wanted.digest in memory.refused:
            raise self._refused(wanted, memory.refused[wanted.digest])
        if self._has_been_read(wanted, memory):
            self._write(wanted, folders)
            return runtime
        unit = self._unit_to_restart(wanted, memory)
        self._write(wanted, folders, unit)
        memory.restarted[wanted.digest] = wanted.process
        self.state.save_runtime_memory(memory)
        return self._restart(wanted, unit, memory)

    def restore(self, tree: Tree, owner: str, keep: str = "") -> None:
        """Take the owner's key out of all files but `keep`.

        A file that nobody else has changed gets its original bytes back once no owner needs a key in it.
        """
        for change in self.state.changes().values():
            if owner not in change.keys or change.file == keep:
                continue
            current, written = read_text(tree, change.file), change.written
            change.original = _without(change, current)
            del change.keys[owner]
            try:
                wanted = _render(change)
            except tomledit.EditError:
                # Somebody has rewritten the file, and the keys of the other owners do not fit in: it stays as it is.
                wanted = current
            if wanted is None:
                tree.remove(change.file)
            elif current is not None:
                tree.write(change.file, wanted.encode())
            change.written = _sha(wanted)
            if change.written != written:
                # We have just reverted the file ourselves, so a later owner that needs the old content is no loop.
                memory = self.state.runtime_memory()
                memory.restarted = {}
                self.state.save_runtime_memory(memory)
            self.state.save_change(change)

    # The steps of `apply`

    def _wanted(self, tree: Tree, runtime: Runtime, owner: str, edit: Edit) -> _Wanted:
        """Put the file's original text and the keys of all owners together. Raises EditError if a key does not fit."""
        current = read_text(tree, edit.file)
        change = self.state.changes().get(edit.file) or ConfigChange(edit.file, current, edit.new_file)
        change.original, change.new_file = _without(change, current), edit.new_file
        key = [list(edit.key), edit.value]
        was_known = key in change.keys.values()
        change.keys[owner] = key
        return _Wanted(tree, runtime, owner, edit, change, was_known, current, _render(change) or "")

    def _has_been_read(self, wanted: _Wanted, memory: RuntimeMemory) -> bool:
        """Whether the running process has read the key. If we learn that only now, it is saved in `memory`."""
        if memory.process == wanted.process and wanted.key in memory.loaded:
            return True
        change = wanted.change
        if not wanted.was_known or _sha(wanted.current) != change.written or change.process == wanted.process:
            return False
        # Another process ran when we changed the file, and the change is still there: this process has read it.
        self._disarm()
        self._remember_loaded(memory, wanted.process, change)
        return True

    def _unit_to_restart(self, wanted: _Wanted, memory: RuntimeMemory) -> str:
        """The runtime's systemd unit, if the runtime may be restarted. Raises Fault if it may not."""
        runtime, edit = wanted.runtime, wanted.edit
        what = (
            f"{runtime.name} {runtime.version} on node {self.node_name} must read {edit.key[-1]} = {edit.value} "
            f"from {edit.file}"
        )
        if not self.restart_allowed:
            raise self._fault(
                wanted,
                Reason.RESTART_NOT_ALLOWED,
                f"{what}, which takes one restart, and the setting runtimeRestart is false; set it to true, or set "
                "this key there.",
            )
        if memory.restarted.get(wanted.digest, wanted.process) != wanted.process:
            raise self._fault(
                wanted,
                Reason.CONFIG_REVERTED,
                f"{what}, and was restarted for that already, but something puts the file back: set this key there.",
            )
        unit, config = self.host.unit(runtime), config_path(runtime)
        if wanted.tree.read(config) is not None:
            self.host.check(runtime, config)
        return unit

    def _write(self, wanted: _Wanted, folders: Callable[[str], None], unit: str = "") -> None:
        """Save the change, then write the file. With `unit`, systemd undoes it if this agent is killed meanwhile."""
        change, tree, file = wanted.change, wanted.tree, wanted.edit.file
        is_new = wanted.current != wanted.text
        if is_new:
            change.process = wanted.process
        change.written = wanted.digest
        folders(file)
        self.state.save_change(change)
        tree.make_folders(file.rpartition("/")[0])
        if unit:
            self._arm(unit, file, wanted.digest, wanted.current if is_new else _without(change, wanted.current))
        tree.write(file, wanted.text.encode())

    def _restart(self, wanted: _Wanted, unit: str, memory: RuntimeMemory) -> Runtime:
        """Restart the runtime. If it does not come back, take the change back and restart it once more."""
        runtime, change = wanted.runtime, wanted.change
        self.log(f"restarting {unit}: {change.file} was changed")
        try:
            restarted = self.host.restart(runtime.process, unit)
        except HostError as error:
            sentence = (
                f"{runtime.name} {runtime.version} on node {self.node_name} did not come back with the changed "
                f"{change.file} ({error}); the file is as it was, and this content is not tried again before the node "
                f"reboots: look at the journal of {unit}."
            )
            memory.refused[change.written] = sentence
            self.state.save_runtime_memory(memory)
            self.restore(wanted.tree, wanted.owner)
            with contextlib.suppress(HostError):
                self.host.restart(runtime.process, unit)
            self._disarm()
            raise self._refused(wanted, sentence) from error
        self._disarm()  # before the memory is saved: with it the restart counts as done, and nobody would disarm
        self._remember_loaded(memory, list(restarted.process), change)
        self.log(f"{unit} restarted, CRI answers")
        return restarted

    def _remember_loaded(self, memory: RuntimeMemory, process: list[int | str], change: ConfigChange) -> None:
        memory.process, memory.loaded = process, list(change.keys.values())
        self.state.save_runtime_memory(memory)

    def _arm(self, unit: str, file: str, written: str, text: str | None) -> None:
        if text is not None:
            self.host.node.tree.write(_BACKUP, text.encode(), FILE_MODE)
        try:
            self.host.arm(unit, file, written, _BACKUP if text is not None else None)
        except HostError as error:
            self.log(f"systemd will not put {file} back should this agent be killed in the next seconds: {error}")

    def _disarm(self) -> None:
        self.host.disarm()
        self.host.node.tree.remove(_BACKUP)

    def _refused(self, wanted: _Wanted, sentence: str) -> Fault:
        return self._fault(wanted, Reason.RESTART_FAILED, sentence)

    def _fault(self, wanted: _Wanted, reason: Reason, sentence: str) -> Fault:
        runtime, edit = wanted.runtime, wanted.edit
        return Fault(
            reason,
            sentence,
            runtime=f"{runtime.name} {runtime.version}",
            path=edit.file,
            key=edit.key[-1],
            value=edit.value,
        )


def _sha(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _render(change: ConfigChange) -> str | None:
    """The file with the keys of all owners; None if it need not exist."""
    if change.original is None and not change.keys:
        return None
    text = change.new_file if change.original is None else change.original
    for key, value in change.keys.values():
        text = tomledit.set_key(text, tuple(key), value)
    return text


def _without(change: ConfigChange, text: str | None) -> str | None:
    """What the file would be without us: its original, or what others have made of it, less our keys."""
    if _sha(text) == change.written:
        return change.original
    for key, _ in change.keys.values():
        with contextlib.suppress(tomledit.EditError):
            text = text and tomledit.unset_key(text, tuple(key), change.original or "")
    return text
