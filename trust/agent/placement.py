"""Who owns which file and folder on the node, and where an owner's CA goes.

Every file is claimed in the owner's `Ownership` before it is written, and every folder before it is made. So whoever
comes after a killed agent knows what to remove.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .faults import Fault, Reason
from .files import Tree
from .node import Node
from .runtime_contract import RuntimeLayout
from .state import OWNERS, Ownership, State

HOST_KEPT = 600.0
"""How long (s) a node still trusts the host before once it does without: `up` may go on for minutes on other nodes, and
until it has ended pulls go there."""
OTHER_FILES_EVERY = 60.0
"""Seconds between two attempts at a file that the running runtime does not read, and that could not be written."""
GONE_FOR_GOOD = 600.0
"""How long (s) a stack's agent may be missing on this node before another stack's agent removes its files."""


@dataclass
class Placement:
    """The files of one owner. Hold the node's lock while you call any method but `files`."""

    state: State
    owner: str
    host: str
    pod: str
    """Uid of the pod that this agent runs in."""
    node_name: str
    log: Callable[[str], None]
    _put: Ownership | None = None
    """What this agent has saved once all was in place."""
    _kept_until: float = math.inf
    """Until when the files of hosts before stay, see `keep`."""
    _not_before: dict[str, float] = field(default_factory=dict[str, float])
    """When a file that could not be written is tried again, by its path; the first file is not among them."""
    _gone_since: dict[str, float] = field(default_factory=dict[str, float])
    """When a pod of another owner was first missed, by uid."""

    def files(self, layout: RuntimeLayout, tree: Tree, roots: tuple[str, ...]) -> list[str]:
        """Our file below each hosts directory, with links followed.

        A folder that is a link out of its hosts directory is left out. If it is the first one, which the runtime reads,
        this raises Fault SYMLINK_LEAVES_TREE.
        """
        files: list[str] = []
        for root in roots:
            own = f"{root}/{self.host}"
            folder = next((folder for folder in layout.host_folders(root, self.host) if tree.exists(folder)), own)
            real, file = tree.real(folder), f"{tree.real(folder)}/{self.owner}.crt"
            if real.startswith(f"{tree.real(root)}/") and tree.real(file) == file:
                files.append(file)
            elif root == roots[0]:
                raise Fault(
                    Reason.SYMLINK_LEAVES_TREE,
                    f"{folder} on node {self.node_name} is or holds a symbolic link out of {root} "
                    f"(to {tree.real(file)}); remove the link.",
                    path=folder,
                    value=tree.real(file),
                )
        return files

    def put(
        self,
        tree: Tree,
        mine: Ownership | None,
        others: Callable[[], dict[str, Ownership]],
        files: list[str],
        ca: bytes,
        now: float,
    ) -> None:
        """Write the CA to `files`, and remove it from where it was wanted before.

        For another host it is not removed at once, see `keep`, and kept up to date until then. `mine` is what this
        owner has so far. `others` tells what the other owners have; it is called only if something has changed since
        the last time, so that an idle agent costs the same however many stacks there are. `now` is the time by any
        clock. Raises OSError if the first file, which the runtime reads, cannot be written.
        """
        if mine and mine.host != self.host:
            mine.host, mine.before, self._kept_until = self.host, sorted({*mine.before, mine.pod}), math.inf
        elif mine and now >= self._kept_until:
            mine.before = []
        kept = mine.files if mine and mine.before else {}
        if ca:  # without one they stay as they are
            files = [*files, *(path for path in kept if path not in files and tree.real(path) == path)]
        wanted = kept | dict.fromkeys(files, hashlib.sha256(ca).hexdigest())
        tried = [file for file in files if file == files[0] or now >= self._not_before.get(file, now)]
        if mine and mine == self._put and mine.files == wanted and all(tree.read(file) == ca for file in tried):
            return
        mine = mine or Ownership(self.owner, self.host, self.pod)
        inherited = [folder for other in others().values() for folder in other.folders]
        folders = dict.fromkeys(mine.folders)
        for file in files:
            folders |= dict.fromkeys(folder for folder in inherited if file.startswith(f"{folder}/"))
            folders |= dict.fromkeys(f for f in tree.missing_folders(file.rpartition("/")[0]) if f != OWNERS)
            if file not in mine.files and tree.exists(file) and not file.startswith(f"{OWNERS}/"):
                # Somebody has copied the folder with our file in it, as a refresh of MicroK8s's snap does.
                folders[file.rpartition("/")[0]] = None
        mine.pod, mine.files, mine.folders = self.pod, mine.files | wanted, list(folders)
        self.state.save_ownership(mine)
        for file in files:
            try:
                tree.make_folders(file.rpartition("/")[0])
                if tree.write(file, ca):
                    self.log(f"wrote {file}")
            except OSError:
                if file == files[0]:
                    raise
                self._not_before[file] = now + OTHER_FILES_EVERY
        if mine.files != wanted:
            # A path may lead to a wanted file by now, through a link that has taken the place of a folder.
            old = [path for path in mine.files if path not in wanted and tree.real(path) not in wanted]
            for error in _remove(tree, old, folders):
                raise error
            mine.files = wanted
            self.state.save_ownership(mine)
        self._put = copy.deepcopy(mine)

    def keep(self, node: Node, connected: bool, now: float) -> None:
        """Keep the files of hosts before for HOST_KEPT from when this node does without them.

        Until then pulls may go there: as long as this agent is not `connected` to its own host, and as long as a pod
        of theirs runs on the node, which ends only once the node has pulled from the new host.
        """
        pods = set(self._put.before) - {self.pod} if self._put else set[str]()
        is_needed = not connected or bool(pods and node.pods(pods))
        self._kept_until = math.inf if is_needed else min(self._kept_until, now + HOST_KEPT)

    def due(self, now: float) -> float:
        """When, after `now`, `put` has something to do although nothing has changed; infinite if it has not."""
        return min((time for time in (self._kept_until, *self._not_before.values()) if time > now), default=math.inf)

    def claim_folders(self, tree: Tree, file: str) -> None:
        """Claim the folders that have to be made for another file of this owner."""
        ownership = self.state.ownership(self.owner)
        missing = tree.missing_folders(file.rpartition("/")[0])
        if ownership and missing:
            ownership.folders += [folder for folder in missing if folder not in ownership.folders]
            self.state.save_ownership(ownership)

    def remove(self, tree: Tree, owner: str, ownership: Ownership | None) -> list[str]:
        """Remove an owner's files, then the folders that were made for them, and forget the owner.

        What cannot be removed keeps nothing else from being removed; returns a sentence for each such thing.
        """
        errors = _remove(tree, ownership.files, ownership.folders) if ownership else []
        if not errors:
            try:
                self.state.drop_ownership(owner)
            except OSError as error:
                errors.append(error)
        return [f"{error.filename} is still there: {error.strerror}" for error in errors]

    def abandoned(self, node: Node, others: dict[str, Ownership], now: float) -> list[Ownership]:
        """Those other owners whose pod has been missing for GONE_FOR_GOOD, by the clock whose time is `now`.

        Nobody else would remove what they have: their node was down, for example, while their stack was deleted.
        """
        running = node.pods({other.pod for other in others.values()}) if others else set[str]()
        missing = [other for other in others.values() if other.pod not in running]
        self._gone_since = {other.pod: self._gone_since.get(other.pod, now) for other in missing}
        return [other for other in missing if now - self._gone_since[other.pod] > GONE_FOR_GOOD]


def _remove(tree: Tree, files: Iterable[str], folders: Iterable[str]) -> list[OSError]:
    """Remove files, and then those of the folders that are empty, the innermost first; returns what went wrong."""
    errors: list[OSError] = []
    folders = sorted(folders, key=len, reverse=True)
    for remove, path in [*((tree.remove, file) for file in files), *((tree.remove_folder, path) for path in folders)]:
        try:
            remove(path)
        except OSError as error:
            errors.append(error)
    return errors
