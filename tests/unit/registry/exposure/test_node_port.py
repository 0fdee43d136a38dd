"""The way in `nodePort`: at which node the registry is reached."""

import pytest

from registry.cluster import Object
from registry.exposure.node_port import node_address, node_address_error
from tests.unit.support.clusters import node
from tests.unit.support.errors import says

TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("nodes", "address"),
    [
        ([node("b", "10.0.0.2"), node("a", "10.0.0.1")], "10.0.0.1"),
        ([node("a", "10.0.0.1", created="2026-02-01"), node("b", "10.0.0.2")], "10.0.0.2"),
        ([node("a", "10.0.0.1", ready=False), node("b", "10.0.0.2")], "10.0.0.2"),
        ([node("a", "10.0.0.1", unschedulable=True), node("b", "10.0.0.2")], "10.0.0.2"),
        ([node("a", "10.0.0.1", taints=[TAINT]), node("b", "10.0.0.2")], "10.0.0.2"),
        ([node("a", "10.0.0.1", taints=[TAINT])], "10.0.0.1"),
        ([node("a", ""), node("b", "fd00::2")], "fd00::2"),
        ([node("a", "")], ""),
        ([], ""),
    ],
)
def test_the_node_at_whose_port_the_registry_is_reached(nodes: list[Object], address: str) -> None:
    assert node_address(nodes) == address


@pytest.mark.parametrize(
    ("nodes", "address"),
    [
        ([node("a", "10.0.0.1"), node("b", "10.0.0.2", created="2026-02-01", unschedulable=True)], "10.0.0.2"),
        ([node("a", "10.0.0.1"), node("b", "10.0.0.2", created="2026-02-01", taints=[TAINT])], "10.0.0.2"),
        ([node("a", "10.0.0.1"), node("b", "10.0.0.2", created="2026-02-01", ready=False)], "10.0.0.1"),
        ([node("a", "10.0.0.1"), node("c", "10.0.0.3")], "10.0.0.1"),
    ],
    ids=["drained", "tainted", "down", "gone"],
)
def test_the_node_that_was_taken_before_is_kept_while_it_is_ready(nodes: list[Object], address: str) -> None:
    assert node_address(nodes, {"10.0.0.2"}) == address


def test_a_port_of_the_nodes_needs_the_address_of_one() -> None:
    says(node_address_error("", None), ":address is ''", "may not list nodes", "set address 192.0.2.10")
    says(node_address_error("", [node("a", "")]), ":address is ''", "InternalIP", "set address")
    assert node_address_error("", [node("a", "10.0.0.1")]) is None
    assert node_address_error("192.0.2.1", None) is None
