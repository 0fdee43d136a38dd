"""Every release line of containerd, its newest version, under a real kubelet; the nodes join for this test."""

from pathlib import Path

import pytest

from local_cluster import cluster as local_cluster
from local_cluster import nodes

from .support.cluster import Cluster
from .support.diagnosis import wait_diagnosis
from .support.node_state import config_trees, restarts
from .support.stacks import deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(900)]

LINES = {
    name: node.containerd.removeprefix("containerd-")
    for name, node in nodes.TABLE.items()
    if node.containerd.startswith("containerd-")
}
"""By the name of its node. None of their configurations names a `config_path`."""
READ_A_FOLDER = ("2.2", "2.3")
"""Those that read a folder of certificates all the same; the others are changed, and restarted once."""


def test_every_release_line_of_containerd_pulls_under_a_kubelet_and_is_left_as_it_was(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    try:
        local_cluster.add(*LINES)
        info = {node["metadata"]["name"]: node["status"]["nodeInfo"] for node in cluster.get("nodes")["items"]}
        for node, line in LINES.items():
            assert info[node]["containerRuntimeVersion"].startswith(f"containerd://{line}."), node
        before, started = {node: config_trees(node) for node in LINES}, {node: restarts(node) for node in LINES}
        with deployed_stack(cluster, tmp_path) as deployed:
            image = f"{deployed.host}/test/app:lines"
            deployed.crane("push", app_image, image)
            deployed.start_pods(namespace, image, list(LINES))
            deployed.assert_running(namespace, list(LINES), timeout=60)
            wait_diagnosis(cluster, deployed.stack)
        for node, line in LINES.items():
            assert config_trees(node) == before[node], node
            assert restarts(node) - started[node] == (line not in READ_A_FOLDER), node
        assert {*cluster.nodes, *LINES} <= set(cluster.ready_nodes())
    finally:
        local_cluster.remove(*LINES)
