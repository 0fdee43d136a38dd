"""The life of a stack: pods run when `up` returns, two gigabytes pass, nodes and other stacks come and go.

And `destroy` leaves nothing. But for the last one, the tests are of one stack, in this order: one of them destroys it.
"""

import json
import re
import time
from pathlib import Path

import pytest

from local_cluster import cluster as local_cluster
from local_cluster import nodes
from registry.waiting import is_rolled_out

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.node_state import config_trees
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.provider]


@pytest.fixture(scope="module")
def pushed(default_stack: Deployed, app_image: Path) -> str:
    """An image in the registry, pushed with crane."""
    reference = f"{default_stack.host}/test/app:crane"
    default_stack.crane("push", app_image, reference)
    return reference


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


def test_pods_created_the_moment_up_returns_run_on_every_node_without_a_failed_pull(
    cluster: Cluster, default_stack: Deployed, pushed: str, namespace: str
) -> None:
    default_stack.start_pods(namespace, pushed, cluster.nodes)
    default_stack.assert_running(namespace, cluster.nodes)


def test_a_runtime_is_restarted_exactly_once_where_it_reads_no_folder_and_never_elsewhere(
    default_stack: Deployed,
) -> None:
    assert set(default_stack.restarts_needed) == {"node-a", "node-b", "node-c"}
    assert default_stack.restarts_needed["node-b"] == default_stack.restarts_needed["node-c"] == 0
    default_stack.assert_restarts()


def test_a_second_up_changes_nothing(default_stack: Deployed) -> None:
    default_stack.stack.pulumi("preview", "--expect-no-changes")
    again = default_stack.stack.up()
    assert re.search(r"unchanged", again.stdout)
    assert not re.search(r"created|updated|replaced|deleted", again.stdout)
    default_stack.assert_restarts()


def test_a_deleted_agent_comes_back_without_another_restart(cluster: Cluster, default_stack: Deployed) -> None:
    pods = {pod["metadata"]["uid"] for pod in default_stack.agents()}
    cluster.kubectl("delete", "pod", "-n", default_stack.namespace, "-l", "app.kubernetes.io/name=trust", timeout=120)
    wait_until(
        lambda: len(default_stack.ready_agents() - pods) == len(cluster.nodes),
        "every node has a new ready agent",
        timeout=60,
    )
    default_stack.assert_restarts()


def test_a_rollout_hands_the_files_over_without_another_restart(cluster: Cluster, default_stack: Deployed) -> None:
    pods = default_stack.ready_agents()
    cluster.kubectl("rollout", "restart", "daemonset/trust", "-n", default_stack.namespace)
    cluster.kubectl("rollout", "status", "daemonset/trust", "-n", default_stack.namespace, "--timeout=120s")
    wait_until(
        lambda: len(default_stack.ready_agents() - pods) == len(cluster.nodes),
        "every node has a new ready agent",
        timeout=60,
    )
    wait_until(lambda: len(default_stack.agents()) == len(cluster.nodes), "the old agents are gone", timeout=60)
    default_stack.assert_restarts()
    for node in cluster.nodes:
        assert default_stack.trusted(node), node


def test_a_layer_of_two_gigabytes_goes_up_and_comes_down(
    cluster: Cluster, default_stack: Deployed, big_layer: tuple[Path, str]
) -> None:
    path, digest = big_layer
    reference = f"{default_stack.host}/test/big:1"
    default_stack.crane("append", "--new_layer", path, "--new_tag", reference, timeout=600)
    layer = json.loads(default_stack.crane("manifest", reference))["layers"][0]["digest"]
    read = 'set -o pipefail; crane blob "$1" | python3 -c "$2"'
    unpack = (
        "import gzip, hashlib, sys\n"
        "print(hashlib.file_digest(gzip.GzipFile(fileobj=sys.stdin.buffer), 'sha256').hexdigest())"
    )
    come_down = cluster.run(
        "env",
        f"SSL_CERT_FILE={default_stack.ca_file}",
        "bash",
        "-c",
        read,
        "-",
        f"{default_stack.host}/test/big@{layer}",
        unpack,
        timeout=600,
    )
    assert come_down.stdout.strip() == digest


def test_a_node_that_joins_later_is_trusted_without_another_up(
    default_stack: Deployed, pushed: str, namespace: str
) -> None:
    local_cluster.add("node-d")
    try:
        default_stack.start_pods(namespace, pushed, ["node-d"])
        default_stack.wait_running(namespace, ["node-d"], timeout=120)
    finally:
        local_cluster.remove("node-d")


def test_two_stacks_work_side_by_side_and_the_end_of_one_leaves_the_other(
    cluster: Cluster, default_stack: Deployed, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    with deployed_stack(cluster, tmp_path) as two:
        assert default_stack.host != two.host
        for deployed in (default_stack, two):
            deployed.crane("push", app_image, f"{deployed.host}/test/app:both")
    # The second is gone now.
    default_stack.start_pods(namespace, f"{default_stack.host}/test/app:both", cluster.nodes)
    default_stack.assert_running(namespace, cluster.nodes)
    for node in cluster.nodes:
        assert default_stack.trusted(node)


def test_destroy_leaves_every_node_as_it_was_and_ready(
    cluster: Cluster, default_stack: Deployed, pushed: str, namespace: str
) -> None:
    for node in cluster.nodes:
        assert config_trees(node) != default_stack.trees_before[node], node
    began = time.monotonic()
    default_stack.stack.destroy()
    assert time.monotonic() - began < 60
    for node in cluster.nodes:
        assert config_trees(node) == default_stack.trees_before[node], node
        assert not list((nodes.node_root(node) / "var/lib").glob(f"private-registry-trust/*{default_stack.namespace}*"))
    assert set(cluster.nodes) <= set(cluster.ready_nodes())
    wait_until(
        lambda: cluster.run("kubectl", "get", "namespace", default_stack.namespace, check=False).returncode != 0,
        "the namespace is gone",
        timeout=30,
    )
    # The Ingress controller still answers under the old name, now with a certificate of its own.
    for node in cluster.nodes:
        pull_fails_with_x509(cluster, namespace, pushed, node)


@pytest.mark.slow
def test_an_up_that_changes_the_registrys_pod_returns_when_the_new_one_is_ready(
    cluster: Cluster, tmp_path: Path
) -> None:
    with deployed_stack(cluster, tmp_path, {"storage": "memory", "storageSize": "1Gi"}) as deployed:
        deployed.stack.pulumi("config", "set", "storageSize", "2Gi")
        deployed.stack.up()
        deployment = cluster.get("deployment", "-n", deployed.namespace, "registry")
        assert is_rolled_out(deployment), deployment
        memory = deployment["spec"]["template"]["spec"]["initContainers"][0]["resources"]["limits"]["memory"]
        assert memory == str(512 * 2**20 + 2 * 2**30)
