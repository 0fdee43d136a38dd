"""Every way in keeps the contract; each is made alone here, without the rest of the program."""

from collections.abc import Callable
from typing import Any, cast, get_args

import pulumi
import pytest

from registry import settings as setting
from registry.cluster import Cluster
from registry.exposure.choice import WAYS_IN, make_exposure
from tests.unit.support.clusters import ADDRESS, NODE_ADDRESS, QuietCluster
from tests.unit.support.engine import NAMESPACE, Recorder, run_component
from tests.unit.support.settings import having

HOST = "registry.example.com"
EXPOSURES = get_args(setting.Exposure)
PLAIN = ("kubernetes:core/v1:Service", "registry-service")
"""The Service with the plain port."""


def make(exposure: setting.Exposure, host: str = HOST, **values: Any) -> Callable[[], dict[str, Any]]:
    """Make a way in and serve a host with it; the outputs of both."""

    def made() -> dict[str, Any]:
        cluster = cast(Cluster, QuietCluster())
        way_in = make_exposure(having(exposure=exposure, **values), cluster, NAMESPACE)
        served = way_in.serve(pulumi.Output.from_input(host), pulumi.Output.from_input("certificate-tls"))
        return {
            "address": way_in.address,
            "addresses": way_in.addresses,
            "port": way_in.port,
            "served.host": served.host,
            "served.address": served.address,
            "served.addresses": served.addresses,
        }

    return made


def test_every_value_of_the_setting_has_a_way_in() -> None:
    assert set(WAYS_IN) == set(EXPOSURES)


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_a_cluster_that_has_everything_is_no_error(exposure: setting.Exposure) -> None:
    assert list(WAYS_IN[exposure].errors(having(exposure=exposure), cast(Cluster, QuietCluster()))) == []


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_it_has_an_address_and_a_port_and_serves_the_host_there(exposure: setting.Exposure) -> None:
    known = run_component(Recorder(), make(exposure))
    assert known["address"] == known["served.address"] == (NODE_ADDRESS if exposure == "nodePort" else ADDRESS)
    assert known["address"] in known["addresses"]
    assert known["address"] in known["served.addresses"]
    assert known["port"] == (30123 if exposure == "nodePort" else 443)
    assert known["served.host"] == HOST


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_an_address_from_the_settings_replaces_the_clusters(exposure: setting.Exposure) -> None:
    known = run_component(Recorder(), make(exposure, address="192.0.2.10"))
    assert known["address"] == known["served.address"] == "192.0.2.10"
    assert "192.0.2.10" in known["served.addresses"]


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_all_that_it_makes_is_its_own_and_in_the_namespace(exposure: setting.Exposure) -> None:
    recorder = Recorder()
    run_component(recorder, make(exposure))
    [token] = recorder.components()
    assert token == f"private-registry:registry:{WAYS_IN[exposure].__name__}"
    objects = [key for key in recorder.resources if key[0].startswith("kubernetes:")]
    assert len(objects) > 1
    for key in objects:
        assert recorder.resources[key]["metadata"]["namespace"] == NAMESPACE, key
        if key != PLAIN:
            assert recorder.parents[key] == token, key


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_the_service_with_the_plain_port_is_the_same_for_each_and_has_no_address_outside(
    exposure: setting.Exposure,
) -> None:
    recorder, other = Recorder(), Recorder()
    run_component(recorder, make(exposure))
    run_component(other, make("ingress"))
    assert recorder.resources[PLAIN] == other.resources[PLAIN]
    assert recorder.parents[PLAIN] == other.parents[PLAIN] == "pulumi:pulumi:Stack"
    assert recorder.resources[PLAIN]["spec"]["type"] == "ClusterIP"
    assert recorder.resources[PLAIN]["spec"]["ports"] == [{"name": "plain", "port": 5000, "targetPort": "plain"}]


def test_no_object_of_one_way_in_has_a_name_of_another() -> None:
    named: dict[tuple[str, str], str] = {}
    for exposure in EXPOSURES:
        recorder = Recorder()
        run_component(recorder, make(exposure))
        for key, inputs in recorder.resources.items():
            if key[0].startswith("kubernetes:") and key != PLAIN:
                kind = key[0].rpartition(":")[2]
                assert named.setdefault((kind, inputs["metadata"]["name"]), exposure) == exposure
                if kind == "Service":
                    assert [port["targetPort"] for port in inputs["spec"]["ports"]] == ["tls"]
    assert {kind for kind, _ in named} == {"Service", "Ingress", "Gateway", "TLSRoute"}


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_what_serves_one_host_alone_has_another_name_for_another_host_so_that_both_are_served_for_a_while(
    exposure: setting.Exposure,
) -> None:
    one, other = Recorder(), Recorder()
    run_component(one, make(exposure))
    run_component(other, make(exposure, host="another.example.com"))
    for key, inputs in one.resources.items():
        if key[0].startswith("kubernetes:"):
            same_name = inputs["metadata"]["name"] == other.resources[key]["metadata"]["name"]
            assert same_name == (inputs.get("spec") == other.resources[key].get("spec")), key


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_its_outputs_are_registered_once_with_every_public_attribute(exposure: setting.Exposure) -> None:
    recorder = Recorder()
    run_component(recorder, make(exposure))
    [(_, outputs)] = [each for each in recorder.registered if each[0].startswith("private-registry:")]
    public = {name for name in WAYS_IN[exposure].__annotations__ if not name.startswith("_")}
    assert set(outputs) == public == {"address", "addresses", "port"}
