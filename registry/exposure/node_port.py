"""The exposure `nodePort`: a port of every node, for clusters that have no load balancer."""

from collections.abc import Iterable

import pulumi

from .cluster import Object
from .exposure import DirectExposure, ExposureArgs, choose_address, service


def node_address(nodes: Iterable[Object]) -> str:
    """The address of the node at which a NodePort is best reached; empty: no node has one.

    Every node forwards the port, so any will do: a ready one that takes pods before others, and of those the oldest,
    so that a node that joins does not change the host.

    Args:
        nodes: Nodes as the Kubernetes API tells them.
    """

    def order(node: Object) -> tuple[bool, str, str]:
        conditions = {entry["type"]: entry["status"] for entry in node["status"].get("conditions", [])}
        spec: Object = node["spec"]
        tainted = any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in spec.get("taints", []))
        usable = conditions.get("Ready") == "True" and not spec.get("unschedulable") and not tainted
        return not usable, node["metadata"].get("creationTimestamp", ""), node["metadata"]["name"]

    for node in sorted(nodes, key=order):
        entries: list[Object] = node["status"].get("addresses", [])
        address = choose_address(entry["address"] for entry in entries if entry["type"] == "InternalIP")
        if address:
            return address
    return ""


def every_address(nodes: Iterable[Object]) -> list[str]:
    """Every IP address of the nodes: their port is open at each, whichever one the host is made from."""
    return [
        entry["address"]
        for node in nodes
        for entry in node["status"].get("addresses", [])
        if entry["type"] in ("InternalIP", "ExternalIP")
    ]


class NodePort(DirectExposure):
    """A Service of type NodePort, and the address of a node.

    The registry terminates TLS itself; its host has a port.
    Ready when: 1. Kubernetes has given the Service a port. Delete removes the Service.
    Does not: follow a node that is gone: the next `up` takes another one, or the setting `address` names an address
    that outlives nodes.
    """

    def __init__(self, name: str, args: ExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Service. `name` is its name in the namespace."""
        super().__init__("private-registry:registry:NodePort", name, None, opts)
        # There is nothing to wait for: the port is there as soon as the object is.
        made = service(name, "NodePort", args, {"pulumi.com/skipAwait": "true"}, pulumi.ResourceOptions(parent=self))
        nodes = args.cluster.nodes or []
        self.address = pulumi.Output.from_input(args.address or node_address(nodes))
        self.addresses = self.address.apply(lambda address: [address, *every_address(nodes)])
        self.port = made.spec.apply(lambda spec: next(port.node_port or 0 for port in spec.ports or []))
        self.register_outputs({"address": self.address, "port": self.port})
