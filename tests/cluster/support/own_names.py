"""Names that nodes and clients find in their files of hosts, as if DNS knew them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_cluster import network

from .cluster import Cluster
from .faults import on


@contextmanager
def local_names() -> Iterator[Path]:
    """The file in which clients in the cluster's network look up names before they ask DNS."""
    path = Path("/etc/netns") / network.NAMESPACE / "hosts"
    path.write_text(Path("/etc/hosts").read_text())
    try:
        yield path
    finally:
        path.unlink()


def tell(cluster: Cluster, names: Path, address: str, name: str) -> None:
    """Let nodes and clients know the address of a name.

    Args:
        cluster: The cluster.
        names: The clients' file, as `local_names` gives it.
        address: The address.
        name: The name.
    """
    line = f"{address} {name}"
    for node in cluster.nodes:
        on(node, "sh", "-c", f"echo '{line}' >>/etc/hosts")
    with names.open("a") as file:
        file.write(f"{line}\n")


def untell(cluster: Cluster, name: str) -> None:
    """Have the nodes forget a name."""
    for node in cluster.nodes:
        on(node, "sh", "-c", f"grep -v ' {name}$' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts; rm /tmp/hosts")
