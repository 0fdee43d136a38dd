"""The way in `ingress`: an Ingress serves the registry's host, at the address of the cluster's Ingress controller."""

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..cluster import Cluster, Object, has_annotation, object_names
from ..hostname import HTTPS, named_after, placeholder_host, split_port
from ..pod.nginx import PLAIN_PORT
from ..settings import SettingError, Settings
from ..waiting import after, awaited, seconds_of
from .address import (
    ADDRESS_AWAITED,
    NO_LOAD_BALANCER,
    NOT_AWAITED,
    choose_address,
    live_addresses,
    no_address,
    published_addresses,
)
from .contract import INGRESS, ExposureState, Served

_LABELS = names.labels(names.INGRESS)
_INTERVAL = 0.5
"""Seconds between two looks at what the Ingress controller publishes."""
_PATIENCE = 10.0
"""Seconds after which it is said that this is waited for."""
_DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"

HTTPS_ONLY = {"kubernetes.io/ingress.allow-http": "false"}
"""What policies want that forbid plain HTTP, beside a part `tls` in the Ingress: Gatekeeper's `httpsonly` and Kyverno's
`require-ingress-https`. The annotation is Google's."""

ANNOTATIONS = {
    **HTTPS_ONLY,
    # ingress-nginx: layers may have any size, and are passed on while the client still sends, at any speed.
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
"""What Ingress controllers need so that a push of large layers works. Each ignores the annotations of the others."""


ALB = ("ingress.k8s.aws/alb", "eks.amazonaws.com/alb")
"""The controllers of AWS, outside and inside of EKS Auto Mode, that make an Application Load Balancer of an Ingress.
Its certificates are AWS's own; of those in Secrets it takes none (kubernetes-sigs/aws-load-balancer-controller)."""


def _alb_error(ingress_class: str, entry: Object) -> pulumi.RunError | None:
    """The error of an IngressClass whose controller takes no certificate from a Secret."""
    name, controller = entry["metadata"]["name"], entry.get("spec", {}).get("controller", "")
    if controller not in ALB:
        return None
    scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme"
    target = "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type"
    return SettingError(
        "ingressClass",
        ingress_class,
        f"the controller of the IngressClass {name} ({controller}) makes an Application Load Balancer, which takes no "
        "certificate from a Secret, so nodes would meet another one: use another class, or a Network Load Balancer",
        "nginx",
        more="for the latter: pulumi config set exposure loadBalancer, pulumi config set --path "
        f"'serviceAnnotations[\"{target}\"]' ip, and to reach it from outside of the VPC also pulumi config set --path "
        f"'serviceAnnotations[\"{scheme}\"]' internet-facing",
    )


def ingress_class(settings: Settings, cluster: Cluster, state: ExposureState) -> str:
    """The IngressClass to use: that of the settings, of the stack's Ingress, or the default one.

    It is empty if the user may not list them, so that the choice is left to the cluster.
    """
    if settings.ingress_class or state.ingress_class is not None:
        return settings.ingress_class or state.ingress_class or ""
    defaults = _default_classes(cluster.ingress_classes() or ())
    return object_names(defaults)[0] if defaults else ""


def _default_classes(classes: Sequence[Object]) -> Sequence[Object]:
    return [entry for entry in classes if has_annotation(entry, _DEFAULT_CLASS)]


def ingress_class_error(
    ingress_class: str, classes: Sequence[Object] | None, own: str | None = None
) -> pulumi.RunError | None:
    """The error of a cluster without the wanted IngressClass, or without one that it would use by default.

    A class whose controller takes no certificate from a Secret is an error, too.

    Args:
        ingress_class: The setting `ingressClass`.
        classes: Every IngressClass; None if the user may not list them, and then there is no error.
        own: IngressClass of the Ingress that the stack has; empty if it was left to the cluster, None if it has none.
    """
    if classes is None:
        return None
    known, entries = object_names(classes), {entry["metadata"]["name"]: entry for entry in classes}
    there = f"the cluster has {', '.join(known)}" if known else "the cluster has none"
    if ingress_class:
        if ingress_class in known:
            return _alb_error(ingress_class, entries[ingress_class])
        rule = f"there is no IngressClass of that name: {there}"
        return SettingError("ingressClass", ingress_class, rule, own if own in known else (known or ["nginx"])[0])
    if own in known:
        return _alb_error("", entries[own])
    if own and known:
        rule = f"the stack's Ingress is of the IngressClass {own}, which is gone: {there}"
        return SettingError("ingressClass", "", rule, known[0])
    if not known:
        rule = (
            "the cluster has no IngressClass, so no Ingress controller either: install one, or use a Service of type "
            "LoadBalancer or a port of the nodes"
        )
        return SettingError("exposure", "ingress", rule, "loadBalancer")
    if own is not None:
        return None  # the cluster has chosen it, and keeps it
    marked = _default_classes(classes)
    defaults = object_names(marked)
    if len(defaults) == 1:
        return _alb_error("", marked[0])
    if defaults:
        rule = f"several IngressClasses are marked as the default one ({', '.join(defaults)}), so it has to be named"
    else:
        rule = f"no IngressClass is marked as the default one, so it has to be named: {there}"
    return SettingError("ingressClass", "", rule, (defaults or known)[0])


def no_controller(pending: Sequence[str]) -> str:
    """Why no Ingress gets an address.

    Args:
        pending: Services of type LoadBalancer without an address, as `namespace/name`.
    """
    if pending:
        return f"its Service may be {' or '.join(pending)}, which has none, so {NO_LOAD_BALANCER}"
    return "no controller serves the IngressClass, or the one that does publishes no address"


def same_address(expected: str, actual: Sequence[str]) -> None:
    """Check that the Ingress got the address that its host name holds.

    Raises:
        pulumi.RunError: it got another one; the controller's address has changed, or the IngressClass gives each
            Ingress an address of its own.
    """
    if expected not in actual:
        msg = (
            f"The registry's Ingress got the address {', '.join(actual)}, but the placeholder got {expected}, which is "
            "in the registry's host name. If the address of the Ingress controller has changed since the last `pulumi "
            "up`, have it looked up again: pulumi up --refresh. Otherwise this IngressClass gives each Ingress an "
            "address of its own. Set exposure to loadBalancer, which needs no Ingress (pulumi config set exposure "
            "loadBalancer), or ingressClass to a class whose Ingresses share one address, such as Traefik's or "
            "ingress-nginx's (kubectl get ingressclass)."
        )
        raise pulumi.RunError(msg)


@dataclass(frozen=True, kw_only=True)
class IngressArgs:
    """What an `Ingress` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    address: str
    """Address to use instead of the controller's own; empty if there is no other."""
    host_is_set: bool
    """Whether the settings name the host, so that no address has to be known before the host is served."""
    service: pulumi.Input[str]
    """Service with the plain port of the registry's pod."""
    kept: Collection[str]
    """The addresses that were in use before."""
    ingress_class: str
    """IngressClass; empty to leave it to the cluster."""
    silent: bool
    """Whether its controller is known to publish no address."""
    timeout: str
    """How long to wait for the Ingress controller, such as `2m`."""
    annotations: Mapping[str, str]
    """Further annotations, for the Ingress controller."""
    cluster: Cluster
    """The cluster, which is asked why there is no address, and for the addresses that nothing else waits for."""


class Ingress(pulumi.ComponentResource):
    """The Ingress of the registry's host, and the address of the Ingress controller.

    The host holds the address, and the address is known only once there is an Ingress. So a placeholder comes first: an
    Ingress for a host that nobody can ask for. Where the settings name the address or the host, there is none.
    Ready when: 1. the Ingress controller has published an address for the placeholder; 2. it has published one for the
    registry's Ingress; 3. both are the same. Where the settings name the address, the controller need not publish any.
    Delete leaves the Ingresses to the end of the namespace.
    Does not: make a certificate or a Service.
    """

    address: pulumi.Output[str]
    """IP address, or the DNS name that some load balancers have instead; empty if the settings name the host only."""
    addresses: pulumi.Output[list[str]]
    """Every address of the placeholder; without a placeholder those of the registry's Ingress, once it is served, and
    none if its controller publishes none."""
    port: pulumi.Output[int]
    """Always 443, where Ingress controllers serve TLS."""
    class_name: pulumi.Output[str]
    """IngressClass of the Ingresses; empty if it is left to the cluster."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster, state: ExposureState) -> Sequence[pulumi.RunError]:
        """The cluster does not have the IngressClass, or has none by default."""
        error = ingress_class_error(settings.ingress_class, cluster.ingress_classes(), state.ingress_class)
        return [error] if error else []

    def __init__(self, name: str, args: IngressArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the placeholder. `name` is what the Ingresses' names in the namespace begin with."""
        super().__init__(INGRESS, name, None, opts)
        self._args, self._name = args, name
        self.address = pulumi.Output.from_input(args.address)
        self.addresses = pulumi.Output.from_input([])
        self.port = pulumi.Output.from_input(HTTPS)
        self.class_name = pulumi.Output.from_input(args.ingress_class)
        self._has_placeholder = not args.address and not args.host_is_set
        if self._has_placeholder:
            # The status of an Ingress whose class is changed in place is that of the former controller, for ever if
            # the other one publishes nothing. So another class is another Ingress, and this host is nobody else's.
            own_name = named_after(f"{name}-placeholder", args.ingress_class)
            host = pulumi.Output.from_input(args.namespace).apply(lambda own: f"{own_name}.{placeholder_host(own)}")
            placeholder = k8s.networking.v1.Ingress(
                f"{name}-placeholder",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=own_name,
                    namespace=args.namespace,
                    labels=_LABELS,
                    annotations={**HTTPS_ONLY, **args.annotations, **ADDRESS_AWAITED},
                ),
                spec=k8s.networking.v1.IngressSpecArgs(
                    ingress_class_name=args.ingress_class or None,
                    # Some policies want it. Without a Secret, controllers take their own certificate, or none.
                    tls=[k8s.networking.v1.IngressTLSArgs(hosts=[host])],
                    rules=[_rule(host, args.service)],
                ),
                opts=self._address_awaited(f"{name}-placeholder"),
            )
            self.addresses = placeholder.status.apply(published_addresses)
            self.address = self.addresses.apply(lambda found: choose_address(found, args.kept))

    def serve(self, host: pulumi.Output[str], tls_secret: pulumi.Output[str]) -> Served:
        """Make the Ingress that serves `host` with the certificate in the Secret; the pod need not terminate TLS."""
        args = self._args
        dns_name = host.apply(lambda host: split_port(host)[0])
        name = dns_name.apply(lambda host: named_after(self._name, args.ingress_class, host))
        ingress = k8s.networking.v1.Ingress(
            f"{self._name}-served",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=_LABELS,
                annotations={**ANNOTATIONS, **args.annotations, **(NOT_AWAITED if args.address else ADDRESS_AWAITED)},
            ),
            spec=k8s.networking.v1.IngressSpecArgs(
                ingress_class_name=args.ingress_class or None,
                tls=[k8s.networking.v1.IngressTLSArgs(hosts=[dns_name], secret_name=tls_secret)],
                rules=[_rule(dns_name, args.service)],
            ),
            opts=pulumi.ResourceOptions(parent=self) if args.address else self._address_awaited(self._name),
        )
        place = pulumi.Output.all(args.namespace, name)
        path = place.apply(lambda own: "/apis/networking.k8s.io/v1/namespaces/{}/ingresses/{}".format(*own))

        def reached_at(known: Sequence[Any]) -> str:
            expected, actual = known
            if self._has_placeholder and expected:
                same_address(expected, actual)
            return expected or choose_address(actual, args.kept)

        if args.address:
            published = after(path, ingress.id).apply(self._published)
            address = self.address
        else:
            published = ingress.status.apply(published_addresses)
            address = pulumi.Output.all(self.address, published).apply(reached_at)
        if not self._has_placeholder:
            # The address that is given says nothing of the others, if the controller does not tell them.
            both = pulumi.Output.all(address, published)
            self.addresses = both.apply(lambda known: [known[0], *known[1]] if known[1] else [])
        self.register_outputs(
            {"address": address, "addresses": self.addresses, "port": self.port, "className": self.class_name}
        )
        return Served(
            host=after(host, address, ingress.id),
            address=address,
            addresses=self.addresses,
            publisher=pulumi.Output.from_input("") if args.address else path,
        )

    async def _published(self, path: str) -> list[str]:
        """Every address that the controller publishes for the Ingress at a path; none if it publishes none in time.

        Only who is asked for a password depends on them, so an `up` does not fail without. It waits, since otherwise
        that would depend on how fast the controller is; but not again once that has published none.
        """
        args = self._args
        waits = not args.silent and not pulumi.runtime.is_dry_run()
        began, said = time.monotonic(), False
        while True:
            try:
                found: Object = json.loads(await asyncio.to_thread(args.cluster.ask, path))
            except PermissionError:
                return []  # the user may not look
            except (LookupError, ConnectionError):
                found = {}
            addresses = live_addresses(found)
            if addresses or not waits or time.monotonic() - began > seconds_of(args.timeout):
                return addresses
            if not said and time.monotonic() - began > _PATIENCE:
                pulumi.log.info(
                    f"Waiting up to {args.timeout} (the setting addressTimeout) for the addresses that the Ingress "
                    "controller publishes. It need not publish any, but then one may be public, and the setting auth "
                    "is basic as long as it is auto. The next up does not wait again."
                )
                said = True
            await asyncio.sleep(_INTERVAL)

    def _address_awaited(self, name: str) -> pulumi.ResourceOptions:
        """Options of an Ingress that is ready once it has an address; `name` is the Ingress's name."""

        def reason(_: object) -> str:
            pending = self._args.cluster.pending_load_balancers()
            more = ", or address to where the Ingress controller is reached (pulumi config set address 192.0.2.10)"
            return no_address("The Ingress controller", self._args.timeout, no_controller(pending), more)

        return awaited(f"{name}-no-address", self, self._args.timeout, reason)


def _rule(host: pulumi.Input[str], service_name: pulumi.Input[str]) -> k8s.networking.v1.IngressRuleArgs:
    """A rule that sends every path of `host` to the Service."""
    net = k8s.networking.v1
    backend = net.IngressBackendArgs(
        service=net.IngressServiceBackendArgs(name=service_name, port=net.ServiceBackendPortArgs(number=PLAIN_PORT))
    )
    path = net.HTTPIngressPathArgs(path="/", path_type="Prefix", backend=backend)
    return net.IngressRuleArgs(host=host, http=net.HTTPIngressRuleValueArgs(paths=[path]))
