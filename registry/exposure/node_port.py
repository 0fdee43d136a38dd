"""The way in `nodePort`: a port of every node, for clusters that have no load balancer."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pulumi

from ..cluster import Cluster, Object
from ..settings import SettingError, Settings
from .address import NOT_AWAITED, choose_address, every_address, tls_service
from .contract import ExposureState, Served

SERVICE = "node-port"
"""Name of the Service. It is the same for every port, so another port is a change of the one Service: then a port that
the Service has by chance can be named in the setting, to keep it."""


def node_address(nodes: Iterable[Object], kept: Collection[str] = ()) -> str:
    """The address of the node at which the registry is reached; empty if no node has one.

    Every node forwards the port, so each would do. The one that was taken before comes first, as long as it is ready;
    it may take no more pods. Then come nodes that are ready and take pods, and of these the oldest, so that neither a
    node that joins nor one that is drained changes the host.

    Args:
        nodes: Nodes as the Kubernetes API describes them.
        kept: The addresses that were in use before.
    """

    def own(node: Object) -> list[str]:
        return [entry["address"] for entry in node["status"].get("addresses", []) if entry["type"] == "InternalIP"]

    def order(node: Object) -> tuple[bool, bool, str, str]:
        conditions = {entry["type"]: entry["status"] for entry in node["status"].get("conditions", [])}
        spec: Object = node["spec"]
        tainted = any(taint["effect"] in ("NoSchedule", "NoExecute") for taint in spec.get("taints", []))
        ready = conditions.get("Ready") == "True"
        usable = ready and not spec.get("unschedulable") and not tainted
        taken = ready and not set(kept).isdisjoint(own(node))
        return not taken, not usable, node["metadata"].get("creationTimestamp", ""), node["metadata"]["name"]

    for node in sorted(nodes, key=order):
        address = choose_address(own(node), kept)
        if address:
            return address
    return ""


def node_address_error(address: str, nodes: Sequence[Object] | None) -> pulumi.RunError | None:
    """The error of a cluster in which no node has an address that is known.

    Args:
        address: The setting `address`.
        nodes: Every node; None if the user may not list them.
    """
    if address:
        return None
    if nodes is None:
        rule = "the user of the kubeconfig may not list nodes, so the address of one has to be given"
    elif not node_address(nodes):
        rule = "no node tells an InternalIP, so the address of one has to be given"
    else:
        return None
    return SettingError("address", "", rule, "192.0.2.10")


USUAL_PORTS = range(30000, 32768)
"""The ports of nodes that an API server gives by default; no call of the API tells which ones it does give."""


def node_port_error(port: int, services: Sequence[Object], namespace: str, before: str = "") -> pulumi.RunError | None:
    """The error of a port that another Service has than the one that is to have it.

    One of the stack's own is as much in the way, if it is of another way in or in the namespace that the stack leaves:
    such a Service goes at the end of the `up`, and the new one would not come about.

    Args:
        port: The setting `nodePort`; 0 for none.
        services: Every Service, as far as the user may list them.
        namespace: Namespace in which the stack's Service is to be; empty if it has a new name.
        before: Namespace of the stack before; empty if it has none.
    """
    holders = [each for each in services if port in [p.get("nodePort") for p in each["spec"].get("ports", [])]]
    for metadata in (each["metadata"] for each in holders if port):
        place = metadata["namespace"], metadata["name"]
        if place != (namespace, SERVICE):
            own = ", which is the stack's own and goes at the end of the up," if place[0] == before else ""
            rule = f"the Service {'/'.join(place)}{own} has this port of the nodes"
            return SettingError("nodePort", str(port), rule, "0")
    return None


@dataclass(frozen=True, kw_only=True)
class NodePortArgs:
    """What a `NodePort` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the Service."""
    address: str
    """Address to use instead of a node's; empty if there is no other."""
    kept: Collection[str]
    """The addresses that were in use before."""
    nodes: Sequence[Object] | None
    """Every node; None if they could not be listed."""
    annotations: Mapping[str, str]
    """Annotations of the Service."""
    node_port: int
    """The port; 0 for one that Kubernetes chooses."""


class NodePort(pulumi.ComponentResource):
    """A Service of type NodePort, and the address of a node.

    The registry's pod terminates TLS, and its host has a port.
    Ready when: 1. Kubernetes has given the Service a port. Delete removes the Service.
    Does not: follow a node that is gone. The next `up` takes another node, or the setting `address` names an address
    that outlives nodes.
    """

    address: pulumi.Output[str]
    """Address of a node, or the one from the settings."""
    addresses: pulumi.Output[list[str]]
    """The attribute `address`, and every address of the nodes; none if the nodes could not be listed."""
    port: pulumi.Output[int]
    """The port of the settings, or the one that Kubernetes has chosen; by default it is one of 30000 to 32767."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster, state: ExposureState) -> Sequence[pulumi.RunError]:
        """No node has an address that is known, and the settings name none; or somebody else has the port."""
        port = settings.node_port
        if port and port not in USUAL_PORTS:
            pulumi.log.warn(
                f"nodePort is {port}, and unless a cluster is set up otherwise it gives ports from {USUAL_PORTS[0]} to "
                f"{USUAL_PORTS[-1]} only. If this one refuses it: pulumi config set nodePort 30443"
            )
        services = cluster.services() if port else []
        place = settings.namespace or state.namespace, state.namespace
        found = node_address_error(settings.address, cluster.nodes), node_port_error(port, services, *place)
        return [error for error in found if error]

    def __init__(self, name: str, args: NodePortArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Service. `name` is its name in the namespace."""
        super().__init__("private-registry:registry:NodePort", name, None, opts)
        # Nothing has to be waited for: the port exists as soon as the object does.
        child = pulumi.ResourceOptions(parent=self)
        made = tls_service(
            name,
            "NodePort",
            args.namespace,
            {**args.annotations, **NOT_AWAITED},
            child,
            node_port=args.node_port,
        )
        address = args.address or node_address(args.nodes or (), args.kept)
        self.address = pulumi.Output.from_input(address)
        # One address says nothing of the others, at which the port is open as well: one of them may be public.
        self.addresses = pulumi.Output.from_input([] if args.nodes is None else [address, *every_address(args.nodes)])
        self.port = made.spec.apply(lambda spec: next(port.node_port or 0 for port in spec.ports or []))

    def serve(self, host: pulumi.Output[str], tls_secret: pulumi.Output[str]) -> Served:
        """Nothing is missing: the registry's pod serves the host, with the certificate in the Secret."""
        self.register_outputs({"address": self.address, "addresses": self.addresses, "port": self.port})
        nowhere = pulumi.Output.from_input("")
        return Served(host=host, address=self.address, addresses=self.addresses, publisher=nowhere)
