"""Nodes without a machine, which are kept Ready as their providers do: by their status and a Lease."""

import datetime
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .cluster import Cluster
from .commands import wait_until
from .meanwhile import again_and_again

_SECONDS = 10.0
"""How often a node reports; after 40 s of silence it counts as not Ready."""


@contextmanager
def fake_nodes(cluster: Cluster, **labels: Mapping[str, str]) -> Iterator[None]:
    """Ready nodes with these labels, by their names' endings. They are tainted with them, which keeps pods away."""
    names = {f"fake-{ending}": each for ending, each in labels.items()}
    cluster.apply(*(_node(name, each) for name, each in names.items()))

    def report() -> None:
        for name in names:
            _report(cluster, name)

    try:
        with again_and_again(report, seconds=_SECONDS):
            wait_until(lambda: set(names) <= set(cluster.ready_nodes()), "the fake nodes are Ready", timeout=30)
            yield
            assert set(names) <= set(cluster.ready_nodes()), "they were Ready all the time"
    finally:
        cluster.kubectl("delete", "node", *names)


def _node(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    taints = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in labels.items()]
    own = {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name, **labels}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": own}, "spec": {"taints": taints},
    }  # fmt: skip


def _report(cluster: Cluster, name: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Ready", "status": "True", "reason": "Fake", "lastHeartbeatTime": stamp}
    room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
    status = {"status": {"conditions": [condition], "capacity": room, "allocatable": room}}
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    cluster.apply(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": 40,
                "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
    )
