"""The way in `loadBalancer`: a Service of type LoadBalancer leads to the TLS port of the registry's pod."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from ..cluster import Cluster
from ..hostname import HTTPS
from ..settings import Settings
from ..waiting import awaited
from .address import ADDRESS_AWAITED, NO_LOAD_BALANCER, choose_address, no_address, published_addresses, tls_service
from .contract import Served


@dataclass(frozen=True, kw_only=True)
class LoadBalancerArgs:
    """What a `LoadBalancer` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the Service."""
    address: str
    """Address to use instead of the load balancer's own; empty if there is no other."""
    timeout: str
    """How long to wait for the load balancer's address, such as `2m`."""


class LoadBalancer(pulumi.ComponentResource):
    """A Service of type LoadBalancer and its address.

    It needs no Ingress controller and has none of the limits of one, and no plain HTTP passes between two pods.
    Ready when: 1. the load balancer has an address. Delete removes the Service, and with it the load balancer.
    Does not: wait for the registry.
    """

    address: pulumi.Output[str]
    """IP address, or the DNS name that some load balancers have instead."""
    addresses: pulumi.Output[list[str]]
    """The address from the settings, if there is one, and every address of the load balancer."""
    port: pulumi.Output[int]
    """Always 443."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
        """Nothing: whether a load balancer gets an address shows only when it is made."""
        return ()

    def __init__(self, name: str, args: LoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Service. `name` is its name in the namespace."""
        super().__init__("private-registry:registry:LoadBalancer", name, None, opts)

        def reason(_: object) -> str:
            return no_address("The registry's Service", args.timeout, NO_LOAD_BALANCER)

        waiting = awaited(f"{name}-no-address", self, args.timeout, reason)
        made = tls_service(name, "LoadBalancer", args.namespace, ADDRESS_AWAITED, waiting)
        given = [args.address] if args.address else []
        own = made.status.apply(published_addresses)
        self.address = own.apply(lambda found: args.address or choose_address(found))
        self.addresses = own.apply(lambda found: [*given, *found])
        self.port = pulumi.Output.from_input(HTTPS)

    def serve(self, host: pulumi.Output[str], tls_secret: pulumi.Output[str]) -> Served:
        """Nothing is missing: the registry's pod serves the host, with the certificate in the Secret."""
        self.register_outputs({"address": self.address, "addresses": self.addresses, "port": self.port})
        return Served(host=host, address=self.address, addresses=self.addresses)
