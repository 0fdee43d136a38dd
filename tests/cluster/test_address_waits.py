"""An address that does not come, or that cannot be right: the wait is bounded, and the error says what to do."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from .support.bare_cluster import SECONDS, fails, ingress_class, nothing_is_left
from .support.cluster import Cluster
from .support.meanwhile import again_and_again
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"exposure": "loadBalancer"}, ["nothing in this cluster gives addresses to Services of type LoadBalancer"]),
        ({"exposure": "ingress"}, ["no controller serves the IngressClass", "pulumi config set address"]),
    ],
    ids=["loadBalancer", "ingress"],
)
def test_an_address_that_does_not_come_is_waited_for_a_bounded_time(
    classes: Cluster, values: dict[str, str], parts: list[str]
) -> None:
    classes.apply(ingress_class("nginx", default=True))
    bounds = {"storage": "memory", "addressTimeout": "3s", "readyTimeout": "15s"}
    with Stack(environment=classes.environment, settings={**values, **bounds}) as stack:
        fails(
            stack,
            "no address within 3s (the setting addressTimeout)",
            *parts,
            "pulumi config set exposure nodePort",
            seconds=SECONDS + 15,
        )
        stack.destroy()
        nothing_is_left(classes, stack)


def test_an_ingress_controller_without_a_load_balancer_is_named(classes: Cluster) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "ingress-nginx", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
    }
    classes.apply(ingress_class("nginx", default=True), service)
    values = {"storage": "memory", "addressTimeout": "3s", "readyTimeout": "15s"}
    try:
        with Stack(environment=classes.environment, settings=values) as stack:
            fails(stack, "its Service may be default/ingress-nginx, which has none", seconds=SECONDS + 15)
    finally:
        classes.kubectl("delete", "service", "ingress-nginx", "-n", "default")


@contextmanager
def publishing(cluster: Cluster, points: Sequence[Mapping[str, str]]) -> Iterator[None]:
    """Publish an address for each Ingress, the first one for the placeholder, as an Ingress controller does."""
    left = list(points)

    def publish() -> None:
        for ingress in cluster.get("ingresses", "--all-namespaces")["items"] if left else ():
            if left and not ingress["status"].get("loadBalancer"):
                status = {"status": {"loadBalancer": {"ingress": [left.pop(0)]}}}
                path = ("ingress", ingress["metadata"]["name"], "-n", ingress["metadata"]["namespace"])
                cluster.kubectl("patch", *path, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    with again_and_again(publish, seconds=0.2):
        yield


ADDRESSES: dict[str, tuple[list[dict[str, str]], tuple[str, ...]]] = {
    "localhost": (
        [{"hostname": "localhost"}],
        ("publishes the address 'localhost', under which every machine reaches itself", "pulumi config set address"),
    ),
    "loopback": (
        [{"ip": "127.0.0.1"}],
        ("publishes the address '127.0.0.1', under which every machine reaches itself", "pulumi config set address"),
    ),
    "an address of its own for each Ingress": (
        [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}],
        ("got the address 192.0.2.2, but the placeholder got 192.0.2.1", "exposure loadBalancer", "ingressClass"),
    ),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_that_cannot_be_right_is_told(classes: Cluster, case: str) -> None:
    points, parts = ADDRESSES[case]
    classes.apply(ingress_class("nginx", default=True))
    values = {"storage": "memory", "readyTimeout": "15s"}
    with publishing(classes, points), Stack(environment=classes.environment, settings=values) as stack:
        fails(stack, *parts, seconds=SECONDS + 15)
        stack.destroy()
        nothing_is_left(classes, stack)
