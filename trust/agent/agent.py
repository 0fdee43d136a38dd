"""One node, one owner: bring the node to the state in which its runtime trusts the registry, or back to how it was.

Everything here can be cut off at any point and run again. The order of effects is what makes that work: the marker
first, then folders, files, and last the runtime's configuration; away in the opposite order.
"""

import contextlib
import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import connect, containerd, discover, restart, runtime_config, tomledit
from .discover import Node, Runtime
from .faults import Fault, Reason
from .files import Tree
from .runtime_config import RuntimeConfig
from .state import OWNERS, Marker, State

GONE_FOR_GOOD = 600.0
"""Seconds without a process of an owner's pod until other agents clean up after it."""

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
    clock: Callable[[], float] = time.monotonic
    status: Status = field(default_factory=Status)
    connected: bool = False
    _runtime: Runtime | None = None
    _claimed: bool = False
    _gone_since: dict[str, float] = field(default_factory=dict[str, float])
    """When a pod of another owner was first missed, by uid."""

    def __post_init__(self) -> None:
        self._state = State(self.node.tree)
        self._config = RuntimeConfig(
            self.node,
            self._state,
            self.settings.node,
            self.settings.restart_allowed,
            self.systemctl,
            self.pause,
            self.log,
        )

    def tick(self, ca: str) -> bool:
        """Bring the node to the wanted state; cheap if it is there. `ca` is the CA as PEM text.

        Returns False if another agent has its turn. Raises Fault if something stands in the way.
        """
        try:
            return self._tick(ca)
        except OSError as error:
            raise self._fault(error) from error
        except tomledit.EditError as error:
            sentence = f"The runtime's configuration on node {self.settings.node} cannot be changed safely: {error}."
            raise Fault(Reason.CONFIG_INVALID, sentence) from error

    def remove(self) -> bool:
        """Take everything of this owner off the node; False if it belongs to a younger pod by now, or is not there."""
        with self._state.lock(seconds=20) as held:
            marker = self._state.markers().get(self.settings.owner)
            if not held or (marker and marker.pod != self.settings.pod):
                return False
            with contextlib.suppress(Fault):
                self._current_runtime()
            self._leave(self.settings.owner, marker)
            return marker is not None

    def _tick(self, ca: str) -> bool:
        self.status.ca = list(connect.fingerprints(ca))
        runtime = self._current_runtime()
        tree = self._view()
        with self._state.lock(seconds=1) as held:
            if not held:
                return False
            markers = self._state.markers()
            mine = markers.pop(self.settings.owner, None)
            if self._claimed and mine and mine.pod != self.settings.pod:
                return True  # a younger pod has taken over
            plan = self._plan(runtime, tree)
            files = [plan.ca_file] if plan.ca_file else self._files(runtime, tree, plan.roots)
            self.status.roots = [path.rpartition("/")[0] for path in files]
            self._put(tree, mine, markers, files, ca.encode())
            self._claimed = True
            self._clean_up_after_others(markers)
            if not plan.edit:
                self._config.restore(tree, self.settings.owner)
        if runtime.name == "containerd" and not plan.ca_file:
            self._check_neighbours(tree, files[0])
        if not self.connected:
            self.check(self.settings.host, ca, self.settings.node)
            self.connected = True
        if plan.edit:
            with self._state.lock(seconds=1) as held:
                if not held:
                    return False
                self._runtime = self._config.apply(
                    tree, runtime, self.settings.owner, plan.edit, lambda file: self._remember_folders(tree, file)
                )
        return True

    def _leave(self, owner: str, marker: Marker | None) -> None:
        """Take everything of an owner off the node."""
        tree = self._view()
        self._config.restore(tree, owner)
        if marker:
            for path in marker.files:
                tree.remove(path)
            for folder in sorted(marker.folders, key=len, reverse=True):
                tree.remove_folder(folder)
        self._state.drop_marker(owner)

    def _clean_up_after_others(self, markers: dict[str, Marker]) -> None:
        """Do what a pod could not do for its owner, such as one whose node was down while the stack was deleted."""
        now = self.clock()
        running = self.node.pods({marker.pod for marker in markers.values()}) if markers else set[str]()
        self._gone_since = {
            marker.pod: self._gone_since.get(marker.pod, now)
            for marker in markers.values()
            if marker.pod not in running
        }
        for owner, marker in markers.items():
            if now - self._gone_since.get(marker.pod, now) > GONE_FOR_GOOD:
                self._leave(owner, marker)
                self.log(
                    f"removed what {owner} left on this node: its pod {marker.pod} is gone for {GONE_FOR_GOOD:g} s"
                )

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

        def read(path: str) -> str | None:
            return self._config.original(path, runtime_config.read_text(tree, path))

        try:
            sources = containerd.load(runtime.config, runtime.release, read, tree.glob)
            ca_file = f"{OWNERS}/{self.settings.owner}.crt"
            return containerd.plan(runtime.release, runtime.config, sources, self.settings.host, ca_file)
        except (TypeError, AttributeError) as error:
            sentence = f"{runtime.config} has no table where containerd has one ({error}); repair it."
            raise Fault(Reason.CONFIG_INVALID, sentence) from error

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

    def _check_neighbours(self, tree: Tree, file: str) -> None:
        """Raises Fault FOREIGN_HOSTS_TOML or CONFIG_INVALID if a stranger's file keeps containerd from using ours."""
        folder = file.rpartition("/")[0]
        path = f"{folder}/hosts.toml"
        hosts_toml = tree.read(path) or b""
        if containerd.hides_certificates(hosts_toml, file):
            raise Fault(
                Reason.FOREIGN_HOSTS_TOML,
                f"{path} on node {self.settings.node} is not ours, and containerd passes over every .crt beside a "
                f'hosts.toml; remove it, or add ca = "{file}" at its top.',
            )
        for path in tree.glob(f"{folder}/*.crt") if not hosts_toml else []:
            if tree.is_file(path) and not connect.holds_certificate(tree.read(path) or b""):
                raise Fault(
                    Reason.CONFIG_INVALID,
                    f"{path} on node {self.settings.node} is not ours and holds no certificate, and containerd then "
                    "refuses every pull from this registry; remove it.",
                )

    # Files

    def _put(self, tree: Tree, mine: Marker | None, others: dict[str, Marker], files: list[str], ca: bytes) -> None:
        """Write the CA to `files`, and remove it from where it was wanted before."""
        mine = mine or Marker(self.settings.owner, self.settings.host, self.settings.pod)
        wanted = dict.fromkeys(files, hashlib.sha256(ca).hexdigest())
        inherited = [folder for other in others.values() for folder in other.folders]
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

    def _remember_folders(self, tree: Tree, file: str) -> None:
        marker = self._state.markers().get(self.settings.owner)
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
