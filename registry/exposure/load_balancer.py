"""The way in `loadBalancer`: a Service of type LoadBalancer leads to the TLS port of the registry's pod."""

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from ..cluster import Cluster, Object
from ..hostname import HTTPS
from ..settings import Settings
from ..waiting import awaited
from .address import (
    ADDRESS_AWAITED,
    NO_LOAD_BALANCER,
    choose_address,
    every_address,
    no_address,
    published_addresses,
    tls_service,
)
from .contract import ExposureState, Served


def nodes_outside(networks: Sequence[str], nodes: Sequence[Object]) -> list[str]:
    """Names of the nodes none of whose own addresses is in one of the networks; none if there are no networks."""
    allowed = [ipaddress.ip_network(network) for network in networks]

    def inside(node: Object) -> bool:
        entries: list[Object] = node["status"].get("addresses", [])
        own = [ipaddress.ip_address(entry["address"]) for entry in entries if entry["type"] == "InternalIP"]
        return not own or any(address in network for address in own for network in allowed)

    return sorted(str(node["metadata"]["name"]) for node in nodes if allowed and not inside(node))


@dataclass(frozen=True, kw_only=True)
class LoadBalancerArgs:
    """What a `LoadBalancer` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the Service."""
    address: str
    """Address to use instead of the load balancer's own; empty if there is no other."""
    annotations: Mapping[str, str]
    """Annotations of the Service, for whoever makes the load balancer."""
    load_balancer_class: str
    """Class of the Service; empty for the cluster's default one."""
    allowed_sources: Sequence[str]
    """The only networks from which the load balancer takes connections, as CIDRs; empty for all."""
    kept: Collection[str]
    """The addresses that were in use before."""
    nodes: Sequence[Object] | None
    """Every node; None if they could not be listed."""
    timeout: str
    """How long to wait for the load balancer's address, such as `2m`."""


class LoadBalancer(pulumi.ComponentResource):
    """A Service of type LoadBalancer and its address.

    It needs no Ingress controller and has none of the limits of one, and no plain HTTP passes between two pods.
    Its annotations, its class and the networks that reach it are the user's.
    Ready when: 1. the load balancer has an address. Delete removes the Service, and with it the load balancer.
    Does not: wait for the registry.
    """

    address: pulumi.Output[str]
    """IP address, or the DNS name that some load balancers have instead."""
    addresses: pulumi.Output[list[str]]
    """The address from the settings, if there is one, every address of the load balancer, and those of the nodes where
    the Service has a port of theirs; none if the nodes could not be listed then."""
    port: pulumi.Output[int]
    """Always 443."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster, state: ExposureState) -> Sequence[pulumi.RunError]:
        """Nothing: whether a load balancer gets an address shows only when it is made.

        A warning names the nodes that the settings would keep away from the registry.
        """
        outside = nodes_outside(settings.allowed_sources, cluster.nodes or ())
        if outside:
            pulumi.log.warn(
                f"allowedSources leaves out the addresses of {', '.join(outside)}, and nodes ask a load balancer from "
                "there, unless a NAT stands between: then they cannot pull. Add their network: pulumi config set "
                "--path 'allowedSources[0]' 10.0.0.0/8"
            )
        return ()

    def __init__(self, name: str, args: LoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Service. `name` is its name in the namespace."""
        super().__init__("private-registry:registry:LoadBalancer", name, None, opts)

        def reason(_: object) -> str:
            return no_address("The registry's Service", args.timeout, NO_LOAD_BALANCER)

        # Kubernetes lets nobody change the class of a Service.
        anew = pulumi.ResourceOptions(replace_on_changes=["spec.loadBalancerClass"], delete_before_replace=True)
        waiting = pulumi.ResourceOptions.merge(awaited(f"{name}-no-address", self, args.timeout, reason), anew)
        made = tls_service(
            name,
            "LoadBalancer",
            args.namespace,
            {**args.annotations, **ADDRESS_AWAITED},
            waiting,
            load_balancer_class=args.load_balancer_class,
            allowed_sources=args.allowed_sources,
        )
        given = [args.address] if args.address else []
        own = made.status.apply(published_addresses)
        self.address = own.apply(lambda found: args.address or choose_address(found, args.kept))

        def reached_at(known: Sequence[Any]) -> list[str]:
            found, opened = known
            if opened and args.nodes is None:
                return []
            return [*given, *found, *(every_address(args.nodes or ()) if opened else ())]

        # Kubernetes opens a port of every node for the load balancer, and `allowed_sources` do not count there.
        opened = made.spec.apply(lambda spec: any(port.node_port for port in spec.ports or []))
        self.addresses = pulumi.Output.all(own, opened).apply(reached_at)
        self.port = pulumi.Output.from_input(HTTPS)
        place = pulumi.Output.from_input(args.namespace)
        self._publisher = place.apply(lambda own: "" if args.address else f"/api/v1/namespaces/{own}/services/{name}")

    def serve(self, host: pulumi.Output[str], tls_secret: pulumi.Output[str]) -> Served:
        """Nothing is missing: the registry's pod serves the host, with the certificate in the Secret."""
        self.register_outputs({"address": self.address, "addresses": self.addresses, "port": self.port})
        return Served(host=host, address=self.address, addresses=self.addresses, publisher=self._publisher)
