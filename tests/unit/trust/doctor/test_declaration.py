"""What the doctor takes from the stack's state."""

from trust.doctor.facts import Declared, Json
from trust.doctor.read import declaration


def state(*resources: Json) -> Json:
    stack = {"urn": "urn:pulumi:pr-42::private-registry::pulumi:pulumi:Stack::x", "type": "pulumi:pulumi:Stack"}
    return {"deployment": {"resources": [{**stack, "outputs": {}}, *resources]}}


NAMESPACE = {"urn": "n", "type": "kubernetes:core/v1:Namespace", "outputs": {"metadata": {"name": "ns"}}}


def test_a_state_that_up_left_half_way_tells_the_namespace() -> None:
    assert declaration("", state(NAMESPACE)) == Declared(stack="pr-42", namespace="ns")


def test_a_state_with_the_config_map_tells_host_and_ca() -> None:
    other = {"metadata": {"name": "registry-config"}, "data": {"config.yml": ""}}
    lookup = {"metadata": {"name": "private-registry"}, "data": {"host": "h", "ca.crt": "c"}}
    maps = ({"urn": "m", "type": "kubernetes:core/v1:ConfigMap", "outputs": outputs} for outputs in (other, lookup))
    assert declaration("pr-42", state(NAMESPACE, *maps)) == Declared(stack="pr-42", namespace="ns", host="h", ca="c")


def test_an_empty_state_tells_nothing() -> None:
    assert declaration("pr-42", {"deployment": {}}) == Declared(stack="pr-42")
