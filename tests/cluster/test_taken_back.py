"""A change that fails and is taken back leaves the stack as it was, and nothing that it has made."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.cluster import Cluster
from .support.stacks import Deployed, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

_BOUNDS = {"storage": "memory", "storageSize": "50Mi", "addressTimeout": "5s", "readyTimeout": "20s"}


@pytest.fixture
def idle_class(cluster: Cluster) -> Iterator[str]:
    """An IngressClass that no controller serves."""
    name = f"idle-{secrets.token_hex(3)}"
    metadata, spec = {"name": name}, {"controller": f"example.com/{name}"}
    cluster.apply({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": metadata, "spec": spec})
    yield name
    cluster.kubectl("delete", "ingressclass", name)


def ways_in(deployed: Deployed) -> set[str]:
    """The names of the Ingresses that the stack has."""
    found = deployed.cluster.get("ingresses", "-n", deployed.namespace)["items"]
    return {entry["metadata"]["name"] for entry in found}


@pytest.mark.parametrize("setting", ["host", pytest.param("ingressClass", marks=pytest.mark.slow)])
def test_a_change_that_fails_and_is_taken_back_leaves_the_way_in_that_was_there(
    cluster: Cluster, idle_class: str, tmp_path: Path, setting: str
) -> None:
    wrong = {"host": f"{secrets.token_hex(3)}.invalid", "ingressClass": idle_class}[setting]
    with Stack(environment=cluster.environment, settings=_BOUNDS) as stack:
        stack.up()
        deployed = Deployed.of(cluster, stack, tmp_path)
        before = ways_in(deployed)
        stack.set(**{setting: wrong})
        assert stack.up(check=False).returncode
        assert ways_in(deployed) > before, "the change is being made beside what is there"
        stack.set(**{setting: ""})
        stack.up()
        assert ways_in(deployed) == before
        assert stack.outputs()["registryUrl"] == deployed.host
        assert "proof" in deployed.crane("catalog", deployed.host)
        stack.pulumi("preview", "--expect-no-changes")
