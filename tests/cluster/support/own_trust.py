"""Nodes that somebody else makes trust a registry, by the setting that the program prints for them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from local_cluster import nodes

from .cluster import Cluster
from .faults import on
from .stacks import Stack


def printed(cluster: Cluster, stack: Stack, node: str = "containerd") -> str:
    """The setting of a kind of nodes, as the program prints it of a stack."""
    return cluster.run(sys.executable, "-m", "registry.clients", "--node", node, "--stack", stack.name).stdout


def set_up(cluster: Cluster, stack: Stack, names: Sequence[str]) -> None:
    """Run the setting of nodes with containerd on some nodes. It concerns the one host alone, so no other test."""
    for name in names:
        done = nodes.exec_in_node(name, ["sh"], stdin=printed(cluster, stack))
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("containerd trusts "), done.stdout


@contextmanager
def forgotten(names: Sequence[str], host: str) -> Iterator[None]:
    """In the end take away what was set up for a host."""
    try:
        yield
    finally:
        for name in names:
            folders = (f"/etc/containerd/{folder}/{host}" for folder in ("certs.d", "certs.d:/etc/docker/certs.d"))
            on(name, "rm", "-rf", *folders)
            on(name, "sh", "-c", "cd /etc/containerd && rmdir -p certs.d:/etc/docker/certs.d 2>/dev/null; true")


def pull_again(cluster: Cluster, namespace: str, names: Sequence[str]) -> None:
    """Have the kubelets of some nodes pull the proof again now, and not when they try again by themselves."""
    for name in names:
        place = ("-n", namespace, "-l", "app.kubernetes.io/name=trust", f"--field-selector=spec.nodeName={name}")
        cluster.kubectl("delete", "pod", *place, timeout=90)
