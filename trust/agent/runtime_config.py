"""The one key that some runtimes need in their configuration.

Some containerd versions read a registry's CA only if one key is in their configuration. We set it for each stack,
restart containerd once, and remove it when the stack leaves. The file is always the original text plus one key per
stack. Whether the running process has read a key is decided by process identity (pid, start time, boot), not by time
stamps.
"""

import contextlib
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from . import tomledit
from .backoff import Backoff
from .containerd import config_path
from .faults import Fault, Reason
from .files import Tree, read_text
from .host import UNDO_AFTER, Host, HostError
from .node import Runtime
from .runtime_contract import Edit, Plan
from .state import FILE_MODE, RUNNING, ConfigChange, Key, RuntimeMemory, State

_BACKUP = f"{RUNNING}/undo"
"""The file as it was, while a restart is under way. It ends with the boot, as systemd's timer does that needs it."""


@dataclass
class _Wanted:
    """One owner's change of one file: what is there, and what it has to become."""

    tree: Tree
    runtime: Runtime
    owner: str
    plan: Plan
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

    def __post_init__(self) -> None:
        self._changing, self._disarming = Backoff(self.host.clock), Backoff(self.host.clock)

    def original(self, path: str, text: str | None) -> str | None:
        """What a file with this text would be without the key of any owner."""
        change = self.state.changes().get(path)
        return _apart(change, text)[0] if change else text

    def as_read(self, tree: Tree, runtime: Runtime, plan: Plan, ca_file: str) -> Plan:
        """The plan for what the running process has read, which may differ from the files that are there now.

        Somebody may have changed a file, and not restarted the runtime yet: then the old places count until the process
        is another one, and the new ones are for that one. `ca_file` is as in `RuntimeLayout.plan`. Raises Fault
        RESTART_NOT_ALLOWED if the process does not read the folder that the files name.
        """
        if not plan.fingerprint:
            return plan
        memory = self.state.runtime_memory()
        known = memory.read or memory.roots or memory.loaded
        if memory.process != list(runtime.process) or not known:  # the clock may be right only by now
            unread = plan.explicit and self._is_younger(tree, plan.explicit, runtime)
            memory.process, memory.loaded = list(runtime.process), []
            memory.read, memory.roots = ("", []) if unread else (plan.fingerprint, [] if plan.edit else [*plan.roots])
            self.state.save_runtime_memory(memory)
        if memory.read == plan.fingerprint:
            return plan
        roots = tuple(dict.fromkeys([*memory.roots, *plan.roots]))
        loaded = {tuple(key): value for key, value in memory.loaded}
        if plan.edit and loaded.get(plan.edit.key) == plan.edit.value:
            return replace(plan, roots=roots)
        if memory.roots or ca_file in loaded.values():
            return replace(plan, roots=roots, edit=None, ca_file=ca_file if ca_file in loaded.values() else None)
        if plan.edit:
            return plan
        raise Fault(
            Reason.RESTART_NOT_ALLOWED,
            f"{plan.explicit} on node {self.node_name} names {plan.roots[0]}, and was changed after {runtime.name} "
            f"{runtime.version} (process {runtime.process[0]}) had read it; restart that, as whoever changed the file "
            "has to do anyway.",
            runtime=f"{runtime.name} {runtime.version}",
            path=plan.explicit,
            value=plan.roots[0],
        )

    def apply(self, tree: Tree, runtime: Runtime, owner: str, plan: Plan, folders: Callable[[str], None]) -> Runtime:
        """Have the plan's edit in the file and in the running process, with one restart at most for each content.

        `folders` is called with the file's path before folders for it are made. Returns the runtime that runs in the
        end. Raises Fault RESTART_NOT_ALLOWED, RESTART_FAILED or CONFIG_REVERTED, and EditError.
        """
        if not plan.edit:
            return runtime
        self.restore(tree, owner, keep=plan.edit.file)
        memory = self.state.runtime_memory()
        if self._is_done(tree, runtime, owner, plan.edit, memory):
            return runtime
        wanted = self._wanted(tree, runtime, owner, plan, plan.edit)
        if wanted.digest in memory.refused:
            raise self._refused(wanted, memory.refused[wanted.digest])
        with self._changing.attempt(wanted.digest, wanted.process):
            if self._has_been_read(wanted, memory):
                self._write(wanted, memory, folders)
                return runtime
            unit = self._unit_to_restart(wanted, memory)
            self._write(wanted, memory, folders, unit)
        memory.restarted[wanted.digest] = wanted.process
        self.state.save_runtime_memory(memory)
        return self._restart(wanted, unit, memory)

    def restore(self, tree: Tree, owner: str, keep: str = "") -> None:
        """Take the owner's key out of all files but `keep`.

        A file that nobody else has changed gets its original bytes back once no owner needs a key in it. A value that
        somebody else has set since stays.
        """
        for change in self.state.changes().values():
            if change.file != keep and (owner in change.keys or not change.keys):
                self._take_out(tree, change, owner)

    def leave(self, tree: Tree, owner: str) -> list[str]:
        """Take the owner's key out of all files, each by itself; returns a sentence for each that it stays in."""
        problems: list[str] = []
        for change in self.state.changes(damaged=True).values():
            if owner in change.keys or not change.keys:
                try:
                    self._take_out(tree, change, owner)
                except OSError as error:
                    problems.append(f"{change.file} still has our key: {error.strerror}")
        try:
            self.state.changes()
        except Fault as fault:
            problems.append(fault.sentence)
        return problems

    def settle(self, tree: Tree, runtime: Runtime, *, leaving: bool = False) -> None:
        """End what an agent began that was killed around a restart, so that systemd does not undo it later.

        If the runtime has been restarted since, it has read the changed file. Else the file becomes what it was, and
        whoever needs the change begins anew; or, if the stack is `leaving`, systemd's timer stays, which then only
        starts the runtime if that is down. Raises Fault CONFIG_REVERTED if the timer cannot be stopped.
        """
        memory = self.state.runtime_memory()
        if not memory.armed:
            return
        changes = [change for change in self.state.changes(damaged=True).values() if memory.armed in change.keys]
        unread = [change for change in changes if change.process == list(runtime.process)]
        if leaving and unread:
            return
        owner = memory.armed
        with self._disarming.attempt(owner, leaving):
            self._disarm(memory)
        for change in unread:
            self._take_out(tree, change, owner)

    def orphans(self, owners: Collection[str]) -> set[str]:
        """Owners who have a key in a file, and are not among `owners`: their removal could not take it out."""
        return {owner for change in self.state.changes().values() for owner in change.keys} - set(owners)

    # The steps of `restore` and `apply`

    def _take_out(self, tree: Tree, change: ConfigChange, owner: str) -> None:
        written = change.written
        try:
            current = read_text(tree, change.file)
        except Fault:  # somebody has made something of the file that is no text, so nothing in it is ours: it stays
            current, wanted, is_text = None, None, False
            change.keys.pop(owner, None)
        else:
            is_text = True
            change.original, change.keys = _apart(change, current)
            change.keys.pop(owner, None)
            try:
                wanted = _render(change)
            except tomledit.EditError:
                # Somebody has rewritten the file, and the keys of the other owners do not fit in: it stays as it is.
                wanted = current
            change.replaced, change.written = _sha(current), _sha(wanted)
        if change.written != written:
            # We revert the file ourselves, so a later owner that needs the old content is no loop.
            memory = self.state.runtime_memory()
            memory.restarted = {}
            self.state.save_runtime_memory(memory)
        self.state.save_change(change)
        if wanted is None and is_text:
            tree.remove(change.file)  # with what a killed write has left beside it
        elif wanted is not None and current is not None:
            tree.write(change.file, wanted.encode())
        if not change.keys:
            self.state.drop_change(change)

    def _is_done(self, tree: Tree, runtime: Runtime, owner: str, edit: Edit, memory: RuntimeMemory) -> bool:
        """Whether file and process have the key already: this is cheap, however many owners have theirs there."""
        change, key = self.state.changes().get(edit.file), [list(edit.key), edit.value]
        if not change or change.keys.get(owner) != key or memory.process != list(runtime.process):
            return False
        return key in memory.loaded and _sha(read_text(tree, edit.file)) == change.written

    def _wanted(self, tree: Tree, runtime: Runtime, owner: str, plan: Plan, edit: Edit) -> _Wanted:
        """Put the file's original text and the keys of all owners together. Raises EditError if a key does not fit."""
        current = read_text(tree, edit.file)
        change = self.state.changes().get(edit.file) or ConfigChange(edit.file, current, edit.new_file)
        (change.original, change.keys), change.new_file = _apart(change, current), edit.new_file
        key = [list(edit.key), edit.value]
        was_known = key in change.keys.values()
        change.keys[owner] = key
        return _Wanted(tree, runtime, owner, plan, edit, change, was_known, current, _render(change) or "")

    def _has_been_read(self, wanted: _Wanted, memory: RuntimeMemory) -> bool:
        """Whether the running process has read the key. If we learn that only now, it is saved in `memory`."""
        if memory.process == wanted.process and wanted.key in memory.loaded:
            return True
        if not wanted.was_known or wanted.change.process == wanted.process:
            return False
        # Another process ran when we changed the file. If the key is still there, this process has read it.
        as_written = _sha(wanted.current) == wanted.change.written
        younger = not as_written and self._is_younger(wanted.tree, wanted.edit.file, wanted.runtime)
        if younger or not _has(wanted.current, wanted.key):
            return False
        self._remember_loaded(memory, wanted.process, wanted)
        return True

    def _is_younger(self, tree: Tree, file: str, runtime: Runtime) -> bool:
        """Whether a file was changed after the runtime had been started.

        A runtime that starts makes its socket anew, which tells the start by the clock as it was set then. By the clock
        as it is set now the kernel tells it. The two differ where the clock was behind at the boot, and only what is
        younger than both was certainly changed after the start.
        """
        at_start, now = self.host.node.tree.modified(runtime.socket), self.host.node.started(runtime.process)
        return at_start > 0 and max(at_start, now) < tree.modified(file)

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
            raise self._reverted(wanted)
        unit, config = self.host.unit(runtime), config_path(runtime)
        if wanted.tree.read(config) is not None:
            self.host.check(runtime, config)
        return unit

    def _write(self, wanted: _Wanted, memory: RuntimeMemory, folders: Callable[[str], None], unit: str = "") -> None:
        """Save the change, then write the file. With `unit`, systemd undoes it if this agent is killed meanwhile.

        The file takes its place only once systemd's timer runs, and that is started only if the file can be written.
        """
        change, tree, file = wanted.change, wanted.tree, wanted.edit.file
        is_new = wanted.current != wanted.text
        if is_new:
            if _sha(wanted.current) == change.written:
                memory.restarted = {}  # we replace what is ours, so a later return to an earlier content is no loop
                self.state.save_runtime_memory(memory)
            change.process, change.replaced = wanted.process, _sha(wanted.current)
        change.written = wanted.digest
        folders(file)
        self.state.save_change(change)
        tree.make_folders(file.rpartition("/")[0])

        def arm() -> None:
            if unit:
                before = wanted.current if is_new else change.original
                self._arm(memory, wanted.owner, unit, tree.real(file), wanted.digest, before)

        tree.write(file, wanted.text.encode(), first=arm)

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
            self._disarm(self.state.runtime_memory())
            raise self._refused(wanted, sentence) from error
        self._disarm(memory)
        if _sha(read_text(wanted.tree, change.file)) != change.written:
            # Somebody has put the file back meanwhile, such as systemd's timer if this agent has slept for minutes. So
            # nobody knows what the process has read, or whether it would have come back with our change.
            raise self._reverted(wanted)
        self._remember_loaded(memory, list(restarted.process), wanted)
        self.log(f"{unit} restarted, CRI answers")
        return restarted

    def _remember_loaded(self, memory: RuntimeMemory, process: list[int | str], wanted: _Wanted) -> None:
        memory.process, memory.loaded = process, list(wanted.change.keys.values())
        memory.read, memory.roots = wanted.plan.fingerprint, list(wanted.plan.roots)
        self.state.save_runtime_memory(memory)

    def _arm(self, memory: RuntimeMemory, owner: str, unit: str, file: str, written: str, text: str | None) -> None:
        memory.armed = owner
        self.state.save_runtime_memory(memory)
        if text is not None:
            self.host.node.tree.write(_BACKUP, text.encode(), FILE_MODE)
        try:
            self.host.arm(unit, file, written, _BACKUP if text is not None else None)
        except HostError as error:
            self.log(f"systemd will not put {file} back should this agent be killed in the next seconds: {error}")

    def _disarm(self, memory: RuntimeMemory) -> None:
        """Stop systemd's timer; only then its copy of the file may go. Raises Fault CONFIG_REVERTED if it goes on."""
        try:
            self.host.disarm()
        except HostError as error:
            raise Fault(
                Reason.CONFIG_REVERTED,
                f"systemd on node {self.node_name} will put the runtime's configuration back within "
                f"{UNDO_AFTER / 60:g} minutes, since its timer could not be stopped: {error}; the agent tries again.",
                error=str(error),
            ) from error
        self.host.node.tree.remove(_BACKUP)
        memory.armed = ""
        self.state.save_runtime_memory(memory)

    def _refused(self, wanted: _Wanted, sentence: str) -> Fault:
        return self._fault(wanted, Reason.RESTART_FAILED, sentence)

    def _reverted(self, wanted: _Wanted) -> Fault:
        runtime, edit = wanted.runtime, wanted.edit
        return self._fault(
            wanted,
            Reason.CONFIG_REVERTED,
            f"{runtime.name} {runtime.version} on node {self.node_name} must read {edit.key[-1]} = {edit.value} from "
            f"{edit.file}, and was restarted for that already, but something puts the file back: set this key there.",
        )

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


def _has(text: str | None, key: Key) -> bool:
    """Whether a key has its value in a text. Raises EditError if the text is no TOML."""
    return tomledit.value(text or "", tuple(key[0])) == key[1]


def _apart(change: ConfigChange, text: str | None) -> tuple[str | None, dict[str, Key]]:
    """What the file would be without us, and those keys in it that are ours.

    If somebody else has written the file, a key that has a value of his there is his: another value than ours, or ours
    in a line that is not the one that we wrote. And a key that he has taken out is not ours to put back for others:
    whoever still needs it sees that by itself.
    """
    if text is None:
        return None, {}
    if _sha(text) == change.written:
        return change.original, dict(change.keys)
    ours: dict[str, Key] = {}
    rest = text
    try:
        written = _render(change) or ""
        for owner, key in change.keys.items():
            path = tuple(key[0])
            if not _has(text, key) or tomledit.value(change.original or "", path) == key[1]:
                continue
            if _sha(text) == change.replaced or tomledit.has_line_of(written, text, path):
                ours[owner] = key
                rest = tomledit.unset_key(rest, path, change.original or "") if _has(rest, key) else rest
    except tomledit.EditError:  # the file is broken, or no change of it is safe: it stays as it is
        return text, dict(change.keys)
    return change.original if _sha(text) == change.replaced else rest, ours
