"""Nodes that join, stacks side by side, and what `pulumi destroy` leaves: nothing."""

import time
from pathlib import Path

import pytest

from local_cluster import cluster as local_cluster
from local_cluster import nodes
from registry.waiting import is_rolled_out

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.node_state import config_trees
from .support.stacks import deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone]


def pull_fails_with_x509(cluster: Cluster, namespace: str, image: str, node: str) -> None:
    name = f"untrusted-{node}"
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "app", "image": image, "imagePullPolicy": "Always"}],
                "tolerations": [{"operator": "Exists"}],
            },
        }
    )

    def refused() -> bool:
        events = cluster.get("events", "-n", namespace, f"--field-selector=involvedObject.name={name}")["items"]
        return any("x509" in event["message"] for event in events)

    wait_until(refused, f"a pull on {node} fails with x509", timeout=60)


def test_a_node_that_joins_later_is_trusted_without_another_up(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path) as deployed:
        image = f"{deployed.host}/test/app:joined"
        deployed.crane("push", app_image, image)
        local_cluster.add("node-d")
        try:
            deployed.start_pods(namespace, image, ["node-d"])
            deployed.wait_running(namespace, ["node-d"], timeout=120)
        finally:
            local_cluster.remove("node-d")


def test_destroy_leaves_every_node_as_it_was_and_ready(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path) as deployed:
        image = f"{deployed.host}/test/app:gone"
        deployed.crane("push", app_image, image)
        for node in cluster.nodes:
            assert config_trees(node) != deployed.trees_before[node], node
        began = time.monotonic()
        deployed.stack.destroy()
        assert time.monotonic() - began < 60
        for node in cluster.nodes:
            assert config_trees(node) == deployed.trees_before[node], node
            assert not list((nodes.node_root(node) / "var/lib").glob(f"private-registry-trust/*{deployed.namespace}*"))
        assert set(cluster.nodes) <= set(cluster.ready_nodes())
        wait_until(
            lambda: cluster.run("kubectl", "get", "namespace", deployed.namespace, check=False).returncode != 0,
            "the namespace is gone",
            timeout=30,
        )
        # The Ingress controller still answers under the old name, now with a certificate of its own.
        for node in cluster.nodes:
            pull_fails_with_x509(cluster, namespace, image, node)


def test_two_stacks_work_side_by_side_and_the_end_of_one_leaves_the_other(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path / "one") as one:
        with deployed_stack(cluster, tmp_path / "two") as two:
            assert one.host != two.host
            for deployed in (one, two):
                deployed.crane("push", app_image, f"{deployed.host}/test/app:both")
        # The second is gone now.
        image = f"{one.host}/test/app:both"
        one.start_pods(namespace, image, cluster.nodes)
        one.assert_running(namespace, cluster.nodes)
        for node in cluster.nodes:
            assert one.trusted(node)
    for node in cluster.nodes:
        assert config_trees(node) == one.trees_before[node], node


@pytest.mark.slow
def test_an_up_that_changes_the_registrys_pod_returns_when_the_new_one_is_ready(
    cluster: Cluster, tmp_path: Path
) -> None:
    with deployed_stack(cluster, tmp_path, {"storage": "memory", "storageSize": "1Gi"}) as deployed:
        deployed.stack.pulumi("config", "set", "storageSize", "2Gi")
        deployed.stack.up()
        deployment = cluster.get("deployment", "-n", deployed.namespace, "registry")
        assert is_rolled_out(deployment), deployment
        memory = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        assert memory == str(512 * 2**20 + 2 * 2**30)
