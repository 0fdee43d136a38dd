"""Many stacks on one cluster: each is proved on every node, and the last one to go leaves the nodes as they were."""

import random
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.diagnosis import wait_diagnosis
from .support.faults import state
from .support.node_state import restarts
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(900)]

STACKS = 10
AT_ONCE = 4


def test_ten_stacks_four_at_a_time_and_destroyed_in_random_order_leave_every_node_as_it_was(cluster: Cluster) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    before = {node: state(node) for node in cluster.nodes}
    counts = {node: restarts(node) for node in cluster.nodes}
    settings = {"readyTimeout": "4m", "storageSize": "1Gi"}
    with ExitStack() as made, ThreadPoolExecutor(AT_ONCE) as pool:
        stacks = [made.enter_context(Stack(environment=cluster.environment, settings=settings)) for _ in range(STACKS)]
        list(pool.map(Stack.up, stacks))
        outputs = [stack.outputs() for stack in stacks]
        assert len({known["registryUrl"] for known in outputs}) == STACKS
        for stack in stacks:
            wait_diagnosis(cluster, stack, timeout=60)
        order = random.Random(seed).sample(stacks, STACKS)
        list(pool.map(Stack.destroy, order))
    for node in cluster.nodes:
        assert state(node) == before[node], node
        assert restarts(node) - counts[node] <= 1, node
    assert set(cluster.nodes) <= set(cluster.ready_nodes())
    gone = {known["namespace"] for known in outputs}
    wait_until(
        lambda: gone.isdisjoint(entry["metadata"]["name"] for entry in cluster.get("namespaces")["items"]),
        "the namespaces are gone",
        timeout=60,
    )
