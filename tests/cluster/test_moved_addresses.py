"""An address that moves under a running stack: one `up` moves everything with it, and the CA stays."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.hostname import named_after

from .support.certificates import served_certificate
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.controllers import BY_CERT_MANAGER, GATEWAY_ADDRESS, GATEWAY_API, ingress_controller
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def moved_in_one_up(deployed: Deployed, app_image: Path, namespace: str, move: Callable[[str], None], to: str) -> None:
    """Move the address under a stack, and check that one `up --refresh` moves all of it, and nothing else."""
    cluster, old_host = deployed.cluster, deployed.host
    before = {entry["urn"] for entry in json.loads(deployed.stack.state())["deployment"]["resources"]}
    deployed.crane("push", app_image, f"{old_host}/test/app:1")
    old_folders = [deployed.hosts_directory(node) for node in cluster.nodes]
    old_label = deployed.outputs["address"].replace(".", "-")
    move(to)
    deployed.stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
    moved = deployed.stack.outputs()
    assert moved["address"] == to
    assert moved["registryUrl"] == old_host.replace(old_label, to.replace(".", "-"))
    assert moved["caCertificate"] == deployed.ca
    assert {entry["urn"] for entry in json.loads(deployed.stack.state())["deployment"]["resources"]} == before
    data = cluster.get("configmap", "-n", deployed.namespace, "private-registry")["data"]
    assert data == {"host": moved["registryUrl"], "address": to, "ca.crt": deployed.ca}
    deployed.outputs.update(moved)
    served_certificate(deployed)
    image = f"{deployed.host}/test/app:1"  # what was pushed under the old name is there under the new one
    deployed.start_pods(namespace, image, cluster.nodes)
    deployed.assert_running(namespace, cluster.nodes)
    deployed.stack.pulumi("preview", "--expect-no-changes")
    # The nodes trust the old host for longer than anybody waits here, and the agents take that with them as well.
    assert all(any(file.read_text() == deployed.ca for file in folder.glob("*.crt")) for folder in old_folders)
    deployed.stack.destroy()
    assert not [folder for folder in old_folders if folder.exists()]


def test_an_ingress_whose_address_moved_moves_everything_in_one_up_and_the_ca_stays(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    values = {"ingressClass": "moving"}
    with (
        ingress_controller(cluster, "moving", "10.99.0.218") as move_controller,
        deployed_stack(cluster, tmp_path, values) as deployed,
    ):

        def follow() -> bool:
            found = cluster.get("ingress", "-n", deployed.namespace)["items"]
            published = [each["status"]["loadBalancer"].get("ingress", []) for each in found]
            return [[point.get("ip") for point in each] for each in published] == [["10.99.0.219"]] * 2

        def move(to: str) -> None:
            move_controller(to)
            wait_until(follow, "Traefik published the address for placeholder and Ingress", timeout=60)

        moved_in_one_up(deployed, app_image, namespace, move, "10.99.0.219")


@pytest.mark.usefixtures("cert_manager")
def test_a_load_balancer_whose_address_moved_moves_everything_in_one_up_and_the_ca_stays(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "loadBalancer", **BY_CERT_MANAGER}) as deployed:

        def move(to: str) -> None:
            path = ("service", "load-balancer", "-n", deployed.namespace)
            cluster.kubectl("annotate", *path, f"metallb.io/loadBalancerIPs={to}")
            points = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}"
            wait_until(lambda: cluster.kubectl("get", *path, points) == to, f"the address is {to}", timeout=30)

        moved_in_one_up(deployed, app_image, namespace, move, "10.99.0.220")


def test_a_gateway_whose_address_moved_moves_everything_in_one_up_and_the_ca_stays(
    cluster: Cluster, gateway_controller: Callable[[str], None], tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "gateway"}) as deployed:

        def move(to: str) -> None:
            gateway_controller(to)
            points = "--output=jsonpath={.status.addresses[*].value}"
            path = (f"gateways.{GATEWAY_API}", named_after("gateway", "gateways", "443"), "-n", deployed.namespace)
            wait_until(lambda: cluster.kubectl("get", *path, points) == to, f"Traefik published {to}", timeout=60)

        try:
            moved_in_one_up(deployed, app_image, namespace, move, "10.99.0.216")
        finally:
            gateway_controller(GATEWAY_ADDRESS)
