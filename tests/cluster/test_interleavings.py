"""Several stacks live at the same time, and events come in random orders: nothing is left on any node."""

import os
import random
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest

from local_cluster import nodes

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.diagnosis import wait_diagnosis
from .support.faults import state
from .support.kills import kill, running_up
from .support.node_state import restarts
from .support.places import REPOSITORY
from .support.stacks import Stack, namespaces_of

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS: Mapping[str, Sequence[str]] = {
    "passwordVersion": tuple("1234"),
    "auth": ("none", "push", "basic"),
    "dnsSuffix": ("nip.io", "sslip.io"),
}
EXPOSURES: Mapping[str, Sequence[str]] = {"exposure": ("ingress", "loadBalancer", "nodePort")}
LINES = 60
"""Of an `up` that makes everything; one that changes a stack says less, and may be over before it is killed."""


class Restarts:
    """Restarts of one node. Who asks for one while one goes on gets that one."""

    def __init__(self, node: str, pool: ThreadPoolExecutor) -> None:
        self._node, self._pool = node, pool
        self._lock = threading.Lock()
        self._last: Future[None] | None = None

    def start(self) -> Future[None]:
        with self._lock:
            if self._last is None or self._last.done():
                self._last = self._pool.submit(nodes.restart_node, self._node, seconds=120)
            return self._last


class Life:
    """A stack that is brought up, disturbed and destroyed; what goes on by itself is not waited for."""

    def __init__(self, seed: int, cluster: Cluster, stack: Stack, restarts: Restarts, folder: Path) -> None:
        self.seed, self.cluster, self.stack, self.restarts, self.folder = seed, cluster, stack, restarts, folder
        self.namespace = ""
        """Where everything is as the last `up` has left it; empty when an `up` was killed after that."""
        self.killed = False
        """Whether an `up` was killed, and none has ended since."""
        self._chance = random.Random(f"values of {seed}")
        self._restart: Future[None] | None = None

    def play(self) -> None:
        """Bring the stack up, and take the steps of the seed, until no node is restarting for it."""
        self.up()
        for name in steps_of(self.seed):
            STEPS[name](self)
        self.wait()

    def up(self) -> None:
        self.stack.up()
        self.namespace, self.killed = self.stack.outputs()["namespace"], False

    def destroy(self) -> None:
        self.stack.destroy()
        left = namespaces_of(self.cluster, self.stack)
        if left:
            assert self.killed, left
            # The state does not know what the killed `up` has made last; `make leftovers` lists its namespace.
            self.cluster.kubectl("delete", "namespace", *left, timeout=120)
        self.namespace, self.killed = "", False

    def change(self, values: Mapping[str, Sequence[str]]) -> None:
        """Give one of these settings any of its values, and bring the stack up with it."""
        self.set(values)
        self.up()

    def set(self, values: Mapping[str, Sequence[str]]) -> None:
        key = self._chance.choice(list(values))
        self.stack.pulumi("config", "set", key, self._chance.choice(values[key]))

    def kill_up(self) -> None:
        """Kill an `up` that changes something at any line of what it says, and take its lock away."""
        self.set({**SETTINGS, **EXPOSURES})
        with running_up(self.stack, subprocess.PIPE) as process:
            assert process.stdout
            list(islice(process.stdout, self._chance.randrange(LINES)))
            kill(process, self.stack)
        self.stack.pulumi("cancel", "--yes")
        self.namespace, self.killed = "", True

    def namesake(self) -> None:
        """Somebody else's stack of the same name comes and goes. Its settings are in the same file, which goes too."""
        file = REPOSITORY / f"Pulumi.{self.stack.name}.yaml"
        text = file.read_text()
        elsewhere = {**self.stack.environment, "PULUMI_BACKEND_URL": f"file://{self.folder}"}
        with Stack(environment=elsewhere, name=self.stack.name) as other:
            other.up()
            assert other.outputs()["namespace"] != self.namespace
        file.write_text(text)

    def rollout_restart(self) -> None:
        def restarted() -> bool:
            command = ("kubectl", "rollout", "restart", "daemonset/trust", "-n", self.namespace)
            done = self.cluster.run(*command, check=False)
            assert done.returncode == 0 or "within the past second" in done.stderr, done.stderr
            return done.returncode == 0

        if self.namespace:
            wait_until(restarted, "kubectl, which refuses two within a second, restarts the rollout", timeout=10)

    def delete_pods(self) -> None:
        if self.namespace:
            label = "app.kubernetes.io/name=trust"
            self.cluster.kubectl("delete", "pod", "-n", self.namespace, "-l", label, "--wait=false")

    def restart_node(self) -> None:
        self.wait()
        self._restart = self.restarts.start()

    def wait(self) -> None:
        """Until no node is restarting for it."""
        if self._restart:
            self._restart.result()


STEPS: dict[str, Callable[[Life], None]] = {
    "up": Life.up,
    "change of a setting": lambda life: life.change(SETTINGS),
    "another way in": lambda life: life.change(EXPOSURES),
    "up that is killed": Life.kill_up,
    "stack of the same name": Life.namesake,
    "rollout restart": Life.rollout_restart,
    "pod delete": Life.delete_pods,
    "node restart": Life.restart_node,
    "destroy": Life.destroy,
}
SEEDS = range(int(os.environ.get("PRIVATE_REGISTRY_INTERLEAVINGS", "4")))
AT_ONCE = 4
"""Stacks that live at the same time, and disturb each other by it: the node that restarts is the same for all."""
GROUPS = [SEEDS[first : first + AT_ONCE] for first in SEEDS[::AT_ONCE]]


def steps_of(seed: int) -> list[str]:
    """The names of the steps that a stack takes."""
    return random.Random(seed).choices(list(STEPS), k=5)


@pytest.mark.parametrize("seeds", GROUPS, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_any_order_of_events_leaves_nothing_behind(
    cluster: Cluster, joined_node: str, tmp_path: Path, seeds: range
) -> None:
    for seed in seeds:
        print(f"\nseed {seed}: up, {', '.join(steps_of(seed))}")
    every = (*cluster.nodes, joined_node)
    before, counts = {node: state(node) for node in every}, {node: restarts(node) for node in every}
    with ExitStack() as made, ThreadPoolExecutor(1 + len(seeds)) as pool:
        node_restarts = Restarts(joined_node, pool)
        lives: list[Life] = []
        for seed in seeds:
            stack, folder = made.enter_context(Stack(environment=cluster.environment)), tmp_path / str(seed)
            folder.mkdir()
            lives.append(Life(seed, cluster, stack, node_restarts, folder))
        list(pool.map(Life.play, lives))
        for life in lives:
            if life.namespace:
                wait_diagnosis(cluster, life.stack, timeout=150)
        list(pool.map(Life.destroy, lives))
    assert set(every) <= set(cluster.ready_nodes())
    for node in every:
        assert state(node) == before[node], node
    for node in cluster.nodes:
        assert restarts(node) - counts[node] <= 1, node
    restarted = any("node restart" in steps_of(seed) for seed in seeds)
    assert restarts(joined_node) == (1 if restarted else counts[joined_node])
