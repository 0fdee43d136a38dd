"""Each bad cluster gives an error that names setting, value, rule and fix; a good one gives none."""

import asyncio
import dataclasses
import re
from typing import Any, cast

import pulumi
import pytest

from registry import cluster, dns, exposure, gateway, node_port, preflight, settings
from tests.unit.test_settings import FakeConfig

DEFAULTS = settings.load(FakeConfig())


def having(**values: Any) -> settings.Settings:
    """The default settings but for some."""
    return dataclasses.replace(DEFAULTS, **values)


def named(name: str, *, default: str = "") -> cluster.Object:
    """A class of Ingresses or volumes; `default` is the annotation that makes it the default one."""
    return {"metadata": {"name": name, "annotations": {default: "true"} if default else {}}}


def ingress_class(name: str, *, default: bool = False) -> cluster.Object:
    return named(name, default="ingressclass.kubernetes.io/is-default-class" if default else "")


def storage_class(name: str, *, default: bool = False) -> cluster.Object:
    return named(name, default="storageclass.kubernetes.io/is-default-class" if default else "")


def says(error: pulumi.RunError | None, *parts: str) -> None:
    """Check that there is an error, and that it has these parts in this order."""
    assert error is not None
    assert re.search(".*".join(map(re.escape, parts)), str(error), re.DOTALL), str(error)


@pytest.mark.parametrize("version", [(1, 28), (1, 9), (0, 99)])
def test_a_kubernetes_without_native_sidecars_is_refused(version: tuple[int, int]) -> None:
    says(preflight.version_error(version), f"{version[0]}.{version[1]}", "1.29", "Upgrade the cluster")


@pytest.mark.parametrize("version", [(1, 29), (1, 36), (2, 0)])
def test_a_kubernetes_with_native_sidecars_is_accepted(version: tuple[int, int]) -> None:
    assert preflight.version_error(version) is None


@pytest.mark.parametrize(
    ("own", "classes", "parts"),
    [
        ("", [], (":exposure is 'ingress'", "no IngressClass", "set exposure loadBalancer")),
        ("", [ingress_class("nginx")], (":ingressClass is ''", "no IngressClass is marked", "set ingressClass nginx")),
        (
            "",
            [ingress_class("traefik", default=True), ingress_class("nginx", default=True)],
            (":ingressClass is ''", "several", "nginx, traefik", "set ingressClass nginx"),
        ),
        ("gce", [], (":ingressClass is 'gce'", "no IngressClass of that name: the cluster has none")),
        ("gce", [ingress_class("nginx")], (":ingressClass is 'gce'", "has nginx", "set ingressClass nginx")),
    ],
)
def test_an_ingress_without_a_class(own: str, classes: list[cluster.Object], parts: tuple[str, ...]) -> None:
    says(preflight.ingress_class_error(having(ingress_class=own), classes), *parts)
    assert preflight.ingress_class_error(having(ingress_class=own, exposure="nodePort"), classes) is None


@pytest.mark.parametrize(
    ("own", "classes"),
    [
        ("", [ingress_class("nginx"), ingress_class("traefik", default=True)]),
        ("nginx", [ingress_class("nginx"), ingress_class("traefik")]),
        ("nginx", None),
    ],
)
def test_an_ingress_with_a_class(own: str, classes: list[cluster.Object] | None) -> None:
    assert preflight.ingress_class_error(having(ingress_class=own), classes) is None


@pytest.mark.parametrize(
    ("own", "classes", "parts"),
    [
        ("", [], (":storage is 'volume'", "no StorageClass", "set storage memory")),
        ("", [storage_class("ssd")], (":storageClass is ''", "set storageClass ssd", "set storage memory")),
        ("fast", [storage_class("ssd")], (":storageClass is 'fast'", "has ssd", "storageClass ssd", "storage memory")),
    ],
)
def test_a_volume_without_a_class(own: str, classes: list[cluster.Object], parts: tuple[str, ...]) -> None:
    says(preflight.storage_class_error(having(storage_class=own), classes), *parts)
    assert preflight.storage_class_error(having(storage_class=own, storage="memory"), classes) is None


@pytest.mark.parametrize(
    ("own", "classes"),
    [
        ("", [storage_class("a", default=True), storage_class("b", default=True)]),
        ("", [named("old", default="storageclass.beta.kubernetes.io/is-default-class")]),
        ("ssd", [storage_class("ssd")]),
        ("ssd", None),
    ],
)
def test_a_volume_with_a_class(own: str, classes: list[cluster.Object] | None) -> None:
    assert preflight.storage_class_error(having(storage_class=own), classes) is None


def node(name: str, address: str, *, ready: bool = True, created: str = "2026-01-01", **spec: Any) -> cluster.Object:
    return {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                *([{"type": "InternalIP", "address": address}] if address else []),
            ],
        },
    }


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
def test_the_node_at_whose_port_the_registry_is_reached(nodes: list[cluster.Object], address: str) -> None:
    assert node_port.node_address(nodes) == address


def test_a_port_of_the_nodes_needs_the_address_of_one() -> None:
    at_node = having(exposure="nodePort")
    says(preflight.node_address_error(at_node, None), ":address is ''", "may not list nodes", "set address 192.0.2.10")
    says(preflight.node_address_error(at_node, [node("a", "")]), ":address is ''", "InternalIP", "set address")
    assert preflight.node_address_error(at_node, [node("a", "10.0.0.1")]) is None
    assert preflight.node_address_error(having(exposure="nodePort", address="192.0.2.1"), None) is None
    assert preflight.node_address_error(DEFAULTS, None) is None


def test_a_policy_is_quoted_with_what_it_forbids() -> None:
    says(preflight.namespace_error(having(namespace="x"), "denied by y."), "refuses the namespace", "x", "denied by y.")
    says(preflight.privileged_pod_error("ns", "denied by y."), "privileged pods", "ns", "denied by y.", "exempt")
    assert preflight.namespace_error(DEFAULTS, "") is None
    assert preflight.privileged_pod_error("ns", "") is None


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([""], ""),
        (['namespaces "ns" not found'], ""),
        (['pods is forbidden: serviceaccount "default" not found', "denied by y."], "denied by y."),
    ],
)
def test_the_node_agent_is_asked_for_in_its_namespace(answers: list[str], error: str) -> None:
    class Asked:
        def refusal(self, *_: object) -> str:
            return answers.pop(0)

    question = preflight.allow_node_agent(cast(cluster.Cluster, Asked()), "ns", "python:3")
    if error:
        with pytest.raises(pulumi.RunError, match=error):
            asyncio.run(question)
    else:
        assert asyncio.run(question) == "ns"
    assert not answers


def test_a_missing_cert_manager_is_told() -> None:
    by_cert_manager = having(certificate_issuer="cert-manager")
    error = preflight.issuer_error(by_cert_manager, has_cert_manager=False)
    says(error, ":certificateIssuer is 'cert-manager'", "cert-manager.io/v1", "set certificateIssuer tls")
    assert preflight.issuer_error(by_cert_manager, has_cert_manager=True) is None
    assert preflight.issuer_error(DEFAULTS, has_cert_manager=False) is None


@pytest.mark.parametrize(
    ("found", "address"),
    [
        (["10.0.0.9", "10.0.0.10"], "10.0.0.9"),
        (["2001:db8::1", "10.0.0.1"], "10.0.0.1"),
        (["lb.example.com", "2001:db8::1"], "2001:db8::1"),
        (["b.example.com", "a.example.com"], "a.example.com"),
        ([], ""),
    ],
)
def test_the_address_of_several_does_not_depend_on_their_order(found: list[str], address: str) -> None:
    assert exposure.choose_address(found) == exposure.choose_address(found[::-1]) == address


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
    own: str, classes: list[cluster.Object] | None, has: tuple[bool, bool], parts: tuple[str, ...]
) -> None:
    wanted = having(exposure="gateway", gateway_class=own)
    says(preflight.gateway_error(wanted, classes, has_gateways=has[0], has_routes=has[1]), *parts)
    assert preflight.gateway_error(having(), classes, has_gateways=has[0], has_routes=has[1]) is None


@pytest.mark.parametrize(("own", "classes"), [("", GATEWAY_CLASSES[:1]), ("envoy", GATEWAY_CLASSES), ("envoy", None)])
def test_a_gateway_with_a_class(own: str, classes: list[cluster.Object] | None) -> None:
    wanted = having(exposure="gateway", gateway_class=own)
    assert preflight.gateway_error(wanted, classes, has_gateways=True, has_routes=True) is None


def condition(kind: str, status: str, message: str) -> cluster.Object:
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
    assert gateway.complaints(status) == ["no entry point"]
    assert gateway.complaints({"parents": [{"conditions": [condition("Conflicted", "True", "taken")]}]}) == ["taken"]
    assert gateway.complaints({}) == []


@pytest.mark.parametrize(("said", "reason"), [(["no entry point", "x"], "says: no entry point; x."), ([], "not run")])
def test_a_gateway_that_does_not_come_has_a_reason_and_a_fix(said: list[str], reason: str) -> None:
    text = gateway.not_programmed("Gateway", "2m", said)
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

    assert gateway.route_version(cast(cluster.Cluster, Known())) == version


def test_an_address_that_does_not_come_has_a_reason_and_a_fix() -> None:
    for kind, pending, reason in [
        ("loadBalancer", [], "nothing in this cluster gives addresses"),
        ("ingress", ["traefik/traefik"], "traefik/traefik"),
        ("ingress", [], "no controller serves the IngressClass"),
    ]:
        text = exposure.no_address(kind, "2m", pending)
        assert reason in text
        assert "within 2m (the setting addressTimeout)" in text
        assert "pulumi config set exposure nodePort" in text
        assert "pulumi config set address 192.0.2.10" in text


@pytest.mark.parametrize(
    ("found", "reason", "part"),
    [
        (set[str](), "Name or service not known", "has no address for the registry's host r.10-0-0-1.nip.io (Name"),
        ({"0.0.0.0"}, "", "finds 0.0.0.0 instead of 10.0.0.1 for"),
    ],
)
def test_a_machine_that_does_not_find_the_registry_is_told_so(found: set[str], reason: str, part: str) -> None:
    text = dns.warning("r.10-0-0-1.nip.io", "10.0.0.1", "nip.io", found, reason)
    assert part in text
    assert "(rebinding protection): allow nip.io there" in text
    assert "echo '10.0.0.1 r.10-0-0-1.nip.io'" in text


def test_a_machine_that_finds_the_registry_is_left_alone() -> None:
    assert dns.warning("r.10-0-0-1.nip.io", "10.0.0.1", "nip.io", {"10.0.0.1"}, "") == ""
    assert dns.warning("r.example.com", "2001:DB8:0::1", "example.com", {"2001:db8::1"}, "") == ""
    assert dns.warning("lb.example.com", "lb.example.com", "nip.io", {"203.0.113.1"}, "") == ""
