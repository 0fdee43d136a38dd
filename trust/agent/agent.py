"""One node, one owner: bring the node to the state in which its runtime trusts the registry, or back to how it was.

Everything here can be cut off at any point and run again. The order of effects is what makes that work: the marker
first, then folders, files, and last the runtime's configuration; away in the opposite order.
"""

import contextlib
import errno
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from . import connect, containerd, discover, restart, tomledit
from .discover import Node, Runtime
from .faults import Fault, Reason
from .files import Tree
from .state import OWNERS, ConfigChange, Marker, Note, State

_CONTAINERS_ROOTS = ("/root/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
"""Where CRI-O looks, in order; the first folder for a host counts (containers/image, docker_client.go)."""
_VENDOR_SETTINGS = {
    "talos": "Talos: set machine.registries.config.<host>.tls.ca in the machine configuration",
    "bottlerocket": "Bottlerocket: set settings.pki.<name>.data and .trusted in the user data",
    "cos": "GKE: use a node pool with containerd configuration (privateRegistryAccessConfig)",
}


@dataclass(frozen=True)
class Settings:
    """What the DaemonSet says."""

    host: str
    """The registry, exactly as in image references, with port if it has one."""
    owner: str
    """Unique for each stack on the cluster, safe as a file name."""
    pod: str
    """Uid of this pod."""
    node: str
    restart_allowed: bool = True


@dataclass
class Status:
    """What the doctor wants to know."""

    runtime: str = ""
    version: str = ""
    roots: list[str] = field(default_factory=list[str])
    """What is read at a pull, the deciding place first."""
    ca: list[str] = field(default_factory=list[str])
    """SHA-256 of each certificate of the CA."""
    restarts: int = 0
    """Restarts of the runtime by this agent."""


@dataclass
class Agent:
    """Call `tick` again and again, and `remove` at the end."""

    settings: Settings
    node: Node
    systemctl: restart.Systemctl
    pause: Callable[[float], None]
    """Waits some seconds; raises Stopped if the pod is to end."""
    log: Callable[[str], None]
    check: Callable[[str, str, str], None] = connect.check
    status: Status = field(default_factory=Status)
    connected: bool = False
    _runtime: Runtime | None = None
    _claimed: bool = False

    def __post_init__(self) -> None:
        self._state = State(self.node.tree, self.settings.owner)

    def tick(self, ca: str) -> bool:
        """Bring the node to the wanted state; cheap if it is there. `ca` is the CA as PEM text.

        Returns False if another agent has its turn. Raises Fault if something stands in the way.
        """
        try:
            return self._tick(ca)
        except OSError as error:
            raise self._fault(error) from error

    def remove(self) -> bool:
        """Take everything of this owner off the node; False if it belongs to a younger pod by now, or is not there."""
        with self._state.lock(seconds=20) as held:
            marker = self._state.marker()
            if not held or (marker and marker.pod != self.settings.pod):
                return False
            with contextlib.suppress(Fault):
                self._current_runtime()
            tree = self._view()
            self._restore_config(tree)
            if marker:
                for path in marker.files:
                    tree.remove(path)
                for folder in sorted(marker.folders, key=len, reverse=True):
                    tree.remove_folder(folder)
            self._state.drop_marker()
            return marker is not None

    def _tick(self, ca: str) -> bool:
        self.status.ca = list(connect.fingerprints(ca))
        runtime = self._current_runtime()
        tree = self._view()
        with self._state.lock(seconds=1) as held:
            if not held:
                return False
            marker = self._state.marker()
            if self._claimed and marker and marker.pod != self.settings.pod:
                return True  # a younger pod has taken over
            plan = self._plan(runtime, tree)
            files = [plan.ca_file] if plan.ca_file else self._files(runtime, tree, plan.roots)
            self.status.roots = [path.rpartition("/")[0] for path in files]
            self._put(tree, marker, files, ca.encode())
            self._claimed = True
        if runtime.name == "containerd" and not plan.ca_file:
            self._check_hosts_toml(tree, files[0])
        if not self.connected:
            self.check(self.settings.host, ca, self.settings.node)
            self.connected = True
        if plan.edit:
            with self._state.lock(seconds=1) as held:
                if not held:
                    return False
                self._change_config(tree, runtime, plan.edit)
        return True

    def _current_runtime(self) -> Runtime:
        if self._runtime is None or self.node.identity(self._runtime.process[0]) != self._runtime.process:
            self._runtime = None
            self._runtime = discover.runtime(self.node)
            self.status.runtime, self.status.version = self._runtime.name, self._runtime.version
        return self._runtime

    def _view(self) -> Tree:
        return self.node.view(self._runtime.process[0]) if self._runtime else self.node.tree

    # What the runtime reads

    def _plan(self, runtime: Runtime, tree: Tree) -> containerd.Plan:
        if runtime.name == "docker":
            return containerd.Plan(("/etc/docker/certs.d",))
        if runtime.name == "cri-o":
            host = self.settings.host
            taken = [root for root in _CONTAINERS_ROOTS if tree.exists(f"{root}/{host}")]
            return containerd.Plan((taken[0] if taken else _CONTAINERS_ROOTS[1],))
        if runtime.name != "containerd":
            sentence = f"{runtime.name!r} serves {runtime.socket}; known are containerd, cri-o and docker."
            raise Fault(Reason.RUNTIME_UNKNOWN, sentence)
        config = discover.option(runtime.arguments, "c", "config") or containerd.DEFAULT_CONFIG
        change = self._state.change()

        def read(path: str) -> str | None:
            return _without_change(change, path, _text(tree, path))

        sources = containerd.load(config, runtime.release, read, tree.glob)
        ca_file = f"{OWNERS}/{self.settings.owner}.crt"
        return containerd.plan(runtime.release, config, sources, self.settings.host, ca_file)

    def _files(self, runtime: Runtime, tree: Tree, roots: tuple[str, ...]) -> list[str]:
        """Our file below each root, links followed. Raises Fault SYMLINK_LEAVES_TREE for the deciding one."""
        files: list[str] = []
        for root in roots:
            host = self.settings.host
            folders = containerd.host_folders(root, host) if runtime.name == "containerd" else [f"{root}/{host}"]
            folder = next((folder for folder in folders if tree.exists(folder)), f"{root}/{host}")
            real, file = tree.real(folder), f"{tree.real(folder)}/{self.settings.owner}.crt"
            if real.startswith(f"{tree.real(root)}/") and tree.real(file) == file:
                files.append(file)
            elif root == roots[0]:
                raise Fault(
                    Reason.SYMLINK_LEAVES_TREE,
                    f"{folder} on node {self.settings.node} is or holds a symbolic link out of {root} "
                    f"(to {tree.real(file)}); remove the link.",
                )
        return files

    def _check_hosts_toml(self, tree: Tree, file: str) -> None:
        path = f"{file.rpartition('/')[0]}/hosts.toml"
        if containerd.hides_certificates(tree.read(path) or b"", file):
            raise Fault(
                Reason.FOREIGN_HOSTS_TOML,
                f"{path} on node {self.settings.node} is not ours, and containerd passes over every .crt beside a "
                f'hosts.toml; remove it, or add ca = "{file}" at its top.',
            )

    # Files

    def _put(self, tree: Tree, marker: Marker | None, files: list[str], ca: bytes) -> None:
        """Write the CA to `files`, and remove it from where it was wanted before."""
        mine = marker or Marker(self.settings.owner, self.settings.host, self.settings.pod)
        digest = hashlib.sha256(ca).hexdigest()
        wanted = dict.fromkeys(files, digest)
        inherited = [folder for other in self._state.others() for folder in other.folders]
        folders = dict.fromkeys(mine.folders)
        for file in files:
            folders |= dict.fromkeys(folder for folder in inherited if file.startswith(f"{folder}/"))
            folders |= dict.fromkeys(f for f in tree.missing_folders(file.rpartition("/")[0]) if f != OWNERS)
        old = [path for path in mine.files if path not in wanted]
        mine.host, mine.pod = self.settings.host, self.settings.pod
        mine.files, mine.folders = mine.files | wanted, list(folders)
        self._state.save_marker(mine)
        for file in files:
            try:
                tree.make_folders(file.rpartition("/")[0])
                if tree.write(file, ca):
                    self.log(f"wrote {file}")
            except OSError:
                if file == files[0]:
                    raise
        if old:
            for path in old:
                tree.remove(path)
            for folder in sorted(folders, key=len, reverse=True):
                tree.remove_folder(folder)
            mine.files = wanted
            self._state.save_marker(mine)

    # The runtime's configuration

    def _change_config(self, tree: Tree, runtime: Runtime, edit: containerd.Edit) -> None:
        """Have `edit` in the configuration and in the running process; at most one restart for each content."""
        mine, process = [list(edit.key), edit.value], list(runtime.process)
        note, change = self._state.note(), self._state.change()
        current = _text(tree, edit.file)
        if change is None or change.file != edit.file:
            change = ConfigChange(edit.file, current, edit.new_file)
        elif _sha(current) != change.written:
            change.original = _without_change(change, edit.file, current)
        known = mine in change.keys.values()
        change.keys[self.settings.owner] = mine
        wanted = _render(change)
        digest = _sha(wanted)
        if digest in note.refused:
            raise Fault(Reason.RESTART_FAILED, note.refused[digest])
        loaded = note.process == process and mine in note.loaded
        if not loaded and known and _sha(current) == change.written and change.process != process:
            loaded = True  # this process started when the changed file was there already
            note.process, note.loaded = process, list(change.keys.values())
            self._state.save_note(note)
        unit = "" if loaded else self._may_restart(runtime, edit, note.restarted.get(digest, process) == process)
        if current != wanted:
            change.process = process
        change.written = digest
        self._remember_folders(tree, edit.file)
        self._state.save_change(change)
        tree.make_folders(edit.file.rpartition("/")[0])
        tree.write(edit.file, (wanted or "").encode())
        if not loaded:
            note.restarted[digest] = process
            self._state.save_note(note)
            self._restart(tree, runtime, unit, change, note, digest)

    def _may_restart(self, runtime: Runtime, edit: containerd.Edit, first: bool) -> str:
        """The unit to restart."""
        what = (
            f"{runtime.name} {runtime.version} on node {self.settings.node} must read {edit.key[-1]} = {edit.value} "
            f"from {edit.file}"
        )
        if not self.settings.restart_allowed:
            raise Fault(
                Reason.RESTART_NOT_ALLOWED,
                f"{what}, which takes one restart, and runtimeRestart is deny; set it to allow, or set this key there.",
            )
        if not first:
            raise Fault(
                Reason.CONFIG_REVERTED,
                f"{what}, and was restarted for that already, but something puts the file back: set this key there.",
            )
        return restart.unit(self.node, runtime, self.systemctl)

    def _restart(self, tree: Tree, runtime: Runtime, unit: str, change: ConfigChange, note: Note, digest: str) -> None:
        self.log(f"restarting {unit}: {change.file} was changed")
        self.status.restarts += 1
        result = restart.restart(self.node, runtime.process, unit, self.systemctl, self.pause)
        if isinstance(result, Runtime):
            self._runtime = result
            note.process, note.loaded = list(result.process), list(change.keys.values())
            self._state.save_note(note)
            self.log(f"{unit} restarted, CRI answers")
            return
        note.refused[digest] = (
            f"{runtime.name} {runtime.version} on node {self.settings.node} did not come back with the changed "
            f"{change.file} ({result}); the file is as it was, and this content is not tried again before the node "
            f"reboots: look at the journal of {unit}."
        )
        self._state.save_note(note)
        self._restore_config(tree)
        restart.restart(self.node, runtime.process, unit, self.systemctl, self.pause)
        self._runtime = None
        raise Fault(Reason.RESTART_FAILED, note.refused[digest])

    def _restore_config(self, tree: Tree) -> None:
        """Take our key out of the configuration: the original bytes if nobody else changed the file since."""
        change = self._state.change()
        if change is None:
            self._state.save_change(ConfigChange("", None, ""))  # may have been cut off while it wrote the first one
            return
        current = _text(tree, change.file)
        ours = _sha(current) == change.written
        if not ours:
            change.original = _without_change(change, change.file, current)
        change.keys.pop(self.settings.owner, None)
        wanted = _render(change)
        if wanted is None:
            tree.remove(change.file)
        elif current is not None:
            tree.write(change.file, wanted.encode())
        if _sha(wanted) != change.written:  # whoever comes for the old content later is no restart loop
            note = self._state.note()
            note.restarted = {}
            self._state.save_note(note)
        change.written = _sha(wanted)
        self._state.save_change(change)

    def _remember_folders(self, tree: Tree, file: str) -> None:
        marker = self._state.marker()
        missing = tree.missing_folders(file.rpartition("/")[0])
        if marker and missing:
            marker.folders += [folder for folder in missing if folder not in marker.folders]
            self._state.save_marker(marker)

    def _fault(self, error: OSError) -> Fault:
        path = str(error.filename or "").removeprefix(str(self._view().top)).removeprefix(str(self.node.tree.top))
        release = (self.node.tree.read("/etc/os-release") or b"").decode(errors="replace")
        name = next((line[3:].strip("\"'") for line in release.splitlines() if line.startswith("ID=")), "")
        fix = "make it writable"
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            fix = _VENDOR_SETTINGS.get(
                name, "no pod can configure such a node, use its operating system's own settings"
            )
        what = f"{path or 'A file'} on node {self.settings.node} cannot be written ({error.strerror or error})"
        return Fault(Reason.READ_ONLY, f"{what}; {fix}.")


def _text(tree: Tree, path: str) -> str | None:
    data = tree.read(path)
    return None if data is None else data.decode()


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


def _without_change(change: ConfigChange | None, path: str, current: str | None) -> str | None:
    """What the file would be without us."""
    if change is None or change.file != path or current is None:
        return current
    if _sha(current) == change.written:
        return change.original
    for key, _ in change.keys.values():
        try:
            current = tomledit.unset_key(current, tuple(key), change.original or "")
        except tomledit.EditError:
            return current  # a stranger's text by now: leave it
    return current
