"""The way in `gateway`: what it needs of the cluster, and why it is not ready."""

from typing import cast

import pytest

from registry.cluster import Cluster, Object
from registry.exposure.gateway import complaints, gateway_error, not_programmed, route_version
from tests.unit.support.clusters import named
from tests.unit.support.errors import says

GATEWAY_CLASSES = [named("traefik"), named("envoy")]


@pytest.mark.parametrize(
    ("own", "classes", "has", "parts"),
    [
        ("", None, (False, False), (":exposure is 'gateway'", "no Gateway API", "set exposure loadBalancer")),
        ("", [], (True, False), (":exposure is 'gateway'", "no TLSRoute", "1.5 or newer", "set exposure loadBalancer")),
        ("", [], (True, True), (":exposure is 'gateway'", "no GatewayClass", "set exposure loadBalancer")),
        ("", None, (True, True), (":gatewayClass is ''", "may not list", "set gatewayClass")),
        ("", GATEWAY_CLASSES, (True, True), (":gatewayClass is ''", "several", "envoy, traefik", "gatewayClass envoy")),
        ("gke", GATEWAY_CLASSES, (True, True), (":gatewayClass is 'gke'", "has envoy, traefik", "gatewayClass envoy")),
    ],
)
def test_a_gateway_that_cannot_be(
    own: str, classes: list[Object] | None, has: tuple[bool, bool], parts: tuple[str, ...]
) -> None:
    says(gateway_error(own, classes, has_gateways=has[0], has_routes=has[1]), *parts)


@pytest.mark.parametrize(("own", "classes"), [("", GATEWAY_CLASSES[:1]), ("envoy", GATEWAY_CLASSES), ("envoy", None)])
def test_a_gateway_with_a_class(own: str, classes: list[Object] | None) -> None:
    assert gateway_error(own, classes, has_gateways=True, has_routes=True) is None


def test_the_class_of_the_stacks_own_gateway_is_as_good_as_one_that_is_set_until_it_is_gone() -> None:
    there = {"has_gateways": True, "has_routes": True}
    assert gateway_error("", GATEWAY_CLASSES, "traefik", **there) is None
    assert gateway_error("", None, "traefik", **there) is None
    says(gateway_error("gke", GATEWAY_CLASSES, "traefik", **there), "no GatewayClass", "set gatewayClass traefik")
    says(gateway_error("", GATEWAY_CLASSES, "gke", **there), "GatewayClass gke, which is gone", "gatewayClass envoy")


def condition(kind: str, status: str, message: str) -> Object:
    return {"type": kind, "status": status, "message": message}


def test_what_a_controller_says_is_wrong_is_told_once() -> None:
    listener = {
        "conditions": [
            condition("Accepted", "False", "no entry point"),
            condition("Conflicted", "False", "no conflict"),
            condition("ResolvedRefs", "True", "all there"),
            condition("Programmed", "False", "no entry point"),
        ]
    }
    status = {"conditions": [condition("Accepted", "Unknown", "waiting")], "listeners": [listener]}
    assert complaints(status) == ["no entry point"]
    assert complaints({"parents": [{"conditions": [condition("Conflicted", "True", "taken")]}]}) == ["taken"]
    assert complaints({}) == []


@pytest.mark.parametrize(("said", "reason"), [(["no entry point", "x"], "says: no entry point; x."), ([], "not run")])
def test_a_gateway_that_does_not_come_has_a_reason_and_a_fix(said: list[str], reason: str) -> None:
    text = not_programmed("Gateway", "2m", said)
    assert reason in text
    assert "within 2m (the setting addressTimeout)" in text
    for fix in ("gatewayPort 8443", "exposure loadBalancer", "address 192.0.2.10"):
        assert f"pulumi config set {fix}" in text


@pytest.mark.parametrize(
    ("served", "version"), [({"v1", "v1alpha2"}, "v1"), ({"v1alpha2", "v1alpha3"}, "v1alpha3"), (set[str](), "")]
)
def test_the_newest_version_of_a_route_is_used(served: set[str], version: str) -> None:
    class Known:
        def serves(self, group_version: str, kind: str) -> bool:
            return kind == "TLSRoute" and group_version.removeprefix("gateway.networking.k8s.io/") in served

    assert route_version(cast(Cluster, Known())) == version
