"""What every way in offers. The program knows nothing else of the one that the settings name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pulumi

from ..cluster import Cluster
from ..settings import Settings
from ..waiting import unordered

INGRESS, GATEWAY = "private-registry:registry:Ingress", "private-registry:registry:Gateway"
COMPONENTS = (INGRESS, GATEWAY, "private-registry:registry:LoadBalancer", "private-registry:registry:NodePort")
"""Types of the components; the output `address` of each is what the host was made from."""


@dataclass(frozen=True, kw_only=True)
class ExposureState:
    """What the stack's state says of its way in; there may be two of them after an `up` that was killed."""

    addresses: frozenset[str] = frozenset()
    """The addresses that were in use. One that is still good is kept, since image references hold it."""
    namespace: str = ""
    """The stack's namespace; empty if it has none."""
    silent: bool = False
    """Whether the stack has Ingresses for which their controller publishes no address."""
    ingress_class: str | None = None
    """IngressClass of the stack's Ingresses; empty if it was left to the cluster, None if there are none."""
    gateway_class: str = ""
    """GatewayClass of the stack's Gateway; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """The registry's host, from the moment that the way in leads to the registry's pod.

    Everything that needs the registry to be reachable takes host and address from here, not from the way in.
    """

    host: pulumi.Output[str]
    """The host, as image references spell it."""
    address: pulumi.Output[str]
    """Address at which the host is reached: an IP address, or the DNS name that some load balancers have instead."""
    addresses: pulumi.Output[list[str]]
    """Every address at which the host is reached, as far as the cluster publishes them; none if it tells too few."""
    publisher: pulumi.Output[str]
    """The API's path of the object in whose status the address is; empty if it is in none."""

    def unordered(self) -> "Served":
        """The same, without the objects of the way in: `destroy` deletes these beside what is made after them."""
        return Served(
            host=unordered(self.host),
            address=unordered(self.address),
            addresses=unordered(self.addresses),
            publisher=unordered(self.publisher),
        )


class Exposure(Protocol):
    """A way in: the component behind one value of the setting `exposure`.

    Its life has three steps. `errors` is asked before anything is made. The constructor makes what is needed for an
    address, because the registry's host is made from the address, and the certificate from the host. Then `serve`,
    which is called once, makes whatever else the host needs, and registers the component's outputs.
    """

    address: pulumi.Output[str]
    """IP address, or the DNS name that some load balancers have instead; empty if the setting `host` makes it
    unnecessary to know it this early."""
    addresses: pulumi.Output[list[str]]
    """Every address at which the way in is reached, as far as it is known before the host is served."""
    port: pulumi.Output[int]
    """TCP port at which clients reach it."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster, state: ExposureState) -> Sequence[pulumi.RunError]:
        """Why the cluster cannot offer this way in with these settings, and what to do; empty if it can."""
        ...

    def serve(self, host: pulumi.Output[str], tls_secret: pulumi.Output[str]) -> Served:
        """Make what is missing for clients to reach the registry under `host`.

        Args:
            host: The registry's host, as image references spell it.
            tls_secret: Secret with the certificate for the host, and its key.
        """
        ...
