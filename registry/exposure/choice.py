"""The choice of the way in that the settings name."""

from collections.abc import Mapping, Sequence

import pulumi

from .. import names
from .. import settings as setting
from ..cluster import Cluster
from ..settings import Settings
from ..waiting import unordered
from .address import plain_service
from .contract import Exposure, ExposureState
from .gateway import Gateway, GatewayArgs, gateway_class, route_version
from .ingress import Ingress, IngressArgs, ingress_class
from .load_balancer import LoadBalancer, LoadBalancerArgs
from .node_port import SERVICE, NodePort, NodePortArgs

WAYS_IN: Mapping[setting.Exposure, type[Exposure]] = {
    "ingress": Ingress,
    "loadBalancer": LoadBalancer,
    "nodePort": NodePort,
    "gateway": Gateway,
}
"""The component behind each value of the setting `exposure`."""


MEANT_FOR: Mapping[str, Sequence[setting.Exposure]] = {
    "ingressAnnotations": ("ingress",),
    "serviceAnnotations": ("loadBalancer", "nodePort"),
    "loadBalancerClass": ("loadBalancer",),
    "allowedSources": ("loadBalancer",),
    "nodePort": ("nodePort",),
}
"""The ways in for which a setting has a meaning; each of these settings is empty, or 0, by default."""


def meaning_errors(settings: Settings) -> Sequence[pulumi.RunError]:
    """The errors of settings that would have no effect with this way in; whoever has set them expects one."""
    given = {
        "ingressAnnotations": settings.ingress_annotations,
        "serviceAnnotations": settings.service_annotations,
        "loadBalancerClass": settings.load_balancer_class,
        "allowedSources": settings.allowed_sources,
        "nodePort": settings.node_port,
    }
    return [
        setting.SettingError(
            "exposure",
            settings.exposure,
            f"the setting {key} has a meaning with {' or '.join(meant)} only",
            meant[0],
            more=f"or remove the other one: pulumi config rm {key}",
        )
        for key, meant in MEANT_FOR.items()
        if given[key] and settings.exposure not in meant
    ]


def errors(settings: Settings, cluster: Cluster, state: ExposureState) -> Sequence[pulumi.RunError]:
    """Why the cluster cannot offer the way in that the settings name; empty if it can."""
    return [*meaning_errors(settings), *WAYS_IN[settings.exposure].errors(settings, cluster, state)]


def make_exposure(settings: Settings, cluster: Cluster, namespace: pulumi.Input[str], state: ExposureState) -> Exposure:
    """Make the way in that the settings name, as far as it can be made before the host is known.

    The Service with the pod's plain port is made for every way in, and each way in has names of its own. So a change of
    the setting never meets an object of the way in before. What is made of its address does not depend on it in the
    state, so `destroy` deletes the way in beside all else.

    Args:
        settings: The settings.
        cluster: The cluster; `errors` found nothing there that is in the way.
        namespace: Namespace of the objects.
        state: What the stack's state says of its way in.
    """
    made = _way_in(settings, cluster, namespace, state)
    made.address, made.port = unordered(made.address), unordered(made.port)
    return made


def _way_in(settings: Settings, cluster: Cluster, namespace: pulumi.Input[str], state: ExposureState) -> Exposure:
    timeout = settings.published_within
    plain = plain_service(namespace)
    match settings.exposure:
        case "ingress":
            return Ingress(
                names.INGRESS,
                IngressArgs(
                    namespace=namespace,
                    address=settings.address,
                    host_is_set=bool(settings.host),
                    service=plain,
                    kept=state.addresses,
                    ingress_class=ingress_class(settings, cluster, state),
                    annotations=settings.ingress_annotations,
                    silent=state.silent,
                    timeout=timeout,
                    cluster=cluster,
                ),
            )
        case "loadBalancer":
            return LoadBalancer(
                "load-balancer",
                LoadBalancerArgs(
                    namespace=namespace,
                    address=settings.address,
                    annotations=settings.service_annotations,
                    load_balancer_class=settings.load_balancer_class,
                    allowed_sources=settings.allowed_sources,
                    kept=state.addresses,
                    nodes=cluster.nodes,
                    timeout=timeout,
                ),
            )
        case "nodePort":
            return NodePort(
                SERVICE,
                NodePortArgs(
                    namespace=namespace,
                    address=settings.address,
                    kept=state.addresses,
                    nodes=cluster.nodes,
                    annotations=settings.service_annotations,
                    node_port=settings.node_port,
                ),
            )
        case "gateway":
            return Gateway(
                "gateway",
                GatewayArgs(
                    namespace=namespace,
                    address=settings.address,
                    kept=state.addresses,
                    gateway_class=gateway_class(settings, cluster, state),
                    gateway_port=settings.gateway_port,
                    route_version=route_version(cluster),
                    timeout=timeout,
                    cluster=cluster,
                ),
            )
