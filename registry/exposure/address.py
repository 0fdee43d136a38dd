"""What every way in has in common: what it is made from, the Service, and how an address is chosen and missed."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .cluster import Cluster
from .hostname import HTTPS, registry_host, split_port, with_port
from .registry import LABELS, PORT
from .settings import Settings
from .waiting import wait

PUBLISHED = {"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}"}
"""Annotation of what is ready once it has an address. A Service would by itself also wait for pods, which wait for a
certificate, which waits for the address."""


@dataclass(frozen=True, kw_only=True)
class ExposureArgs:
    """What an exposure needs before there is a certificate."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    address: str
    """Address to use in place of the one that the cluster tells; empty: the cluster's."""
    host_is_set: bool
    """Whether the registry's host is given, so that no address has to be known before the host is served."""
    ingress_class: str
    """IngressClass; empty: the cluster's default one."""
    gateway_class: str
    """GatewayClass; empty: the cluster's only one."""
    gateway_port: int
    """TCP port of the Gateway's listener, as its controller knows it."""
    timeout: str
    """How long to wait for an address, such as `2m`."""
    cluster: Cluster
    """The cluster, to ask it for its nodes, or for the reason why there is no address."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """A host that is served, or will be by the registry itself."""

    host: pulumi.Output[str]
    """The host, as image references spell it."""
    address: pulumi.Output[str]
    """Address at which it is reached."""
    addresses: pulumi.Output[list[str]]
    """Every address at which it is reached, as far as the cluster tells."""
    certificate: pulumi.Output[str] | None
    """Secret with which the registry has to terminate TLS; None: something in front of it does."""


def choose_address(found: Iterable[str]) -> str:
    """The one address that the host is made from; empty: there is none.

    An IPv4 address before an IPv6 one before a host name, and of several the lowest: the status of a load balancer that
    has several addresses keeps them in no fixed order.
    """

    def order(text: str) -> tuple[int, int, str]:
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            return 9, 0, text
        return ip.version, int(ip), text

    return min(found, key=order, default="")


Status = k8s.core.v1.outputs.ServiceStatus | k8s.networking.v1.outputs.IngressStatus


def addresses(status: Status | None) -> list[str]:
    """Every address and host name in a load balancer's status; none before it published any."""
    points = (status.load_balancer.ingress if status and status.load_balancer else None) or []
    return [text for point in points for text in (point.ip, point.hostname) if text]


def load_balancer_address(status: Status | None) -> str:
    """The one address of a load balancer's status that the host is made from; see `choose_address`."""
    return choose_address(addresses(status))


def host_of(settings: Settings, stack: str, address: str, port: int) -> str:
    """The registry's host as image references spell it: the setting `host`, or made from stack and address.

    Args:
        settings: The settings.
        stack: The stack's name.
        address: Address at which the exposure is reached; may be empty where the setting `host` is not.
        port: TCP port at which the exposure is reached; one in the setting `host` goes before it.

    Raises:
        pulumi.RunError: no host can be made from the address.
    """
    if settings.host:
        name, own_port = split_port(settings.host)
        return settings.host if own_port != HTTPS else with_port(name, port)
    try:
        return with_port(registry_host(stack, address, settings.dns_suffix), port)
    except ValueError as error:
        raise pulumi.RunError(str(error)) from None


def service(
    name: str, kind: str, args: ExposureArgs, annotations: dict[str, str], opts: pulumi.ResourceOptions
) -> k8s.core.v1.Service:
    """The Service in front of the registry's pod. `name` is its name in the namespace, `kind` its type."""
    port = PORT if kind == "ClusterIP" else HTTPS
    return k8s.core.v1.Service(
        f"{name}-service",
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=name, namespace=args.namespace, labels=LABELS, annotations=annotations
        ),
        spec=k8s.core.v1.ServiceSpecArgs(
            type=kind,
            selector=LABELS,
            ports=[k8s.core.v1.ServicePortArgs(name="registry", port=port, target_port=PORT)],
        ),
        opts=opts,
    )


def no_address(exposure: str, timeout: str, pending: Sequence[str]) -> str:
    """Why there is no address within the time, and what to do.

    Args:
        exposure: The setting `exposure`.
        timeout: The setting `addressTimeout`.
        pending: Services of type LoadBalancer without an address, as `namespace/name`.
    """
    what = "The registry's Service" if exposure == "loadBalancer" else "The Ingress controller"
    nobody = "nothing in this cluster gives addresses to Services of type LoadBalancer, or all of them are taken"
    if exposure == "loadBalancer":
        reason = nobody
    elif pending:
        reason = f"its Service may be {' or '.join(pending)}, which has none, so {nobody}"
    else:
        reason = "no controller serves the IngressClass, or the one that does publishes no address"
    return (
        f"{what} got no address within {timeout} (the setting addressTimeout): {reason}. Set exposure to nodePort, "
        "which needs no load balancer (pulumi config set exposure nodePort), or address to where the Ingress "
        "controller is reached (pulumi config set address 192.0.2.10)."
    )


def wait_for_address(
    name: str, exposure: str, parent: pulumi.Resource, cluster: Cluster, timeout: str
) -> pulumi.ResourceOptions:
    """Options of the object that gets an address: they bound the wait, and tell the reason when there is none in time.

    Args:
        name: A name that no other hook of the program has.
        exposure: The setting `exposure`.
        parent: Component of the object.
        cluster: The cluster, to ask it for the reason.
        timeout: How long to wait, such as `2m`.
    """
    return wait(
        f"{name}-no-address", parent, timeout, lambda _: no_address(exposure, timeout, cluster.pending_load_balancers())
    )


class DirectExposure(pulumi.ComponentResource):
    """A way in that hands every connection through, so that the registry terminates TLS itself."""

    address: pulumi.Output[str]
    """IP address, or the host name that some load balancers have instead."""
    addresses: pulumi.Output[list[str]]
    """Every address at which it is reached, as far as the cluster tells."""
    port: pulumi.Output[int]
    """TCP port at which it is reached."""

    def serve(self, _name: str, host: pulumi.Output[str], certificate: pulumi.Output[str]) -> Served:
        """Make what `host` needs to be served: nothing. The registry does, with the certificate in the Secret."""
        return Served(host=host, address=self.address, addresses=self.addresses, certificate=certificate)
