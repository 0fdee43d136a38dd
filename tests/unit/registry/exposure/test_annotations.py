"""Annotations, class, sources and port reach the object that they are for, and are refused with another way in."""

from typing import Any, cast, get_args

import pulumi
import pytest

from registry import settings as setting
from registry.cluster import Cluster, Object
from registry.exposure import choice
from registry.exposure.address import LABELS
from registry.exposure.contract import ExposureState
from registry.exposure.load_balancer import LoadBalancer, nodes_outside
from registry.exposure.node_port import NodePort, node_port_error
from tests.unit.support.clusters import QuietCluster, node
from tests.unit.support.engine import Recorder, run_program
from tests.unit.support.errors import says
from tests.unit.support.settings import having

STATE = ExposureState()
GIVEN: dict[str, dict[str, Any]] = {
    "ingressAnnotations": {"ingress_annotations": {"a": "b"}},
    "serviceAnnotations": {"service_annotations": {"a": "b"}},
    "loadBalancerClass": {"load_balancer_class": "x"},
    "allowedSources": {"allowed_sources": ("10.0.0.0/8",)},
    "nodePort": {"node_port": 30443},
}


@pytest.mark.parametrize("key", choice.MEANT_FOR)
@pytest.mark.parametrize("exposure", get_args(setting.Exposure))
def test_a_setting_is_refused_with_a_way_in_for_which_it_means_nothing(key: str, exposure: setting.Exposure) -> None:
    errors = choice.meaning_errors(having(exposure=exposure, **GIVEN[key]))
    if exposure in choice.MEANT_FOR[key]:
        assert errors == []
        return
    [error] = errors
    says(error, f"exposure is '{exposure}'", f"the setting {key} has a meaning with", f"pulumi config rm {key}")


def test_by_default_nothing_is_without_meaning() -> None:
    assert set(choice.MEANT_FOR) == set(GIVEN)
    for exposure in get_args(setting.Exposure):
        assert choice.meaning_errors(having(exposure=exposure)) == []


def test_the_load_balancer_gets_annotations_class_and_sources() -> None:
    recorder = Recorder()
    run_program(
        recorder, exposure="loadBalancer", serviceAnnotations='{"scheme": "internal"}', loadBalancerClass="x/nlb",
        allowedSources='["10.0.0.0/8"]',
    )  # fmt: skip
    service = recorder.of(":Service", "load-balancer")
    assert service["metadata"]["annotations"]["scheme"] == "internal"
    assert service["spec"]["loadBalancerClass"] == "x/nlb"
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert "scheme" not in recorder.of(":Service", "registry-service")["metadata"]["annotations"]


def test_without_these_settings_the_service_is_as_it_was() -> None:
    recorder = Recorder()
    run_program(recorder, exposure="loadBalancer")
    assert set(recorder.of(":Service", "load-balancer")["spec"]) == {"type", "selector", "ports"}


def test_both_ingresses_have_what_policies_against_plain_http_want() -> None:
    recorder = Recorder()
    run_program(recorder)
    for name in ("placeholder", "ingress-served"):
        ingress = recorder.of(":Ingress", name)
        assert ingress["metadata"]["annotations"]["kubernetes.io/ingress.allow-http"] == "false"
        [tls] = ingress["spec"]["tls"]
        assert tls["hosts"] == [rule["host"] for rule in ingress["spec"]["rules"]]
        assert ("secretName" in tls) == (name == "ingress-served")


def test_both_ingresses_get_the_annotations_and_one_of_ours_can_be_replaced() -> None:
    recorder = Recorder()
    size = "nginx.ingress.kubernetes.io/proxy-body-size"
    run_program(recorder, ingressAnnotations=f'{{"a": "b", "{size}": "5g"}}')
    placeholder, served = (recorder.of(":Ingress", name) for name in ("placeholder", "ingress-served"))
    assert placeholder["metadata"]["annotations"]["a"] == served["metadata"]["annotations"]["a"] == "b"
    assert served["metadata"]["annotations"][size] == "5g"


def test_the_node_port_gets_its_number_and_annotations() -> None:
    recorder = Recorder()
    run_program(recorder, exposure="nodePort", nodePort="30443", serviceAnnotations='{"a": "b"}')
    service = recorder.of(":Service", "node-port")
    assert service["spec"]["ports"][0]["nodePort"] == 30443
    assert service["metadata"]["annotations"]["a"] == "b"


def test_a_port_outside_of_the_usual_range_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    cluster = cast(Cluster, QuietCluster())
    assert NodePort.errors(having(exposure="nodePort", node_port=30443), cluster, STATE) == []
    assert warned == []
    assert NodePort.errors(having(exposure="nodePort", node_port=20000), cluster, STATE) == []
    assert "nodePort is 20000" in warned[0]
    assert "from 30000 to 32767 only" in warned[0]


def holder(namespace: str, name: str) -> Object:
    """A Service with the port 30443 of the nodes."""
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": dict(LABELS)},
        "spec": {"ports": [{"nodePort": 30443}, {"port": 80}]},
    }


def test_a_port_that_another_service_has_is_refused_with_the_holder_and_that_of_the_service_itself_is_not() -> None:
    web = holder("shop", "web")
    for own in ("", "registry-dev"):
        says(node_port_error(30443, [web], own, own), "nodePort is '30443'", "the Service shop/web has this port")
        assert node_port_error(30444, [web], own, own) is None
        assert node_port_error(0, [web], own, own) is None
    own = holder("registry-dev", "node-port")
    assert node_port_error(30443, [own], "registry-dev", "registry-dev") is None
    says(node_port_error(30443, [own, web], "registry-dev", "registry-dev"), "the Service shop/web has this port")


@pytest.mark.parametrize(
    ("place", "now"), [(("registry-dev", "load-balancer"), "registry-dev"), (("registry-dev", "node-port"), "new")]
)
def test_a_port_that_the_stack_gives_up_only_at_the_end_of_the_up_is_refused_before_it_begins(
    place: tuple[str, str], now: str
) -> None:
    class Cluster_(QuietCluster):
        def services(self) -> list[Object]:
            return [holder(*place)]

    given = having(exposure="nodePort", node_port=30443, namespace=now if now == "new" else "")
    state = ExposureState(namespace="registry-dev")
    [error] = NodePort.errors(given, cast(Cluster, Cluster_()), state)
    says(error, "nodePort is '30443'", "/".join(place), "the stack's own and goes at the end of the up", "nodePort 0")


def test_nodes_outside_of_the_allowed_sources_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("node-a", "10.0.0.1"), node("node-b", "192.168.0.1"), node("node-c", "")]
    assert nodes_outside(["10.0.0.0/8"], nodes) == ["node-b"]
    assert nodes_outside(["10.0.0.0/8", "192.168.0.0/16"], nodes) == []
    assert nodes_outside([], nodes) == []
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    cluster = cast(Cluster, QuietCluster(nodes=nodes))
    assert LoadBalancer.errors(having(allowed_sources=("10.0.0.0/8",)), cluster, STATE) == ()
    assert "leaves out the addresses of node-b" in warned[0]
