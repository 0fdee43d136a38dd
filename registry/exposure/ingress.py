"""The exposure `ingress`: an Ingress that serves the registry's host, and the address that its controller has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .cluster import Cluster
from .exposure import (
    PUBLISHED,
    ExposureArgs,
    Served,
    addresses,
    choose_address,
    service,
    wait_for_address,
)
from .hostname import HTTPS, split_port
from .registry import PORT

_LABELS = {"app.kubernetes.io/name": "ingress", "app.kubernetes.io/part-of": "private-registry"}
_SKIP_AWAIT = {"pulumi.com/skipAwait": "true"}  # of a ClusterIP Service: the Deployment's wait is enough

ANNOTATIONS = {
    # ingress-nginx: layers of any size, passed on as they come, by clients of any speed.
    "nginx.ingress.kubernetes.io/proxy-body-size": "0",
    "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
    "nginx.ingress.kubernetes.io/proxy-send-timeout": "3600",
    # F5 NGINX Ingress Controller; it has no annotation for request buffering.
    "nginx.org/client-max-body-size": "0",
    "nginx.org/proxy-read-timeout": "3600s",
    "nginx.org/proxy-send-timeout": "3600s",
    # Traefik: no router on plain HTTP. Its 60 s for a whole request is set on its entry point, not on an Ingress.
    "traefik.ingress.kubernetes.io/router.entrypoints": "websecure",
    "traefik.ingress.kubernetes.io/router.tls": "true",
    # HAProxy.
    "haproxy.org/timeout-server": "3600s",
}
"""What Ingress controllers need to hear so that a push of large layers works; each ignores the others'."""


class IngressAddress(pulumi.ComponentResource):
    """The address of the Ingress controller's load balancer, and the Service that the Ingress will need.

    The registry's host name holds the address, and an Ingress cannot be made from its own status; hence a placeholder,
    a first Ingress for a host that nobody can ask for. Where address or host are given there is none.
    Ready when: 1. the Ingress controller has published an address. Delete removes Service and placeholder.
    Does not: serve anything.
    """

    address: pulumi.Output[str]
    """IP address, or the host name that some load balancers have instead; empty where the host is given."""
    port: pulumi.Output[int]
    """443: Ingress controllers serve TLS there."""
    addresses: pulumi.Output[list[str]]
    """Every address of the placeholder; none where there is no placeholder."""
    service: pulumi.Output[str]
    """Name of the Service in front of the registry; its port is `PORT`."""

    def __init__(self, name: str, args: ExposureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the placeholder. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:IngressAddress", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.service = service(name, "ClusterIP", args, _SKIP_AWAIT, child).metadata.name
        self.address = pulumi.Output.from_input(args.address)
        self.addresses = pulumi.Output.from_input([])
        self.port = pulumi.Output.from_input(HTTPS)
        if not args.address and not args.host_is_set:
            placeholder = k8s.networking.v1.Ingress(
                f"{name}-placeholder",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=name, namespace=args.namespace, labels=_LABELS, annotations=PUBLISHED
                ),
                spec=k8s.networking.v1.IngressSpecArgs(
                    ingress_class_name=args.ingress_class or None,
                    rules=[_rule("placeholder.invalid", self.service)],
                ),
                opts=wait_for_address(name, "ingress", self, args.cluster, args.timeout),
            )
            self.addresses = placeholder.status.apply(addresses)
            self.address = self.addresses.apply(choose_address)
        self._args = args
        self.register_outputs({"address": self.address, "port": self.port, "service": self.service})

    def serve(self, name: str, host: pulumi.Output[str], certificate: pulumi.Output[str]) -> Served:
        """Make the Ingress that serves `host` with the certificate in a Secret. `name` is its name in the namespace."""
        args = self._args
        ingress = Ingress(
            name,
            IngressArgs(
                namespace=args.namespace,
                host=host,
                address=self.address,
                address_is_set=bool(args.address),
                certificate=certificate,
                service=self.service,
                ingress_class=args.ingress_class,
                cluster=args.cluster,
                timeout=args.timeout,
            ),
        )
        known = ingress.addresses if args.address or args.host_is_set else self.addresses
        return Served(host=ingress.host, address=ingress.address, addresses=known, certificate=None)


@dataclass(frozen=True, kw_only=True)
class IngressArgs:
    """What an `Ingress` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    host: pulumi.Input[str]
    """Host to serve, as image references spell it."""
    address: pulumi.Input[str]
    """Address that the host was made from; empty: none."""
    address_is_set: bool
    """Whether the user gave the address, so that it need not be the Ingress's own."""
    certificate: pulumi.Input[str]
    """Secret with the server's certificate and key."""
    service: pulumi.Input[str]
    """Service behind it; its port is `PORT`."""
    ingress_class: str
    """IngressClass; empty: the cluster's default one."""
    cluster: Cluster
    """The cluster, to ask it for the reason why there is no address."""
    timeout: str
    """How long to wait for the Ingress controller, such as `2m`."""


def same_address(expected: str, actual: Sequence[str]) -> None:
    """Check that the Ingress got the address that its host name holds.

    Raises:
        pulumi.RunError: it got another one; the IngressClass gives each Ingress an address of its own.
    """
    if expected not in actual:
        msg = (
            f"The registry's Ingress got the address {', '.join(actual)}, but the placeholder got {expected}, which is "
            "in the registry's host name: this IngressClass gives each Ingress an address of its own. Set exposure to "
            "loadBalancer, which needs no Ingress (pulumi config set exposure loadBalancer), or ingressClass to a "
            "class whose Ingresses share one address, such as Traefik's or ingress-nginx's (kubectl get ingressclass)."
        )
        raise pulumi.RunError(msg)


class Ingress(pulumi.ComponentResource):
    """The Ingress of one host.

    Ready when: 1. the Ingress controller has published its address; 2. that is the address in the host's name.
    Delete removes the Ingress.
    Does not: make a certificate, or a Service of type LoadBalancer.
    """

    host: pulumi.Output[str]
    """The host, known once it is served."""
    address: pulumi.Output[str]
    """Address at which it is reached."""
    addresses: pulumi.Output[list[str]]
    """That, and every other one that the Ingress controller has published."""

    def __init__(self, name: str, args: IngressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Ingress. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:Ingress", name, None, opts)
        dns_name = pulumi.Output.from_input(args.host).apply(lambda host: split_port(host)[0])
        ingress = k8s.networking.v1.Ingress(
            f"{name}-ingress",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name, namespace=args.namespace, labels=_LABELS, annotations={**ANNOTATIONS, **PUBLISHED}
            ),
            spec=k8s.networking.v1.IngressSpecArgs(
                ingress_class_name=args.ingress_class or None,
                tls=[k8s.networking.v1.IngressTLSArgs(hosts=[dns_name], secret_name=args.certificate)],
                rules=[_rule(dns_name, args.service)],
            ),
            opts=wait_for_address(name, "ingress", self, args.cluster, args.timeout),
        )

        def reached_at(values: list[Any]) -> str:
            expected, actual = values
            if expected and not args.address_is_set:
                same_address(expected, actual)
            return expected or choose_address(actual)

        published = ingress.status.apply(addresses)
        self.address = pulumi.Output.all(args.address, published).apply(reached_at)
        self.addresses = pulumi.Output.all(self.address, published).apply(lambda both: [both[0], *both[1]])
        self.host = pulumi.Output.all(args.host, self.address).apply(lambda values: values[0])
        self.register_outputs({"host": self.host, "address": self.address})


def _rule(host: pulumi.Input[str], service: pulumi.Input[str]) -> k8s.networking.v1.IngressRuleArgs:
    """A rule that sends every path of `host` to the Service."""
    net = k8s.networking.v1
    backend = net.IngressBackendArgs(
        service=net.IngressServiceBackendArgs(name=service, port=net.ServiceBackendPortArgs(number=PORT))
    )
    path = net.HTTPIngressPathArgs(path="/", path_type="Prefix", backend=backend)
    return net.IngressRuleArgs(host=host, http=net.HTTPIngressRuleValueArgs(paths=[path]))
