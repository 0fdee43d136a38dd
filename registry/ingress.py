"""The Ingress that serves the registry's host over TLS."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .address import ingress_rule, load_balancer_address

_LABELS = {"app.kubernetes.io/name": "ingress", "app.kubernetes.io/part-of": "private-registry"}

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


@dataclass(frozen=True, kw_only=True)
class IngressArgs:
    """What an `Ingress` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    host: pulumi.Input[str]
    """DNS name to serve."""
    address: pulumi.Input[str]
    """Address that `host` resolves to: the one that this Ingress must have."""
    chain: pulumi.Input[str]
    """Server certificate and CA, PEM."""
    private_key: pulumi.Input[str]
    """The server certificate's key, PEM."""
    service: pulumi.Input[str]
    """Service behind it."""
    port: int
    """Port of that Service."""
    ingress_class: str
    """IngressClass; empty: the cluster's default one."""
    timeout: str
    """How long to wait for the Ingress controller, such as `2m`."""


def same_address(expected: str, actual: str) -> None:
    """Check that the Ingress got the address that its host name holds.

    Raises:
        pulumi.RunError: it got another one; the IngressClass gives each Ingress an address of its own.
    """
    if expected != actual:
        msg = (
            f"The registry's Ingress got the address {actual}, but the placeholder got {expected}, which is in the "
            "registry's host name: this IngressClass gives each Ingress an address of its own. Set ingressClass to a "
            "class whose Ingresses share one (kubectl get ingressclass), such as one of ingress-nginx or Traefik."
        )
        raise pulumi.RunError(msg)


class Ingress(pulumi.ComponentResource):
    """The Ingress of one host, with its certificate.

    Ready when: 1. the Ingress controller has published its address; 2. that is the address in the host's name.
    Delete removes the Ingress and the Secret with the certificate.
    Does not: make a certificate, or a Service of type LoadBalancer.
    """

    host: pulumi.Output[str]
    """The host, known once it is served."""

    def __init__(self, name: str, args: IngressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Ingress. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:Ingress", name, None, opts)
        child = pulumi.ResourceOptions(
            parent=self,
            custom_timeouts=pulumi.CustomTimeouts(create=args.timeout, update=args.timeout, delete=args.timeout),
        )
        certificate = k8s.core.v1.Secret(
            f"{name}-certificate",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-tls", namespace=args.namespace, labels=_LABELS),
            type="kubernetes.io/tls",
            string_data={"tls.crt": args.chain, "tls.key": args.private_key},
            opts=child,
        )
        ingress = k8s.networking.v1.Ingress(
            f"{name}-ingress",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=_LABELS,
                annotations={**ANNOTATIONS, "pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}"},
            ),
            spec=k8s.networking.v1.IngressSpecArgs(
                ingress_class_name=args.ingress_class or None,
                tls=[k8s.networking.v1.IngressTLSArgs(hosts=[args.host], secret_name=certificate.metadata.name)],
                rules=[ingress_rule(args.host, args.service, args.port)],
            ),
            opts=child,
        )

        def served(values: list[str]) -> str:
            host, expected, actual = values
            same_address(expected, actual)
            return host

        self.host = pulumi.Output.all(
            args.host, args.address, ingress.status.apply(load_balancer_address)
        ).apply(served)
        self.register_outputs({"host": self.host})
