"""A host that somebody else serves is refused, by a sentence that names whoever serves it."""

import asyncio
from typing import Any, cast

import pulumi
import pytest
from kubernetes.client.exceptions import ApiException

from registry.cluster import Cluster, Object
from registry.exposure.taken import PATHS, move_error, own_host
from registry.settings import load
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.errors import says
from tests.unit.support.settings import FakeConfig, having

HOST = "registry-x.10-0-0-1.nip.io"


def serving(namespace: str, kind: str, host: str) -> Object:
    spec = {"rules": [{"host": host}]} if kind == "Ingress" else {"hostnames": [host]}
    return {"metadata": {"namespace": namespace, "name": "theirs"}, "spec": spec}


def host(found: dict[str, list[Object]], address: str = "10.0.0.1", port: int = 443, **values: Any) -> str:
    objects: dict[str, Object] = {path: {"items": items} for path, items in found.items()}
    cluster = cast(Cluster, QuietCluster(objects=objects))
    return asyncio.run(own_host(having(**values), cluster, "registry-x", address, port))


@pytest.mark.parametrize("exposure", ["ingress", "gateway"])
@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in PATHS.items() for path in paths])
def test_a_host_that_a_stranger_serves_is_refused_and_the_stranger_is_named(
    kind: str, path: str, exposure: str
) -> None:
    pattern = f"{HOST} is served by the {kind} team/theirs already.*pulumi config set host.*kubectl delete"
    with pytest.raises(pulumi.RunError, match=pattern):
        host({path: [serving("team", kind, HOST)]}, exposure=exposure)


@pytest.mark.parametrize("exposure", ["ingress", "gateway"])
def test_behind_a_load_balancer_with_a_name_only_the_settings_that_help_are_named(exposure: str) -> None:
    items = [serving("registry-y", "Ingress", "lb.example.com")]
    with pytest.raises(pulumi.RunError, match="publishes no address.*set host.*set exposure loadBalancer"):
        host({PATHS["Ingress"][0]: items}, "LB.example.com.", exposure=exposure)


@pytest.mark.parametrize("exposure", ["loadBalancer", "nodePort"])
def test_a_way_in_of_the_stacks_own_is_not_concerned(exposure: str) -> None:
    items = [serving("registry-y", "Ingress", "lb.example.com")]
    assert host({PATHS["Ingress"][0]: items}, "lb.example.com", exposure=exposure) == "lb.example.com"


@pytest.mark.parametrize(
    "item",
    [
        serving("registry-x", "Ingress", HOST),
        serving("team", "Ingress", "*.10-0-0-1.nip.io"),
        serving("team", "Ingress", "other.example.com"),
        {"metadata": {"namespace": "team", "name": "theirs"}, "spec": {"defaultBackend": {}}},
        {"metadata": {"namespace": "team", "name": "theirs"}, "spec": {"rules": [{"http": {}}]}},
    ],
)
def test_whatever_serves_no_such_host_elsewhere_is_no_error(item: Object) -> None:
    assert host({PATHS["Ingress"][0]: [item]}) == HOST


@pytest.mark.parametrize("exposure", ["ingress", "loadBalancer"])
def test_images_that_would_come_from_this_very_registry_are_refused(exposure: str) -> None:
    settings = load(FakeConfig(imageRegistry=f"{HOST}/hub", exposure=exposure))
    with pytest.raises(pulumi.RunError, match=f"{HOST}/hub/registry:3 would come from.*set imageRegistry docker.io"):
        asyncio.run(own_host(settings, cast(Cluster, QuietCluster()), "registry-x", "10.0.0.1", 443))


def test_a_host_of_the_settings_is_compared_without_its_port() -> None:
    items = [serving("team", "TLSRoute", "registry.example.com")]
    with pytest.raises(pulumi.RunError, match="TLSRoute team/theirs"):
        host({PATHS["TLSRoute"][1]: items}, host="registry.example.com:8443")


def test_a_user_who_may_not_list_them_goes_on() -> None:
    class Refusing(QuietCluster):
        def find(self, path: str) -> Object | None:
            raise ApiException(status=403, reason="Forbidden")

    question = own_host(having(), cast(Cluster, Refusing()), "registry-x", "10.0.0.1", 443)
    assert asyncio.run(question) == HOST


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"namespace": "registry-b"}, True),
        ({"namespace": "registry-b", "exposure": "loadBalancer"}, False),
        ({"namespace": "registry-a"}, False),
        ({}, False),
        ({"namespace": "registry-b", "host": "other.example.com"}, False),
    ],
)
def test_a_stack_does_not_move_with_a_host_that_its_former_namespace_serves(
    values: dict[str, str], refused: bool
) -> None:
    served = {"items": [serving("registry-a", "Ingress", "registry.example.com")]}
    cluster = cast(Cluster, QuietCluster(objects={PATHS["Ingress"][0]: served}))
    settings = having(**{"exposure": "ingress", "host": "registry.example.com", **values})
    error = move_error(settings, cluster, "registry-a")
    assert bool(error) == refused
    if error:
        says(error, "namespace", "registry-b", "served from the namespace registry-a", "pulumi config set host")
