"""One node, one owner: bring the node to the state in which its runtime trusts the registry, or back to how it was.

Everything here can be cut off at any point and run again. The order of effects makes that work: first the claim of what
will be written, then folders and files, and last the runtime's configuration. Removal goes in the opposite order.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import connect, discover, runtimes, tomledit, vendors
from .backoff import Backoff
from .certificates import fingerprints
from .client import runtime_client
from .faults import Fault, Left, Reason
from .files import Signature, Tree, unchanged
from .host import Host, HostCommand
from .node import Node, Runtime
from .placement import GONE_FOR_GOOD, Placement
from .runtime_config import RuntimeConfig
from .runtime_contract import RuntimeLayout
from .state import OWNERS, Ownership, State

LOOK_AROUND_EVERY = 60.0
"""Seconds between two looks at all processes of the node, which cost more the more processes there are."""
APART = 1.0
"""Seconds between two looks that have to meet the same before the next may be a short one. Within less, a file may have
been changed twice, and both have the same time."""


@dataclass(frozen=True)
class AgentSettings:
    """What the DaemonSet says."""

    host: str
    """The registry, exactly as in image references, with port if it has one."""
    owner: str
    """Unique for each stack on the cluster, and safe as a file name."""
    pod: str
    """Uid of this pod."""
    node_name: str
    """Name of the node, for sentences."""
    restart_allowed: bool = True
    """Whether a runtime that reads its configuration only at start may be restarted."""


@dataclass(frozen=True)
class _Look:
    """What a look has found that left nothing to do."""

    ca: str
    runtime: Runtime | None
    top: Path
    """Where the files are that the runtime sees."""
    met: dict[str, Signature]
    """Every file and folder that counted."""


@dataclass
class Status:
    """What the doctor wants to know beside the outcome."""

    runtime: str = ""
    version: str = ""
    roots: list[str] = field(default_factory=list[str])
    """The folders with the CA, first the one that the running runtime reads at a pull."""
    ca: list[str] = field(default_factory=list[str])
    """SHA-256 of each certificate of the CA."""
    proxy: str = ""
    """The proxy through which the runtime pulls, without credentials; empty if there is none."""


@dataclass
class Agent:
    """Call `tick` again and again, and `remove` at the end."""

    settings: AgentSettings
    node: Node
    run: HostCommand
    pause: Callable[[float], None]
    """Waits some seconds. Raises Stopped if the pod has to end."""
    log: Callable[[str], None]
    check: connect.Check = connect.check
    clock: Callable[[], float] = time.monotonic
    status: Status = field(default_factory=Status)
    connected: bool = False
    """Whether the registry has been reached from this node since the agent's start."""
    _runtime: Runtime | None = None
    _claimed: bool = False
    """Whether this agent has claimed the owner's files. From then on it gives way to a younger pod."""
    _leaving: bool = False
    """Whether this agent has begun to take away what is there."""
    _next_look_around: float = float("-inf")
    _look: _Look | None = None
    """The last look, if it left nothing to do."""
    _since: float = 0.0
    """Since when all looks have found the same as that one."""
    _short_until: float = float("-inf")
    """Until when a look may be a short one."""

    def __post_init__(self) -> None:
        settings, host = self.settings, Host(self.node, self.run, self.pause, self.clock)
        self._state = State(self.node.tree)
        self._searching, self._writing = Backoff(self.clock), Backoff(self.clock)
        self._placement = Placement(
            self._state, settings.owner, settings.host, settings.pod, settings.node_name, self.log
        )
        self._config = RuntimeConfig(host, self._state, settings.node_name, settings.restart_allowed, self.log)

    def tick(self, ca: str) -> bool:
        """Bring the node to the wanted state; cheap if it is there. `ca` is the CA as PEM text.

        As long as nothing has changed that two looks have met, the next ones are short: they ask for the times of those
        files, and read none of them. A whole look follows at the latest when the next look around is due.

        If `ca` is empty, the registry's certificate is publicly trusted, and what this owner has written is taken away.

        Returns False if another agent holds the lock for longer than a moment. Raises Fault if something stands in the
        way.
        """
        last, now = self._look, self.clock()
        if now < self._short_until and last and self._is_as_before(last, ca):
            return True
        self._look = None
        self.node.met.clear()
        try:
            done = self._tick(ca)
            if done:
                self._look = _Look(ca, self._runtime, self._view().top, dict(self.node.met))
            if self._look is None or self._look != last:
                self._since = self.clock()
            self._short_until = float("-inf")
            if now - self._since >= APART:
                self._short_until = min(self._next_look_around, self._placement.due(now))
            return done
        except OSError as error:
            path = str(error.filename or "").removeprefix(str(self._view().top)).removeprefix(str(self.node.tree.top))
            release = (self.node.tree.read("/etc/os-release") or b"").decode(errors="replace")
            raise vendors.cannot_write(error, path, self.settings.node_name, release) from error
        except tomledit.EditError as error:
            name = self.settings.node_name
            sentence = f"The runtime's configuration on node {name} cannot be changed safely: {error}."
            raise Fault(Reason.CONFIG_INVALID, sentence, error=str(error)) from error

    def remove(self) -> bool:
        """Take everything of this owner off the node.

        Returns False if it belongs to another pod that runs on this node, or if nothing is there. What a pod has left
        that is gone, for example since the node had no power, nobody else may ever take away. Raises Left if something
        could not be taken off; all else is gone then, and calling this again may do the rest.
        """
        try:
            with self._state.lock(seconds=5) as held:
                if not held:
                    raise Left("nothing was removed: another agent has been at work on this node for 5 s")
                mine = self._state.ownership(self.settings.owner)
                if mine and mine.pod != self.settings.pod and self.node.pods({mine.pod}):
                    return False
                with contextlib.suppress(Fault):
                    runtime = self._current_runtime()
                    self._config.settle(self._view(), runtime, leaving=True)
                problems = self._leave(self.settings.owner, mine)
        except OSError as error:
            problems, mine = [f"{error.filename or 'a file'}: {error.strerror or error}"], None
        self._leaving = self._leaving or mine is not None
        if problems:
            raise Left("; ".join(problems))
        return self._leaving

    def check_connection(self, ca: str) -> None:
        """Check that the node reaches the registry. Raises Fault, see `connect.check`."""
        settings = self.settings
        client = runtime_client(self.node, self._runtime, settings.node_name, settings.host, ca)
        self.status.proxy = str(client.proxy or "")
        self.check(settings.host, ca, client)

    def _tick(self, ca: str) -> bool:
        owner = self.settings.owner
        self.status.ca = list(fingerprints(ca))
        runtime, tree = self._current_runtime(), self._view()
        if not self.status.ca:
            return self._leave_it_to_the_node(tree)
        with self._state.lock(seconds=1) as held:
            if not held:
                return False
            mine = self._state.ownership(owner)
            if self._gives_way(mine):
                return True
            self._config.settle(tree, runtime)
            layout, ca_file = self._layout(runtime, tree), f"{OWNERS}/{owner}.crt"
            plan = self._config.as_read(tree, runtime, layout.plan(self.settings.host, ca_file), ca_file)
            files = [plan.ca_file] if plan.ca_file else []
            files += self._placement.files(layout, tree, plan.roots)
            self.status.roots = [path.rpartition("/")[0] for path in files]
            with self._writing.attempt(files, ca, runtime.process):
                self._placement.put(tree, mine, self._others, files, ca.encode(), self.clock())
                self._claimed = True
                self._clean_up_after_others()
                if not plan.edit:
                    self._config.restore(tree, owner)
        if not plan.ca_file:
            layout.check_neighbours(files[0])
        if not self.connected:
            self.check_connection(ca)
            self.connected = True
        if plan.edit:
            with self._state.lock(seconds=1) as held:
                if not held:
                    return False
                self._runtime = self._config.apply(
                    tree, runtime, owner, plan, lambda file: self._placement.claim_folders(tree, file)
                )
        return True

    def _leave_it_to_the_node(self, tree: Tree) -> bool:
        """Have the runtime trust what it trusts by itself; nothing is taken away before that is seen to work."""
        if self.status.roots or not self.connected:
            self.check_connection("")
            self.connected = True
        with self._state.lock(seconds=1) as held:
            if not held:
                return False
            mine = self._state.ownership(self.settings.owner)
            if self._gives_way(mine):
                return True
            self._config.settle(tree, self._current_runtime())
            with self._writing.attempt():
                self._placement.put(tree, mine, self._others, [], b"", self.clock())
                self._claimed = True
                self.status.roots = []
                self._clean_up_after_others()
                self._config.restore(tree, self.settings.owner)
        return True

    def _gives_way(self, mine: Ownership | None) -> bool:
        """Whether a younger pod is responsible now; a look around asks whether that still runs."""
        if not self._claimed or mine is None or mine.pod == self.settings.pod:
            return False
        if self.clock() >= self._next_look_around:
            if not self.node.pods({mine.pod}):
                return False
            self._next_look_around = self.clock() + LOOK_AROUND_EVERY
        return True

    def _is_as_before(self, look: _Look, ca: str) -> bool:
        """Whether another look would find the same, which costs much less to find out than that look."""
        runtime = look.runtime
        is_same = ca == look.ca and runtime is not None and self.node.identity(runtime.process[0]) == runtime.process
        return is_same and self._view().top == look.top and unchanged(look.met)

    def _layout(self, runtime: Runtime, tree: Tree) -> RuntimeLayout:
        return runtimes.layout_of(runtime, tree, self.settings.node_name, self._config.original)

    def _others(self) -> dict[str, Ownership]:
        """What the other owners have."""
        return {name: what for name, what in self._state.ownerships().items() if name != self.settings.owner}

    def _clean_up_after_others(self) -> None:
        """Remove what owners have left whose pod is gone for good; rarely, since this looks at every process."""
        if self.clock() < self._next_look_around:
            return
        self._next_look_around = self.clock() + LOOK_AROUND_EVERY
        met = dict(self.node.met)
        self._placement.keep(self.node, self.connected, self.clock())
        others = self._others()
        for other in self._placement.abandoned(self.node, others, self.clock()):
            problems = self._leave(other.owner, other)
            gone = f"its pod {other.pod} is gone for {GONE_FOR_GOOD:g} s"
            self.log("; ".join([f"removed what {other.owner} left on this node: {gone}", *problems]))
        for owner in self._config.orphans({*others, self.settings.owner}):
            self.log("; ".join([f"removed what {owner} left in a configuration", *self._leave(owner, None)]))
        self.node.met.clear()
        self.node.met.update(met)  # what the others have decides nothing at the next look

    def _leave(self, owner: str, ownership: Ownership | None) -> list[str]:
        """Take everything of an owner off the node; returns a sentence for each thing that stays."""
        tree = self._view()
        return [*self._config.leave(tree, owner), *self._placement.remove(tree, owner, ownership)]

    def _current_runtime(self) -> Runtime:
        """The runtime that runs now. It is searched for only if the process that was found last is gone."""
        if self._runtime is None or self.node.identity(self._runtime.process[0]) != self._runtime.process:
            self._runtime = None
            with self._searching.attempt(self._leaving):  # it looks at every process
                self._runtime = discover.runtime(self.node)
            self.status.runtime, self.status.version = self._runtime.name, self._runtime.version
        return self._runtime

    def _view(self) -> Tree:
        """The files that the runtime sees, or the node's own files as long as no runtime was found."""
        return self.node.view(self._runtime.process[0]) if self._runtime else self.node.tree
