"""The way in `gateway`: a Gateway (Gateway API) hands TLS through to the registry, by a route of its own."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from ..cluster import Cluster, Object, object_names
from ..hostname import HTTPS, named_after, split_port
from ..settings import SettingError, Settings
from ..waiting import after, awaited
from .address import LABELS, NOT_AWAITED, choose_address, live_addresses, tls_service
from .contract import GATEWAY, ExposureState, Served

GROUP = "gateway.networking.k8s.io"
GATEWAY_API = f"{GROUP}/v1"
"""The version of GatewayClass and Gateway: their stable one, since 2023."""
ROUTE_VERSIONS = ("v1", "v1alpha3", "v1alpha2")
"""The versions of TLSRoute, newest first. It is stable since Gateway API 1.5, and was experimental before."""
_PROGRAMMED = "condition=Programmed"
_HAS_ADDRESS = "jsonpath={.status.addresses[0].value}"
_ACCEPTED = 'jsonpath={.status.parents[0].conditions[?(@.type=="Accepted")].status}=True'


def route_version(cluster: Cluster) -> str:
    """The version of TLSRoute to use; empty if the cluster serves none."""
    return next((version for version in ROUTE_VERSIONS if cluster.serves(f"{GROUP}/{version}", "TLSRoute")), "")


def gateway_class(settings: Settings, cluster: Cluster, state: ExposureState) -> str:
    """The GatewayClass to use: that of the settings, of the stack's Gateway, or the cluster's only one.

    `gateway_error` makes sure that it is one of the three.
    """
    named = settings.gateway_class or state.gateway_class
    return named or next(iter(object_names(cluster.gateway_classes or [])), "")


def gateway_error(
    gateway_class: str, classes: Sequence[Object] | None, own: str = "", *, has_gateways: bool, has_routes: bool
) -> pulumi.RunError | None:
    """The error of a cluster that lacks the Gateway API, TLSRoute, or the GatewayClass to use.

    Args:
        gateway_class: The setting `gatewayClass`.
        classes: Every GatewayClass; None if the user may not list them.
        own: GatewayClass of the Gateway that the stack has; empty if it has none.
        has_gateways: Whether the cluster knows the kind Gateway.
        has_routes: Whether it knows the kind TLSRoute.
    """
    rule = ""
    if not has_gateways:
        rule = f"the cluster has no Gateway API (it does not serve {GATEWAY_API})"
    elif not has_routes:
        rule = "the cluster's Gateway API has no TLSRoute: install 1.5 or newer, or its experimental channel"
    elif classes == []:
        rule = "the cluster has no GatewayClass, so no controller for Gateways either"
    if rule:
        return SettingError("exposure", "gateway", rule, "loadBalancer")
    if classes is None:
        if gateway_class or own:
            return None
        rule = "the user of the kubeconfig may not list GatewayClasses, so it has to be named"
        return SettingError("gatewayClass", "", rule, "traefik")
    known = object_names(classes)
    there = f"the cluster has {', '.join(known)}"
    if own and not gateway_class:
        if own in known:
            return None
        rule = f"the stack's Gateway is of the GatewayClass {own}, which is gone: {there}"
        return SettingError("gatewayClass", "", rule, known[0])
    if not gateway_class and len(known) > 1:
        rule = f"there are several GatewayClasses, so it has to be named: {there}"
        return SettingError("gatewayClass", "", rule, known[0])
    if gateway_class and gateway_class not in known:
        rule = f"there is no GatewayClass of that name: {there}"
        return SettingError("gatewayClass", gateway_class, rule, own if own in known else known[0])
    return None


def complaints(status: Object) -> list[str]:
    """What a controller says is wrong with a Gateway and its listeners, or with a route and its parents."""
    entries: list[Object] = [status, *status.get("listeners", []), *status.get("parents", [])]
    wrong = {"Accepted": "False", "Programmed": "False", "ResolvedRefs": "False", "Conflicted": "True"}
    said = (
        str(condition.get("message", ""))
        for entry in entries
        for condition in entry.get("conditions", [])
        if wrong.get(condition["type"]) == condition["status"]
    )
    return list(dict.fromkeys(filter(None, said)))


def not_programmed(kind: str, timeout: str, said: Sequence[str]) -> str:
    """The error of a Gateway or a route that is not ready within the time: the reason, and what to do.

    Args:
        kind: `Gateway` or `TLSRoute`.
        timeout: The setting `addressTimeout`.
        said: What the controller says is wrong.
    """
    reason = (
        "its controller does not run, does not know the kind, or publishes no address (kubectl describe gatewayclass)"
    )
    if said:
        reason = f"its controller says: {'; '.join(said)}"
    return (
        f"The registry's {kind} was not ready within {timeout} (the setting addressTimeout): {reason}. Traefik knows a "
        "listener by the port of its own entry point, which is 8443 in its Helm chart (pulumi config set gatewayPort "
        "8443), and TLS passthrough only with its experimental channel. Set exposure to loadBalancer, which needs no "
        "Gateway (pulumi config set exposure loadBalancer), or address to where the Gateway is reached, if it is ready "
        "but publishes no address (pulumi config set address 192.0.2.10)."
    )


@dataclass(frozen=True, kw_only=True)
class GatewayArgs:
    """What a `Gateway` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    address: str
    """Address to use instead of the Gateway's own; empty if there is no other."""
    kept: Collection[str]
    """The addresses that were in use before."""
    gateway_class: str
    """GatewayClass of the Gateway."""
    gateway_port: int
    """TCP port of the Gateway's listener, as its controller knows it."""
    route_version: str
    """Version of TLSRoute, such as `v1`."""
    timeout: str
    """How long to wait for the Gateway, and again for the route, such as `2m`."""
    cluster: Cluster
    """The cluster, from which the status of both is read: the provider keeps none of custom resources."""


class Gateway(pulumi.ComponentResource):
    """A Gateway of the stack's own, whose one listener hands TLS through, and the route from it to the registry.

    The Gateway needs no certificate, so it can exist and have an address before the host is known. No proxy on the way
    sets limits for pushes.
    Ready when: 1. the controller has programmed the Gateway; 2. the Gateway has an address, unless the settings name
    one; 3. the controller has accepted the route. Delete leaves all to the end of the namespace.
    Does not: use a Gateway that exists already, or wait for the registry.
    """

    address: pulumi.Output[str]
    """IP address, or the DNS name that some load balancers have instead."""
    addresses: pulumi.Output[list[str]]
    """The address from the settings, if there is one, and every address of the Gateway; none if it publishes none."""
    class_name: pulumi.Output[str]
    """GatewayClass of the Gateway."""
    port: pulumi.Output[int]
    """Always 443; `gateway_port` is what the controller knows the listener by."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster, state: ExposureState) -> Sequence[pulumi.RunError]:
        """The cluster lacks the Gateway API, TLSRoute, or the GatewayClass to use."""
        has_gateways = cluster.serves(GATEWAY_API, "Gateway")
        error = gateway_error(
            settings.gateway_class,
            cluster.gateway_classes if has_gateways else None,
            state.gateway_class,
            has_gateways=has_gateways,
            has_routes=has_gateways and route_version(cluster) != "",
        )
        return [error] if error else []

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make Gateway and Service. `name` is the Service's name in the namespace, and the others' begin with it."""
        super().__init__(GATEWAY, name, None, opts)
        self._args, self._name = args, name
        # The status of a Gateway that is changed in place is that of its former class and port, until the controller
        # gets to it, and for ever if none does.
        self._gateway = named_after(name, args.gateway_class, str(args.gateway_port))
        child = pulumi.ResourceOptions(parent=self)
        self._service = tls_service(name, "ClusterIP", args.namespace, NOT_AWAITED, child).metadata.name
        listener = {
            "name": "registry",
            "protocol": "TLS",
            "port": args.gateway_port,
            "tls": {"mode": "Passthrough"},
            "allowedRoutes": {"namespaces": {"from": "Same"}, "kinds": [{"group": GROUP, "kind": "TLSRoute"}]},
        }
        spec = {"gatewayClassName": args.gateway_class, "listeners": [listener]}
        conditions = [_PROGRAMMED] if args.address else [_PROGRAMMED, _HAS_ADDRESS]
        gateway = self._make("Gateway", GATEWAY_API, spec, conditions, self._gateway)

        def published(namespace: str) -> list[str]:
            addresses = live_addresses(args.cluster.read(GATEWAY_API, "gateways", namespace, self._gateway))
            if not addresses and not args.address:
                gone = f"The Gateway {self._gateway} is gone, or has lost its address"
                msg = f"{gone}. Have it made anew: pulumi up --refresh."
                raise pulumi.RunError(msg)
            return addresses

        given = [args.address] if args.address else []
        own = after(args.namespace, gateway.id).apply(published)
        self.address = own.apply(lambda found: args.address or choose_address(found, args.kept))
        # The address that is given says nothing of the others, if the Gateway does not tell them.
        self.addresses = own.apply(lambda found: [*given, *found] if found else [])
        self.class_name = pulumi.Output.from_input(args.gateway_class)
        self.port = pulumi.Output.from_input(HTTPS)

    def serve(self, host: pulumi.Output[str], tls_secret: pulumi.Output[str]) -> Served:
        """Make the route from the Gateway to the registry, which serves the host with the certificate in the Secret."""
        dns_name = host.apply(lambda host: split_port(host)[0])
        spec = {
            "parentRefs": [{"name": self._gateway}],
            "hostnames": [dns_name],
            "rules": [{"backendRefs": [{"name": self._service, "port": HTTPS}]}],
        }
        name = dns_name.apply(lambda host: named_after(self._name, self._gateway, host))
        route = self._make("TLSRoute", f"{GROUP}/{self._args.route_version}", spec, [_ACCEPTED], name)
        self.register_outputs(
            {"address": self.address, "addresses": self.addresses, "port": self.port, "className": self.class_name}
        )
        place = pulumi.Output.from_input(self._args.namespace)
        path = place.apply(lambda own: f"/apis/{GATEWAY_API}/namespaces/{own}/gateways/{self._gateway}")
        return Served(
            host=after(host, route.id),
            address=self.address,
            addresses=self.addresses,
            publisher=pulumi.Output.from_input("") if self._args.address else path,
        )

    def _make(
        self,
        kind: str,
        api_version: str,
        spec: Mapping[str, Any],
        conditions: Sequence[str],
        name: pulumi.Input[str],
    ) -> k8s.apiextensions.CustomResource:
        """An object of the Gateway API that is ready once all conditions hold."""
        args, resource = self._args, f"{self._name}-{kind.lower()}"
        # The version is part of the resource's type. Without these aliases another version would be another resource of
        # the same name: the object would be changed for that one, and then be deleted for the former.
        same = [pulumi.Alias(type_=f"kubernetes:{GROUP}/{each}:{kind}") for each in ROUTE_VERSIONS]

        def reason(asked: Mapping[str, Any]) -> str:
            metadata = asked.get("metadata", {})
            place = (metadata.get("namespace", ""), metadata.get("name", ""))
            found = args.cluster.read(api_version, f"{kind.lower()}s", *place)
            return not_programmed(kind, args.timeout, complaints(found.get("status", {})))

        return k8s.apiextensions.CustomResource(
            resource,
            api_version=api_version,
            kind=kind,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=LABELS,
                annotations={"pulumi.com/waitFor": json.dumps(conditions)},
            ),
            spec=spec,
            opts=pulumi.ResourceOptions.merge(
                awaited(f"{resource}-not-ready", self, args.timeout, reason), pulumi.ResourceOptions(aliases=same)
            ),
        )
