"""The way in of a running stack changes: nothing old is in the way, and the images stay."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from registry.settings import Exposure

from .support.cluster import Cluster
from .support.stacks import Deployed, deployed_stack

pytestmark = pytest.mark.cluster

SERVICES = {"ingress": set[str](), "loadBalancer": {"load-balancer"}, "nodePort": {"node-port"}, "gateway": {"gateway"}}
"""The Services of each way in, besides the guard and the one with the plain port."""
EVERY_PAIR = (
    "ingress", "nodePort", "ingress", "loadBalancer", "ingress", "gateway", "nodePort", "loadBalancer", "nodePort",
    "gateway", "loadBalancer", "gateway", "ingress",
)  # fmt: skip


def switch_through(
    cluster: Cluster, folder: Path, app_image: Path, namespace: str, exposures: tuple[str, ...]
) -> list[Deployed]:
    """Bring a stack up with the first exposure, and then change it to each of the others."""
    found: list[Deployed] = []
    with deployed_stack(cluster, folder, {"exposure": exposures[0]}) as deployed:
        deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
        digest = deployed.crane("digest", f"{deployed.host}/test/app:1")
        for number, exposure in enumerate(exposures):
            if number:
                deployed.stack.pulumi("config", "set", "exposure", exposure)
                deployed.stack.up()
            now = replace(deployed, outputs=deployed.stack.outputs())
            found.append(now)
            image = f"{now.host}/test/app:1"
            assert now.crane("digest", image) == digest
            name = f"app-{number}"
            now.start_pods(namespace, image, cluster.nodes, name=name)
            now.assert_running(namespace, cluster.nodes, name=name, timeout=60)
            services = cluster.get("services", "-n", now.namespace)["items"]
            guard = f"only-on-cluster-{now.outputs['clusterId'][:8]}"
            assert {each["metadata"]["name"] for each in services} == {"registry", guard, *SERVICES[exposure]}
            now.stack.pulumi("preview", "--expect-no-changes")
    return found


def test_the_way_in_of_a_running_stack_can_be_changed(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    ingress, node_port, load_balancer = switch_through(
        cluster, tmp_path, app_image, namespace, ("ingress", "nodePort", "loadBalancer")
    )
    assert ":" in node_port.host
    assert len({ingress.host, node_port.host, load_balancer.host}) == 3
    assert ingress.ca == node_port.ca == load_balancer.ca
    assert ingress.outputs["password"] == load_balancer.outputs["password"]


@pytest.mark.slow
@pytest.mark.usefixtures("gateway_controller")
def test_every_change_of_the_way_in_works(cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str) -> None:
    exposures = get_args(Exposure)
    assert set(pairwise(EVERY_PAIR)) == {(one, other) for one in exposures for other in exposures if one != other}
    switch_through(cluster, tmp_path, app_image, namespace, EVERY_PAIR)
