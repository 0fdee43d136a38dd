"""The one key that some runtimes need in their configuration: put in for each owner, read by one restart, taken out.

The file is always what it was before the first owner came plus the keys of the owners that are there. Which process has
read which keys is known without clocks: a process is never the same as the one that ran when the file was written.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from . import restart, tomledit
from .containerd import Edit
from .discover import Node, Runtime
from .faults import Fault, Reason
from .files import TEMPORARY, Tree
from .state import OWNERS, ConfigChange, Note, State

_BACKUP = f"{OWNERS}/.undo{TEMPORARY}"
"""The file as it was, while a restart is under way; named so that the last owner takes it along."""


@dataclass
class RuntimeConfig:
    """All of its methods need the node's lock."""

    node: Node
    state: State
    node_name: str
    restart_allowed: bool
    systemctl: restart.Systemctl
    pause: Callable[[float], None]
    """Waits some seconds; raises Stopped if the pod is to end."""
    log: Callable[[str], None]

    def original(self, path: str, text: str | None) -> str | None:
        """What a file with this text would be without any owner."""
        change = self.state.changes().get(path)
        return _without(change, text) if change else text

    def apply(self, tree: Tree, runtime: Runtime, owner: str, edit: Edit, folders: Callable[[str], None]) -> Runtime:
        """Have `edit` in the file and in the running process, with at most one restart for each content of the file.

        `folders` is told about the file before folders for it are made. Returns the runtime that runs in the end.
        Raises Fault: RESTART_NOT_ALLOWED, RESTART_FAILED or CONFIG_REVERTED, and EditError.
        """
        self.restore(tree, owner, keep=edit.file)
        mine, process = [list(edit.key), edit.value], list(runtime.process)
        note, current = self.state.note(), read_text(tree, edit.file)
        change = self.state.changes().get(edit.file) or ConfigChange(edit.file, current, edit.new_file)
        change.original, change.new_file = _without(change, current), edit.new_file
        known = mine in change.keys.values()
        change.keys[owner] = mine
        wanted = _render(change) or ""
        digest = _sha(wanted)
        if digest in note.refused:
            raise Fault(Reason.RESTART_FAILED, note.refused[digest])
        loaded = note.process == process and mine in note.loaded
        if not loaded and known and _sha(current) == change.written and change.process != process:
            loaded = True  # this process started when the changed file was there already
            self._disarm()
            note.process, note.loaded = process, list(change.keys.values())
            self.state.save_note(note)
        unit = "" if loaded else self._may_restart(tree, runtime, edit, note.restarted.get(digest, process) == process)
        if current != wanted:
            change.process = process
        change.written = digest
        folders(edit.file)
        self.state.save_change(change)
        tree.make_folders(edit.file.rpartition("/")[0])
        if not loaded:
            self._arm(unit, edit.file, digest, current if current != wanted else _without(change, current))
        tree.write(edit.file, wanted.encode())
        if loaded:
            return runtime
        note.restarted[digest] = process
        self.state.save_note(note)
        return self._restart(tree, runtime, owner, unit, change, note)

    def restore(self, tree: Tree, owner: str, keep: str = "") -> None:
        """Take the owner's key out of all files but `keep`: the original bytes if no stranger changed the file."""
        for change in self.state.changes().values():
            if owner not in change.keys or change.file == keep:
                continue
            current, written = read_text(tree, change.file), change.written
            change.original = _without(change, current)
            del change.keys[owner]
            try:
                wanted = _render(change)
            except tomledit.EditError:
                wanted = current  # a stranger's text by now, and none that the other owners' keys fit into
            if wanted is None:
                tree.remove(change.file)
            elif current is not None:
                tree.write(change.file, wanted.encode())
            change.written = _sha(wanted)
            if change.written != written:  # whoever comes later and needs the old content is no restart loop
                note = self.state.note()
                note.restarted = {}
                self.state.save_note(note)
            self.state.save_change(change)

    def _may_restart(self, tree: Tree, runtime: Runtime, edit: Edit, first: bool) -> str:
        """The unit to restart."""
        what = (
            f"{runtime.name} {runtime.version} on node {self.node_name} must read {edit.key[-1]} = {edit.value} "
            f"from {edit.file}"
        )
        if not self.restart_allowed:
            raise Fault(
                Reason.RESTART_NOT_ALLOWED,
                f"{what}, which takes one restart, and the setting runtimeRestart is false; set it to true, or set "
                "this key there.",
            )
        if not first:
            raise Fault(
                Reason.CONFIG_REVERTED,
                f"{what}, and was restarted for that already, but something puts the file back: set this key there.",
            )
        unit = restart.unit(self.node, runtime, self.systemctl)
        restart.check_config(self.node, tree, runtime, self.systemctl)
        return unit

    def _arm(self, unit: str, file: str, written: str, text: str | None) -> None:
        if text is not None:
            self.node.tree.write(_BACKUP, text.encode())
        problem = restart.arm(self.systemctl, unit, file, written, _BACKUP if text is not None else None)
        if problem:
            self.log(f"systemd will not put {file} back should this agent be killed in the next seconds: {problem}")

    def _disarm(self) -> None:
        restart.disarm(self.systemctl)
        self.node.tree.remove(_BACKUP)

    def _restart(
        self, tree: Tree, runtime: Runtime, owner: str, unit: str, change: ConfigChange, note: Note
    ) -> Runtime:
        self.log(f"restarting {unit}: {change.file} was changed")
        result = restart.restart(self.node, runtime.process, unit, self.systemctl, self.pause)
        if isinstance(result, Runtime):
            self._disarm()  # first: what is noted counts as done
            note.process, note.loaded = list(result.process), list(change.keys.values())
            self.state.save_note(note)
            self.log(f"{unit} restarted, CRI answers")
            return result
        sentence = (
            f"{runtime.name} {runtime.version} on node {self.node_name} did not come back with the changed "
            f"{change.file} ({result}); the file is as it was, and this content is not tried again before the node "
            f"reboots: look at the journal of {unit}."
        )
        note.refused[change.written] = sentence
        self.state.save_note(note)
        self.restore(tree, owner)
        restart.restart(self.node, runtime.process, unit, self.systemctl, self.pause)
        self._disarm()
        raise Fault(Reason.RESTART_FAILED, sentence)


def read_text(tree: Tree, path: str) -> str | None:
    """A configuration file, None if it is not there. Raises Fault CONFIG_INVALID if it is no text."""
    data = tree.read(path)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        raise Fault(Reason.CONFIG_INVALID, f"{path} is no UTF-8 text ({error}); repair it.") from error


def _sha(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _render(change: ConfigChange) -> str | None:
    """The file with the keys of all owners; None if it need not be there."""
    if change.original is None and not change.keys:
        return None
    text = change.new_file if change.original is None else change.original
    for key, value in change.keys.values():
        text = tomledit.set_key(text, tuple(key), value)
    return text


def _without(change: ConfigChange, text: str | None) -> str | None:
    """What the file would be without us: its original, or what strangers made of it less our keys."""
    if _sha(text) == change.written:
        return change.original
    for key, _ in change.keys.values():
        with contextlib.suppress(tomledit.EditError):
            text = text and tomledit.unset_key(text, tuple(key), change.original or "")
    return text
