"""The exposure `loadBalancer`: a Service of type LoadBalancer straight to the registry, which terminates TLS itself."""

import pulumi

from .exposure import PUBLISHED, ExposureArgs, Served, addresses, load_balancer_address, service, wait_for_address
from .hostname import HTTPS


class LoadBalancer(pulumi.ComponentResource):
    """A Service of type LoadBalancer and its address.

    No Ingress controller and none of its limits, and no plain HTTP between two pods.
    Ready when: 1. the load balancer has an address. Delete removes the Service, and with it the load balancer.
    Does not: wait for the registry.
    """

    address: pulumi.Output[str]
    """IP address, or the host name that some load balancers have instead."""
    addresses: pulumi.Output[list[str]]
    """Every address at which the load balancer is reached."""
    port: pulumi.Output[int]
    """443."""

    def __init__(self, name: str, args: ExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Service. `name` is its name in the namespace."""
        super().__init__("private-registry:registry:LoadBalancer", name, None, opts)
        made = service(name, "LoadBalancer", args, PUBLISHED, wait_for_address(name, "loadBalancer", self, args))
        own = made.status.apply(load_balancer_address)
        self.addresses = made.status.apply(lambda status: [*filter(None, [args.address]), *addresses(status)])
        self.address = own.apply(lambda address: args.address or address)
        self.port = pulumi.Output.from_input(HTTPS)
        self.register_outputs({"address": self.address, "port": self.port})

    def serve(self, _name: str, host: pulumi.Output[str], certificate: pulumi.Output[str]) -> Served:
        """Nothing is to be made: the registry serves `host` itself, with the certificate in the Secret."""
        return Served(host=host, address=self.address, addresses=self.addresses, certificate=certificate)
