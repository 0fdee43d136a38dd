"""Whose a host is already: two objects that serve one host make a client meet either of two registries."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pulumi
from kubernetes.client.exceptions import ApiException

from ..cluster import Cluster, Object, api_message
from ..hostname import is_ip_address, split_port
from ..pod.images import Images
from ..settings import SettingError, Settings
from .address import host_of

_GATEWAY_API = "/apis/gateway.networking.k8s.io"
PATHS: Mapping[str, Sequence[str]] = {
    "Ingress": ["/apis/networking.k8s.io/v1/ingresses"],
    "HTTPRoute": [f"{_GATEWAY_API}/v1/httproutes"],
    "TLSRoute": [f"{_GATEWAY_API}/{version}/tlsroutes" for version in ("v1", "v1alpha3", "v1alpha2")],
}
"""Where the API lists the objects that serve hosts. Every version that the cluster serves lists them all."""
_SHARED = ("ingress", "gateway")
"""The ways in whose controllers serve others as well."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """An object that serves a host."""

    kind: str
    namespace: str
    name: str


def hosts_of(entry: Object) -> Iterator[str]:
    """The hosts that an Ingress or a route serves."""
    spec: Object = entry.get("spec") or {}
    rules: Sequence[Object] = spec.get("rules") or []
    yield from (str(rule["host"]) for rule in rules if rule.get("host"))
    yield from map(str, spec.get("hostnames") or [])


def server_of(host: str, namespace: str, found: Mapping[str, Sequence[Object]]) -> Server | None:
    """Whoever serves a host outside of the namespace; None if nobody does.

    A wildcard such as `*.example.com` does not count, since the more exact host takes precedence.

    Args:
        host: The host, without a port.
        namespace: The stack's namespace.
        found: The Ingresses and routes of the whole cluster, by their kind.
    """
    servers = [
        Server(kind=kind, namespace=entry["metadata"]["namespace"], name=entry["metadata"]["name"])
        for kind, entries in found.items()
        for entry in entries
        if entry["metadata"]["namespace"] != namespace and host in hosts_of(entry)
    ]
    return min(servers, key=lambda server: (server.namespace, server.name), default=None)


def taken_error(host: str, address: str, server: Server) -> pulumi.RunError:
    """The error of a host that somebody else serves.

    Args:
        host: The host.
        address: Address of the way in.
        server: Whoever serves it.
    """
    name, _ = split_port(host)
    what = f"{server.kind} {server.namespace}/{server.name}"
    own = "set host to a name of your own that leads there (pulumi config set host registry-pr-42.example.com)"
    if name == address.lower().rstrip(".") and not is_ip_address(address):
        return pulumi.RunError(
            f"The host {host} is served by the {what} already. It is the name of a load balancer that publishes no "
            f"address, so every stack behind it would have this host: {own}, or exposure to loadBalancer, where each "
            "stack has a load balancer of its own (pulumi config set exposure loadBalancer)."
        )
    return pulumi.RunError(
        f"The host {host} is served by the {what} already, and it can lead to one registry only: {own}, or have its "
        f"owner remove it (kubectl delete {server.kind.lower()} -n {server.namespace} {server.name})."
    )


def circle_error(host: str, images: Images) -> pulumi.RunError | None:
    """The error of images that would come from this very registry."""
    own = [image for image in (images.registry, images.nginx, images.python) if image.startswith(f"{host}/")]
    if not own:
        return None
    return pulumi.RunError(
        f"The image {own[0]} would come from the registry that it is for: once its pod is gone, no other one could "
        "start. Take it from elsewhere: pulumi config set imageRegistry docker.io/library"
    )


async def own_host(settings: Settings, cluster: Cluster, namespace: str, address: str, port: int) -> str:
    """The registry's host, which nobody else's Ingress or route serves; see `host_of`.

    Raises:
        pulumi.RunError: no host can be made from the address, somebody else serves it, or the program's own images
            would come from it.
    """
    host = host_of(settings, namespace, address, port)
    circle = circle_error(host, settings.images)
    if circle:
        raise circle
    if settings.exposure not in _SHARED:
        return host  # it leads to a Service of the stack's own, by an address or a port that no other one has
    found = await asyncio.to_thread(_everything, cluster)
    server = server_of(split_port(host)[0], namespace, found)
    if server:
        raise taken_error(host, address, server)
    return host


def move_error(settings: Settings, cluster: Cluster, former: str) -> pulumi.RunError | None:
    """The error of a stack that is to move to another namespace with a host that the former one serves until the end.

    Args:
        settings: The settings.
        cluster: The cluster.
        former: The namespace that the stack has; empty if it has none.
    """
    host, namespace = settings.host, settings.namespace
    if not host or not former or namespace in ("", former) or settings.exposure not in _SHARED:
        return None
    server = server_of(split_port(host)[0], namespace, _everything(cluster))
    if server is None or server.namespace != former:
        return None
    rule = (
        f"the host {host} is served from the namespace {former} until the stack has moved, and it can lead to one "
        "registry only"
    )
    other = "to move all the same, give it another host: pulumi config set host registry-2.example.com"
    return SettingError("namespace", namespace, rule, former, more=other)


def _everything(cluster: Cluster) -> dict[str, list[Object]]:
    """Every Ingress and route of the cluster, as far as the user may list them."""

    def listed(kind: str) -> list[Object]:
        for path in PATHS[kind]:
            try:
                answer = cluster.find(path)
            except ApiException as error:
                pulumi.log.warn(
                    f"Whether somebody else serves the registry's host was not checked: the cluster "
                    f"answers {api_message(error)}"
                )
                return []
            if answer is not None:
                return list(answer["items"])
        return []

    with ThreadPoolExecutor(len(PATHS)) as pool:
        return dict(zip(PATHS, pool.map(listed, PATHS), strict=True))
