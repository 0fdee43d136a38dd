"""An `up` that is killed can be run again, and ends in the same state."""

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.kills import killed_up
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.provider]

POINTS = {
    "namespace": "its namespace",
    "service/exposure": "the Service in front of the registry",
    "ingress/exposure": "the placeholder, whose address is awaited",
    "secret/registry-http": "the credentials",
    "configmap/private-registry": "the lookup",
    "ingress/ingress": "the Ingress, whose address is awaited",
    "persistentvolumeclaim/registry": "the volume",
    "deployment/registry": "the registry, which is awaited longest but for one",
    "daemonset/trust": "the agents, which are awaited longest",
}
"""Objects, each of which is there when `up` is killed, but not yet in the state, or just so."""


def namespace_of(cluster: Cluster, stack: Stack) -> str:
    """The namespace that says it is of this stack; empty if there is none."""
    found = cluster.kubectl("get", "namespace", "-l", f"private-registry/stack={stack.name}", "-o", "name").split()
    return found[0].partition("/")[2] if found else ""


def kill_at(cluster: Cluster, stack: Stack, point: str) -> None:
    """Run `pulumi up`, and kill it and all its processes when an object is there."""

    def is_there() -> bool:
        namespace = namespace_of(cluster, stack)
        if point == "namespace" or not namespace:
            return bool(namespace)
        return cluster.run("kubectl", "get", point, "-n", namespace, check=False).returncode == 0

    with killed_up(stack) as process:
        wait_until(is_there, f"{point} is there", timeout=60, interval=0.02)
        assert process.poll() is None, "`up` has ended before it was killed"


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if point == "daemonset/trust" else [pytest.mark.slow]) for point in POINTS]
)
def test_an_up_that_is_killed_is_run_again_and_ends_in_the_same_state(
    cluster: Cluster, namespace: str, point: str
) -> None:
    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true", "caNamespaces[0]": namespace}
    accounts = cluster.get("serviceaccount", "-n", namespace, "default").get("imagePullSecrets")
    with Stack(environment=cluster.environment, settings=settings) as stack:
        kill_at(cluster, stack, point)
        began_in = namespace_of(cluster, stack)
        stack.pulumi("cancel", "--yes")
        stack.up()
        outputs = stack.outputs()
        assert outputs["namespace"] == began_in
        assert outputs["registryUrl"]
        # Nothing of the program is missing in the state or in the cluster, and nothing else is there.
        stack.pulumi("preview", "--expect-no-changes", "--refresh")
        stack.destroy()
        left = cluster.kubectl("get", "secret,configmap", "-n", namespace, "-o", "name").split()
        assert [name for name in left if "registry" in name] == []
        assert cluster.get("serviceaccount", "-n", namespace, "default").get("imagePullSecrets") == accounts
        assert not namespace_of(cluster, stack)
