"""The exposure `loadBalancer`: a Service of type LoadBalancer straight to the registry, which terminates TLS itself."""

import pulumi

from .exposure import (
    PUBLISHED,
    DirectExposure,
    ExposureArgs,
    addresses,
    load_balancer_address,
    service,
    wait_for_address,
)
from .hostname import HTTPS


class LoadBalancer(DirectExposure):
    """A Service of type LoadBalancer and its address.

    No Ingress controller and none of its limits, and no plain HTTP between two pods.
    Ready when: 1. the load balancer has an address. Delete removes the Service, and with it the load balancer.
    Does not: wait for the registry.
    """

    def __init__(self, name: str, args: ExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Service. `name` is its name in the namespace."""
        super().__init__("private-registry:registry:LoadBalancer", name, None, opts)
        waited = wait_for_address(name, "loadBalancer", self, args.cluster, args.timeout)
        made = service(name, "LoadBalancer", args, PUBLISHED, waited)
        own = made.status.apply(load_balancer_address)
        self.addresses = made.status.apply(lambda status: [*filter(None, [args.address]), *addresses(status)])
        self.address = own.apply(lambda address: args.address or address)
        self.port = pulumi.Output.from_input(HTTPS)
        self.register_outputs({"address": self.address, "port": self.port})
