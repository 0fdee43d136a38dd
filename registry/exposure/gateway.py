"""The exposure `gateway`: a Gateway (Gateway API) that hands TLS through to the registry, and the route behind it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .cluster import Cluster, Object
from .exposure import DirectExposure, ExposureArgs, Served, choose_address, service
from .hostname import HTTPS, split_port
from .registry import LABELS, PORT
from .waiting import wait

GROUP = "gateway.networking.k8s.io"
GATEWAY_API = f"{GROUP}/v1"
"""The version of GatewayClass and Gateway: their stable one, since 2023."""
ROUTE_VERSIONS = ("v1", "v1alpha3", "v1alpha2")
"""The versions of TLSRoute, newest first: stable since Gateway API 1.5, in its experimental channel before."""
_PROGRAMMED = "condition=Programmed"
_ADDRESS = "jsonpath={.status.addresses[0].value}"
_ACCEPTED = 'jsonpath={.status.parents[0].conditions[?(@.type=="Accepted")].status}=True'


def route_version(cluster: Cluster) -> str:
    """The version of TLSRoute to use; empty: the cluster serves none."""
    return next((version for version in ROUTE_VERSIONS if cluster.serves(f"{GROUP}/{version}", "TLSRoute")), "")


def gateway_addresses(gateway: Object) -> list[str]:
    """Every address and host name in a Gateway's status; none before it has any."""
    return [str(entry["value"]) for entry in gateway.get("status", {}).get("addresses", [])]


def complaints(status: Object) -> list[str]:
    """What a controller says is wrong, in its words: of a Gateway and its listeners, or of a route and its parents."""
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
    """Why a Gateway or the route behind it was not ready within the time, and what to do.

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


class Gateway(DirectExposure):
    """A Gateway of the stack's own, whose one listener hands TLS through.

    It needs no certificate, so it can be there, and have its address, before the host is known; and no proxy on the
    way has limits for what is pushed. Ready when: 1. its controller has programmed it; 2. it has an address, where the
    user gave none. Delete removes Gateway, route and Service.
    Does not: use a Gateway that is there, or wait for the registry.
    """

    def __init__(self, name: str, args: ExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make Gateway and Service. `name` is their name in the namespace."""
        super().__init__("private-registry:registry:Gateway", name, None, opts)
        self._args, self._name = args, name
        # There is nothing to wait for: it is only the name of the registry's pod.
        behind = service(name, "ClusterIP", args, {"pulumi.com/skipAwait": "true"}, pulumi.ResourceOptions(parent=self))
        self._service = behind.metadata.name
        # The preflight has made sure that there is only one where none is named.
        only = next((str(entry["metadata"]["name"]) for entry in args.cluster.gateway_classes or []), "")
        listener = {
            "name": "registry",
            "protocol": "TLS",
            "port": args.gateway_port,
            "tls": {"mode": "Passthrough"},
            "allowedRoutes": {"namespaces": {"from": "Same"}, "kinds": [{"group": GROUP, "kind": "TLSRoute"}]},
        }
        spec = {"gatewayClassName": args.gateway_class or only, "listeners": [listener]}
        wanted = [_PROGRAMMED] if args.address else [_PROGRAMMED, _ADDRESS]
        gateway = self._make("Gateway", GATEWAY_API, spec, wanted)

        def published(made: Sequence[Any]) -> list[str]:
            addresses = gateway_addresses(args.cluster.read(GATEWAY_API, "gateways", made[1], name))
            if not addresses and not args.address:
                msg = f"The Gateway {name} is gone, or has lost its address. Have it made anew: pulumi up --refresh."
                raise pulumi.RunError(msg)
            return addresses

        found = pulumi.Output.all(gateway.id, args.namespace).apply(published)
        self.addresses = found.apply(lambda addresses: [*filter(None, [args.address]), *addresses])
        self.address = found.apply(lambda addresses: args.address or choose_address(addresses))
        self.port = pulumi.Output.from_input(HTTPS)
        self.register_outputs({"address": self.address, "port": self.port})

    def serve(self, name: str, host: pulumi.Output[str], certificate: pulumi.Output[str]) -> Served:
        """Make the route from the Gateway to the registry for `host`. `name` is not used: it is the Gateway's."""
        spec = {
            "parentRefs": [{"name": self._name}],
            "hostnames": [host.apply(lambda host: split_port(host)[0])],
            "rules": [{"backendRefs": [{"name": self._service, "port": PORT}]}],
        }
        api_version = f"{GROUP}/{route_version(self._args.cluster)}"
        route = self._make("TLSRoute", api_version, spec, [_ACCEPTED])
        routed = pulumi.Output.all(host, route.id).apply(lambda made: made[0])
        return super().serve(name, routed, certificate)

    def _make(
        self, kind: str, api_version: str, spec: Mapping[str, Any], wanted: Sequence[str]
    ) -> k8s.apiextensions.CustomResource:
        """An object of the Gateway API, waited for until all that is wanted holds."""
        args, name = self._args, self._name

        def reason(asked: Mapping[str, Any]) -> str:
            namespace = asked.get("metadata", {}).get("namespace", "")
            found = args.cluster.read(api_version, f"{kind.lower()}s", namespace, name)
            return not_programmed(kind, args.timeout, complaints(found.get("status", {})))

        return k8s.apiextensions.CustomResource(
            f"{name}-{kind.lower()}",
            api_version=api_version,
            kind=kind,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=LABELS,
                annotations={"pulumi.com/waitFor": json.dumps(wanted)},
            ),
            spec=spec,
            opts=wait(f"{name}-{kind.lower()}-not-ready", self, args.timeout, reason),
        )
