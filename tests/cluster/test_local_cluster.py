"""The local cluster is kept with its stacks, whatever the shell's proxies, and though parts of it have ended."""

import os
import signal
import subprocess

import pytest

from local_cluster import cluster as local_cluster
from local_cluster import network, nodes, processes, shell
from local_cluster.errors import ClusterError
from local_cluster.paths import KUBECONFIG

from .support.cluster import Cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.alone,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        bool(os.environ.get("PRIVATE_REGISTRY_KEEP_CLUSTER")), reason="the cluster is made from other files than these"
    ),
]


def kept(cluster: Cluster, namespace: str) -> tuple[int, str]:
    """What another cluster would have anew: its kubeconfig, and the identity of a namespace."""
    return KUBECONFIG.stat().st_mtime_ns, cluster.get("namespace", namespace)["metadata"]["uid"]


def test_a_shell_with_proxies_works_and_keeps_the_cluster(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, running = kept(cluster, namespace), processes.recorded()
    for name in network.PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    local_cluster.require()
    local_cluster.up()
    assert processes.recorded() == running
    command = ["kubectl", "get", "namespace", namespace, "-o", "name"]
    environment = shell.applied(shell.environment())
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert said == f"namespace/{namespace}\n"
    assert kept(cluster, namespace) == before


@pytest.mark.parametrize("ended", [("coredns", "kube-scheduler"), ("etcd", "kube-apiserver"), ("NODE",)])
@pytest.mark.slow
def test_what_has_ended_is_started_again_and_the_rest_stays(
    cluster: Cluster, namespace: str, joined_node: str, ended: tuple[str, ...]
) -> None:
    before, running = kept(cluster, namespace), processes.recorded()
    names = {joined_node if name == "NODE" else name for name in ended}
    for name in names:
        running[name].send(signal.SIGKILL)
        assert running[name].wait(10), name
    with pytest.raises(ClusterError, match=r"of the local cluster ended: `make cluster` starts that again"):
        local_cluster.require()
    local_cluster.up()
    now = processes.recorded()
    assert {name for name in running if now[name] != running[name]} == names
    assert set(now) == set(running)
    assert {*nodes.DEFAULT, joined_node} <= set(cluster.ready_nodes())
    assert kept(cluster, namespace) == before
