"""Several stacks live at the same time, and events come in random orders: nothing is left on any node."""

import os
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from local_cluster import nodes

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.diagnosis import wait_diagnosis
from .support.faults import state
from .support.node_state import restarts
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]


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

    def __init__(self, cluster: Cluster, stack: Stack, restarts: Restarts) -> None:
        self.cluster, self.stack, self.restarts = cluster, stack, restarts
        self.namespace = ""
        self._restart: Future[None] | None = None

    def play(self, steps: Sequence[str]) -> None:
        """Bring the stack up, and take the steps, until no node is restarting for it."""
        self.up()
        for name in steps:
            STEPS[name](self)
        self.wait()

    def up(self) -> None:
        self.stack.up()
        self.namespace = self.stack.outputs()["namespace"]

    def destroy(self) -> None:
        self.stack.destroy()
        self.namespace = ""

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
    "rollout restart": Life.rollout_restart,
    "pod delete": Life.delete_pods,
    "node restart": Life.restart_node,
    "destroy": Life.destroy,
}
SEEDS = range(int(os.environ.get("PRIVATE_REGISTRY_INTERLEAVINGS", "4")))
AT_ONCE = 4
"""Stacks that live at the same time, and disturb each other by it: the node that restarts is the same for all."""


@pytest.mark.parametrize("seeds", [SEEDS[first : first + AT_ONCE] for first in SEEDS[::AT_ONCE]], ids=str)
def test_any_order_of_events_leaves_nothing_behind(cluster: Cluster, joined_node: str, seeds: range) -> None:
    chosen = {seed: random.Random(seed).choices(list(STEPS), k=5) for seed in seeds}
    for seed, steps in chosen.items():
        print(f"\nseed {seed}: up, {', '.join(steps)}")
    every = (*cluster.nodes, joined_node)
    before, counts = {node: state(node) for node in every}, {node: restarts(node) for node in every}
    with ExitStack() as made, ThreadPoolExecutor(1 + len(seeds)) as pool:
        stacks = [made.enter_context(Stack(environment=cluster.environment)) for _ in seeds]
        node_restarts = Restarts(joined_node, pool)
        lives = [Life(cluster, stack, node_restarts) for stack in stacks]
        list(pool.map(Life.play, lives, chosen.values()))
        for life in lives:
            if life.namespace:
                wait_diagnosis(cluster, life.stack, timeout=150)
        list(pool.map(Life.destroy, lives))
    assert set(every) <= set(cluster.ready_nodes())
    for node in every:
        assert state(node) == before[node], node
    for node in cluster.nodes:
        assert restarts(node) - counts[node] <= 1, node
    restarted = any("node restart" in steps for steps in chosen.values())
    assert restarts(joined_node) == (1 if restarted else counts[joined_node])
