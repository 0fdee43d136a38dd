"""Every way in keeps the contract; each is made alone here, without the rest of the program."""

from collections.abc import Callable
from typing import Any, cast, get_args

import pulumi
import pytest

from registry import settings as setting
from registry.cluster import Cluster, Object
from registry.credentials import auth_mode
from registry.exposure import ingress
from registry.exposure.choice import WAYS_IN, make_exposure
from registry.exposure.contract import COMPONENTS, ExposureState
from registry.exposure.gateway import ROUTE_VERSIONS
from tests.unit.support.clusters import ADDRESS, NODE_ADDRESS, QuietCluster, named, node
from tests.unit.support.engine import NAMESPACE, Recorder, run_component
from tests.unit.support.settings import having

HOST = "registry.example.com"
EXPOSURES = get_args(setting.Exposure)
PLAIN = ("kubernetes:core/v1:Service", "registry-service")
"""The Service with the plain port."""


def make(
    exposure: setting.Exposure,
    host: str = HOST,
    state: ExposureState = ExposureState(),  # noqa: B008 - it never changes
    found: QuietCluster | None = None,
    **values: Any,
) -> Callable[[], dict[str, Any]]:
    """Make a way in and serve a host with it; the outputs of both."""

    def made() -> dict[str, Any]:
        cluster = cast(Cluster, found or QuietCluster())
        way_in = make_exposure(having(exposure=exposure, **values), cluster, NAMESPACE, state)
        served = way_in.serve(pulumi.Output.from_input(host), pulumi.Output.from_input("certificate-tls"))
        return {
            "address": way_in.address,
            "addresses": way_in.addresses,
            "port": way_in.port,
            "served.host": served.host,
            "served.address": served.address,
            "served.addresses": served.addresses,
            "served.publisher": served.publisher,
        }

    return made


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


def test_every_value_of_the_setting_has_a_way_in() -> None:
    assert set(WAYS_IN) == set(EXPOSURES)
    assert set(COMPONENTS) == {f"private-registry:registry:{way_in.__name__}" for way_in in WAYS_IN.values()}


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_a_cluster_that_has_everything_is_no_error(exposure: setting.Exposure) -> None:
    cluster = cast(Cluster, QuietCluster())
    assert list(WAYS_IN[exposure].errors(having(exposure=exposure), cluster, ExposureState())) == []


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
    public = {_camel(name) for name in WAYS_IN[exposure].__annotations__ if not name.startswith("_")}
    classes = {"className"} if exposure in ("ingress", "gateway") else set[str]()
    assert set(outputs) == public == {"address", "addresses", "port", *classes}


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_an_address_in_use_is_kept_while_it_is_good(exposure: setting.Exposure) -> None:
    """A further address that would be preferred, as when a node joins; the order is that of the address."""
    lower = "10.0.0.1"
    state = ExposureState(addresses=frozenset({ADDRESS, NODE_ADDRESS}))
    recorder = Recorder(placeholder=({"ip": lower}, {"ip": ADDRESS}), published=({"ip": lower}, {"ip": ADDRESS}))
    nodes = [node("older", lower, created="2020-01-01"), node("mine", NODE_ADDRESS, unschedulable=True)]
    for known, expected in ((state, {ADDRESS, NODE_ADDRESS}), (ExposureState(), {lower, ADDRESS})):
        found = run_component(recorder, make(exposure, state=known, found=QuietCluster(nodes=nodes)))
        assert found["address"] == found["served.address"]
        assert found["address"] in expected
        if exposure != "gateway":  # the one of the quiet cluster has a single address
            assert (found["address"] == lower) == (known == ExposureState())


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_the_address_from_the_status_of_an_object_names_the_object_that_the_program_makes(
    exposure: setting.Exposure,
) -> None:
    recorder = Recorder()
    path = run_component(recorder, make(exposure))["served.publisher"]
    assert run_component(Recorder(), make(exposure, address="192.0.2.10"))["served.publisher"] == ""
    if exposure == "nodePort":
        assert path == ""
        return
    *_, namespace, plural, name = path.split("/")
    kind = {"ingresses": ":Ingress", "services": "v1:Service", "gateways": ":Gateway"}[plural]
    names = [made["metadata"]["name"] for (typ, _), made in recorder.resources.items() if typ.endswith(kind) if made]
    assert (namespace, name in names) == (NAMESPACE, True)


def objects(exposure: setting.Exposure, **values: Any) -> dict[tuple[str, str], str]:
    """The name of each object of a way in, by the kind and the name of its resource."""
    recorder = Recorder()
    run_component(recorder, make(exposure, **values))
    return {
        key: made["metadata"]["name"] for key, made in recorder.resources.items() if key[0].startswith("kubernetes:")
    }


@pytest.mark.parametrize(
    ("exposure", "one", "other", "host"),
    [
        ("ingress", {"ingress_class": "a"}, {"ingress_class": "b"}, ""),
        ("ingress", {"ingress_class": "a"}, {"ingress_class": "b"}, HOST),
        ("gateway", {"gateway_class": "a"}, {"gateway_class": "b"}, ""),
        ("gateway", {"gateway_port": 443}, {"gateway_port": 8443}, ""),
    ],
)
def test_what_another_controller_serves_is_another_object_of_whose_status_nothing_is_old(
    exposure: setting.Exposure, one: dict[str, Any], other: dict[str, Any], host: str
) -> None:
    before, after = (objects(exposure, **{"host": HOST, **values}) for values in (one, other))
    changed = {kind.rpartition(":")[2] for kind, name in before if before[kind, name] != after[kind, name]}
    assert changed == ({"Ingress"} if exposure == "ingress" else {"Gateway", "TLSRoute"})
    assert all((kind.endswith(":Service")) == (after[kind, name] == before[kind, name]) for kind, name in before)


def test_a_route_is_the_same_object_in_each_version_so_that_an_upgrade_does_not_delete_it() -> None:
    class Upgraded(QuietCluster):
        version_of_routes = "v1alpha2"

        def serves(self, group_version: str, kind: str) -> bool:
            return kind != "TLSRoute" or group_version.endswith(f"/{self.version_of_routes}")

    types = {f"kubernetes:gateway.networking.k8s.io/{version}:TLSRoute" for version in ROUTE_VERSIONS}
    names: set[str] = set()
    for Upgraded.version_of_routes in ROUTE_VERSIONS:
        recorder = Recorder()
        run_component(recorder, make("gateway", found=Upgraded()))
        [key] = [key for key in recorder.resources if key[0].endswith(":TLSRoute")]
        assert key[0] == f"kubernetes:gateway.networking.k8s.io/{Upgraded.version_of_routes}:TLSRoute"
        assert recorder.aliases[key] == types
        names.add(recorder.resources[key]["metadata"]["name"])
    assert len(names) == 1


def test_two_placeholders_of_different_classes_ask_for_different_hosts() -> None:
    hosts: set[str] = set()
    for name in ("a", "b"):
        recorder = Recorder()
        run_component(recorder, make("ingress", ingress_class=name))
        hosts.add(recorder.of(":Ingress", "placeholder")["spec"]["rules"][0]["host"])
    assert len(hosts) == 2


def test_a_stack_keeps_the_class_that_it_has_when_another_one_becomes_the_default() -> None:
    class Classes(QuietCluster):
        def ingress_classes(self) -> list[Object] | None:
            return [named("new", default="ingressclass.kubernetes.io/is-default-class"), named("old")]

    for state, expected in (
        (ExposureState(ingress_class="old"), "old"),
        (ExposureState(), "new"),
        (ExposureState(ingress_class=""), None),
    ):
        recorder = Recorder()
        run_component(recorder, make("ingress", state=state, found=Classes()))
        for name in ("placeholder", "served"):
            assert recorder.of("v1:Ingress", name)["spec"].get("ingressClassName") == expected
    many = QuietCluster(gateway_classes=(named("new"), named("old")))
    recorder = Recorder()
    run_component(recorder, make("gateway", state=ExposureState(gateway_class="old"), found=many))
    assert recorder.of("v1:Gateway", "gateway")["spec"]["gatewayClassName"] == "old"


def test_of_nodes_that_cannot_be_listed_no_address_is_known_so_that_one_may_be_public() -> None:
    unknown = QuietCluster(nodes=None)
    known = run_component(Recorder(), make("nodePort", address="10.0.0.1", found=unknown))
    assert (known["served.address"], known["served.addresses"]) == ("10.0.0.1", [])
    assert auth_mode("auto", known["served.addresses"]) == "basic"
    public = run_component(Recorder(), make("nodePort", address="10.0.0.1", found=QuietCluster(nodes=[node("a", "")])))
    assert auth_mode("auto", public["served.addresses"]) == "basic"


def test_the_ports_that_a_load_balancer_opens_on_nodes_are_reached_at_their_addresses_too() -> None:
    for nodes, mode in ([node("a", NODE_ADDRESS)], "basic"), (QuietCluster().nodes, "push"), (None, "basic"):
        known = run_component(Recorder(), make("loadBalancer", found=QuietCluster(nodes=nodes)))
        assert known["served.address"] == ADDRESS
        assert auth_mode("auto", known["served.addresses"]) == mode


class Unpublished(QuietCluster):
    """A cluster whose Ingress controller publishes nothing for a while, or for ever, or that is busy so long."""

    def __init__(self, *, looks: int, busy: bool = False) -> None:
        super().__init__()
        self.looks, self.busy = looks, busy

    def find(self, path: str) -> Object | None:
        self.looks -= "/ingresses/" in path
        return super().find(path) if self.looks < 0 else {}

    def ask(self, path: str, **query: str) -> str:
        found = super().ask(path, **query)
        if self.busy and "/ingresses/" in path and self.looks >= 0:
            raise ConnectionError("429 Too Many Requests")
        return found


def test_an_ingress_whose_address_is_set_is_not_awaited() -> None:
    for address, annotation in (("10.0.0.1", "skipAwait"), ("", "waitFor")):
        recorder = Recorder()
        run_component(recorder, make("ingress", address=address))
        annotations = recorder.of(":Ingress", "served")["metadata"]["annotations"]
        assert [key for key in annotations if key.startswith("pulumi.com/")] == [f"pulumi.com/{annotation}"]


def test_what_an_ingress_controller_publishes_beside_the_address_that_is_set_counts_also_if_it_comes_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingress, "_INTERVAL", 0.01)
    late = Unpublished(looks=3)
    known = run_component(Recorder(), make("ingress", address="10.0.0.1", found=late))
    assert known["served.addresses"] == ["10.0.0.1", ADDRESS]
    assert known["served.host"] == HOST


def test_a_cluster_that_is_busy_does_not_end_the_wait_for_what_an_ingress_controller_publishes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingress, "_INTERVAL", 0.01)
    busy = Unpublished(looks=3, busy=True)
    known = run_component(Recorder(), make("ingress", address="10.0.0.1", found=busy))
    assert known["served.addresses"] == ["10.0.0.1", ADDRESS]


@pytest.mark.parametrize("silent", [True, False])
def test_of_an_ingress_controller_that_publishes_nothing_no_address_is_known_and_it_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(ingress, "_INTERVAL", 0.1)
    never, recorder = Unpublished(looks=10**6), Recorder()
    state = ExposureState(silent=silent)
    values = {"address": "10.0.0.1", "address_timeout": "1s", "state": state, "found": never}
    known = run_component(recorder, make("ingress", **values))
    assert (known["served.host"], known["served.address"], known["served.addresses"]) == (HOST, "10.0.0.1", [])
    assert auth_mode("auto", known["served.addresses"]) == "basic"
    assert (10**6 - never.looks == 1) == silent
    [(_, outputs)] = [each for each in recorder.registered if each[0].endswith(":Ingress")]
    assert outputs["addresses"] == []


def test_of_a_gateway_that_tells_no_address_none_is_known_so_that_one_may_be_public() -> None:
    class Silent(QuietCluster):
        def read(self, *_: str) -> Object:
            return {}

    known = run_component(Recorder(), make("gateway", address="10.0.0.1", found=Silent()))
    assert (known["served.address"], known["served.addresses"]) == ("10.0.0.1", [])
