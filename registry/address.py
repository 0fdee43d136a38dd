"""The address at which the cluster's Ingress controller is reached from outside."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

_LABELS = {"app.kubernetes.io/name": "address", "app.kubernetes.io/part-of": "private-registry"}


@dataclass(frozen=True, kw_only=True)
class AddressArgs:
    """What an `Address` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    service: pulumi.Input[str]
    """Service that the placeholder Ingress names as its backend."""
    port: int
    """Port of that Service."""
    ingress_class: str
    """IngressClass; empty: the cluster's default one."""
    timeout: str
    """How long to wait for the address, such as `2m`."""


def load_balancer_address(status: k8s.networking.v1.outputs.IngressStatus | None) -> str:
    """The first IP address in an Ingress's status, else its first host name, else nothing."""
    points = (status.load_balancer.ingress if status and status.load_balancer else None) or []
    return next((point.ip for point in points if point.ip), None) or next(
        (point.hostname for point in points if point.hostname), ""
    )


class Address(pulumi.ComponentResource):
    """The address of the Ingress controller's load balancer, read from the status of a placeholder Ingress.

    The registry's host name holds the address, and an Ingress cannot be made from its own status; hence a second one,
    for a host that nobody can ask for.
    Ready when: 1. the Ingress controller has published an address. Delete removes the Ingress.
    Does not: serve anything.
    """

    address: pulumi.Output[str]
    """IP address, or the host name that some load balancers have instead."""

    def __init__(self, name: str, args: AddressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the placeholder. `name` is the name of its Ingress in the namespace."""
        super().__init__("private-registry:registry:Address", name, None, opts)
        placeholder = k8s.networking.v1.Ingress(
            f"{name}-placeholder",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=_LABELS,
                annotations={"pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}"},
            ),
            spec=k8s.networking.v1.IngressSpecArgs(
                ingress_class_name=args.ingress_class or None,
                rules=[ingress_rule("placeholder.invalid", args.service, args.port)],
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                custom_timeouts=pulumi.CustomTimeouts(create=args.timeout, update=args.timeout, delete=args.timeout),
            ),
        )
        self.address = placeholder.status.apply(load_balancer_address)
        self.register_outputs({"address": self.address})


def ingress_rule(
    host: pulumi.Input[str], service: pulumi.Input[str], port: int
) -> k8s.networking.v1.IngressRuleArgs:
    """A rule that sends every path of `host` to a Service."""
    net = k8s.networking.v1
    backend = net.IngressBackendArgs(
        service=net.IngressServiceBackendArgs(name=service, port=net.ServiceBackendPortArgs(number=port))
    )
    path = net.HTTPIngressPathArgs(path="/", path_type="Prefix", backend=backend)
    return net.IngressRuleArgs(host=host, http=net.HTTPIngressRuleValueArgs(paths=[path]))
