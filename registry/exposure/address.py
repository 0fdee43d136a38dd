"""Addresses: how one of several is chosen, how the host is made from it, and what to do when there is none.

Several ways in need these; what only one of them needs is in that one's file.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..cluster import Object
from ..hostname import HTTPS, registry_host, split_port, with_port
from ..pod.nginx import PLAIN_PORT
from ..settings import Settings

LABELS = names.labels(names.REGISTRY)
"""Labels of the registry's pod, by which a Service finds it, and of the Service itself."""
NOT_AWAITED = {"pulumi.com/skipAwait": "true"}
"""Annotation of a Service that is ready as soon as it exists. By default the provider also waits for the Service's
pods, for which the program's own wait is enough."""
ADDRESS_AWAITED = {"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}"}
"""Annotation that counts an object as ready as soon as it has an address. By default the provider also waits for the
Service's pods. That would deadlock: pods need the certificate, the certificate needs the host, the host needs this
address."""

Status = k8s.core.v1.outputs.ServiceStatus | k8s.networking.v1.outputs.IngressStatus


def choose_address(found: Iterable[str], kept: Collection[str] = ()) -> str:
    """The one of several addresses that the host is made from; empty if there is none.

    IPv4 addresses come before IPv6 addresses and these before DNS names, and among equals the lowest is taken. The
    choice has to be independent of the order, because a load balancer's status keeps its addresses in no fixed order.

    Args:
        found: The addresses.
        kept: Those that were in use before. One of these goes before all others, so that a further address does not
            change the host.
    """

    def order(text: str) -> tuple[bool, int, int, str]:
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            return text not in kept, 9, 0, text
        return text not in kept, ip.version, int(ip), text

    return min(found, key=order, default="")


def published_addresses(status: Status | None) -> list[str]:
    """Every address and DNS name in the status of a Service or an Ingress; empty before any is published."""
    points = (status.load_balancer.ingress if status and status.load_balancer else None) or []
    return [text for point in points for text in (point.ip, point.hostname) if text]


def live_addresses(found: Object) -> list[str]:
    """The same of a Service, an Ingress or a Gateway as the API describes it."""
    status: Object = found.get("status") or {}
    load_balancer: Object = status.get("loadBalancer") or {}
    points: list[Object] = load_balancer.get("ingress") or status.get("addresses") or []
    return [str(point[key]) for point in points for key in ("ip", "hostname", "value") if point.get(key)]


def every_address(nodes: Iterable[Object]) -> list[str]:
    """Every IP address of the nodes: a port of the nodes is open at each of them, not only at the one in the host."""
    return [
        entry["address"]
        for node in nodes
        for entry in node["status"].get("addresses", [])
        if entry["type"] in ("InternalIP", "ExternalIP")
    ]


def host_of(settings: Settings, namespace: str, address: str, port: int) -> str:
    """The registry's host as image references spell it: the setting `host`, or a name made from namespace and address.

    Args:
        settings: The settings.
        namespace: The stack's namespace.
        address: Address of the way in; it may be empty if the setting `host` is not.
        port: TCP port of the way in; a port in the setting `host` takes precedence.

    Raises:
        pulumi.RunError: no host can be made from the address.
    """
    if settings.host:
        name, own_port = split_port(settings.host)
        return settings.host if own_port != HTTPS else with_port(name, port)
    try:
        return with_port(registry_host(namespace, address, settings.dns_suffix), port)
    except ValueError as error:
        raise pulumi.RunError(str(error)) from None


def plain_service(namespace: pulumi.Input[str]) -> pulumi.Output[str]:
    """The Service with the pod's plain port, which is there for every way in; its name.

    Plain HTTP never leaves the cluster, since this Service has no address outside of it.
    """
    ports = [k8s.core.v1.ServicePortArgs(name="plain", port=PLAIN_PORT, target_port="plain")]
    spec = k8s.core.v1.ServiceSpecArgs(type="ClusterIP", selector=LABELS, ports=ports)
    made = _service(names.REGISTRY, namespace, NOT_AWAITED, spec, pulumi.ResourceOptions())
    return made.metadata.name


def tls_service(
    name: str,
    kind: str,
    namespace: pulumi.Input[str],
    annotations: Mapping[str, str],
    opts: pulumi.ResourceOptions,
    *,
    node_port: int = 0,
    load_balancer_class: str = "",
    allowed_sources: Sequence[str] = (),
) -> k8s.core.v1.Service:
    """The Service of a way in that hands TLS through; it has port 443, which leads to the pod's TLS port.

    Args:
        name: Its name in the namespace. No other way in may use it: when the setting changes, the new Service is made
            before the old one is deleted.
        kind: Its type, such as `ClusterIP`.
        namespace: Its namespace.
        annotations: Its annotations.
        opts: Its options.
        node_port: The port of the nodes; 0 for one that Kubernetes chooses.
        load_balancer_class: Its class; empty for the cluster's default one.
        allowed_sources: The only networks from which it is reached, as CIDRs; empty for all.
    """
    ports = [k8s.core.v1.ServicePortArgs(name="tls", port=HTTPS, target_port="tls", node_port=node_port or None)]
    spec = k8s.core.v1.ServiceSpecArgs(
        type=kind,
        selector=LABELS,
        ports=ports,
        load_balancer_class=load_balancer_class or None,
        load_balancer_source_ranges=list(allowed_sources) or None,
    )
    return _service(name, namespace, annotations, spec, opts)


def _service(
    name: str,
    namespace: pulumi.Input[str],
    annotations: Mapping[str, str],
    spec: k8s.core.v1.ServiceSpecArgs,
    opts: pulumi.ResourceOptions,
) -> k8s.core.v1.Service:
    return k8s.core.v1.Service(
        f"{name}-service",
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=name, namespace=namespace, labels=LABELS, annotations=dict(annotations)
        ),
        spec=spec,
        opts=opts,
    )


NO_LOAD_BALANCER = "nothing in this cluster gives addresses to Services of type LoadBalancer, or all of them are taken"
"""Why a Service of type LoadBalancer stays without an address."""


def no_address(what: str, timeout: str, reason: str, more: str = "") -> str:
    """The error of a way in that gets no address within the time: the reason, and what to do.

    Args:
        what: The object or the program that got none.
        timeout: The setting `addressTimeout`.
        reason: Why it got none.
        more: What else helps, as the end of a sentence; empty if nothing else does.
    """
    return (
        f"{what} got no address within {timeout} (the setting addressTimeout): {reason}. Set exposure to nodePort, "
        f"which needs no load balancer (pulumi config set exposure nodePort){more}."
    )
