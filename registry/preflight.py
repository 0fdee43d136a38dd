"""What can be known to go wrong before anything is made: settings that the cluster at hand cannot fulfil.

Each check is a function of the settings and of what the Kubernetes API tells, and gives the error, or nothing. They run
at every preview and `up`. What this deliberately does not do: guess. Whatever the user may not read is not checked.
"""

import asyncio
import time
from collections.abc import Sequence

import pulumi

from .cert_manager import API
from .cluster import Cluster, Object
from .gateway import GATEWAY_API, route_version
from .node_port import node_address
from .settings import SettingError, Settings

MINIMUM = (1, 29)
"""The first Kubernetes whose native sidecars are on by default (KEP-753)."""

_PRIVILEGED = "pod-security.kubernetes.io/enforce"
NAMESPACE_LABELS = {_PRIVILEGED: "privileged"}
"""Labels of the namespace: the node agent is privileged; everything else keeps the standard `restricted`."""

_ACCOUNT_SECONDS = 10.0
_NO_ACCOUNT = 'serviceaccount "default" not found'
_DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
_DEFAULT_STORAGE_CLASSES = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def _names(objects: Sequence[Object]) -> list[str]:
    return sorted(str(entry["metadata"]["name"]) for entry in objects)


def _has(entry: Object, annotation: str) -> bool:
    return entry["metadata"].get("annotations", {}).get(annotation) == "true"


def version_error(version: tuple[int, int]) -> pulumi.RunError | None:
    """Kubernetes is too old for the node agent's pod."""
    if version >= MINIMUM:
        return None
    own, least = (".".join(map(str, pair)) for pair in (version, MINIMUM))
    return pulumi.RunError(
        f"The cluster runs Kubernetes {own}, and the node agent is a native sidecar container, which needs {least} or "
        "newer. Upgrade the cluster, or choose another one in the kubeconfig."
    )


def ingress_class_error(settings: Settings, classes: Sequence[Object] | None) -> pulumi.RunError | None:
    """The exposure `ingress` has no IngressClass, or no one in particular."""
    if settings.exposure != "ingress" or classes is None:
        return None
    names = _names(classes)
    there = f"the cluster has {', '.join(names)}" if names else "the cluster has none"
    if settings.ingress_class:
        if settings.ingress_class in names:
            return None
        rule = f"there is no IngressClass of that name: {there}"
        return SettingError("ingressClass", settings.ingress_class, rule, *names[:1] or ["nginx"])
    if not names:
        rule = (
            "the cluster has no IngressClass, so no Ingress controller either: install one, or use a Service of type "
            "LoadBalancer or a port of the nodes"
        )
        return SettingError("exposure", settings.exposure, rule, "loadBalancer")
    defaults = _names([entry for entry in classes if _has(entry, _DEFAULT_INGRESS_CLASS)])
    if len(defaults) == 1:
        return None
    if defaults:
        rule = f"several IngressClasses are marked as the default one ({', '.join(defaults)}), so it has to be named"
    else:
        rule = f"no IngressClass is marked as the default one, so it has to be named: {there}"
    return SettingError("ingressClass", "", rule, (defaults or names)[0])


def gateway_error(
    settings: Settings, classes: Sequence[Object] | None, *, has_gateways: bool, has_routes: bool
) -> pulumi.RunError | None:
    """The exposure `gateway` has no Gateway API, no TLSRoute, no GatewayClass, or no one in particular."""
    if settings.exposure != "gateway":
        return None
    rule = ""
    if not has_gateways:
        rule = f"the cluster has no Gateway API (it does not serve {GATEWAY_API})"
    elif not has_routes:
        rule = "the cluster's Gateway API has no TLSRoute: install 1.5 or newer, or its experimental channel"
    elif classes == []:
        rule = "the cluster has no GatewayClass, so no controller for Gateways either"
    if rule:
        return SettingError("exposure", settings.exposure, rule, "loadBalancer")
    if classes is None:
        if settings.gateway_class:
            return None
        rule = "the user of the kubeconfig may not list GatewayClasses, so it has to be named"
        return SettingError("gatewayClass", "", rule, "traefik")
    names = _names(classes)
    there = f"the cluster has {', '.join(names)}"
    if not settings.gateway_class and len(names) > 1:
        rule = f"there are several GatewayClasses, so it has to be named: {there}"
        return SettingError("gatewayClass", "", rule, names[0])
    if settings.gateway_class and settings.gateway_class not in names:
        rule = f"there is no GatewayClass of that name: {there}"
        return SettingError("gatewayClass", settings.gateway_class, rule, names[0])
    return None


def storage_class_error(settings: Settings, classes: Sequence[Object] | None) -> pulumi.RunError | None:
    """The volume has no StorageClass. Of several default ones Kubernetes takes the newest, which is no error."""
    if settings.storage != "volume" or classes is None:
        return None
    names = _names(classes)
    there = f"the cluster has {', '.join(names)}" if names else "the cluster has none"
    memory = "or keep images in memory: pulumi config set storage memory"
    if settings.storage_class:
        if settings.storage_class in names:
            return None
        rule = f"there is no StorageClass of that name: {there}"
        return SettingError("storageClass", settings.storage_class, rule, *names[:1] or ["standard"], more=memory)
    if any(_has(entry, annotation) for entry in classes for annotation in _DEFAULT_STORAGE_CLASSES):
        return None
    if names:
        rule = f"no StorageClass is marked as the default one, so it has to be named: {there}"
        return SettingError("storageClass", "", rule, names[0], more=memory)
    rule = "the cluster has no StorageClass, so it makes no volumes: install a provisioner, or keep images in memory"
    return SettingError("storage", settings.storage, rule, "memory")


def node_address_error(settings: Settings, nodes: Sequence[Object] | None) -> pulumi.RunError | None:
    """The exposure `nodePort` has no node at which it is reached."""
    if settings.exposure != "nodePort" or settings.address:
        return None
    if nodes is None:
        rule = "the user of the kubeconfig may not list nodes, so the address of one has to be given"
    elif not node_address(nodes):
        rule = "no node tells an InternalIP, so the address of one has to be given"
    else:
        return None
    return SettingError("address", "", rule, "192.0.2.10")


def issuer_error(settings: Settings, *, has_cert_manager: bool) -> pulumi.RunError | None:
    """The certificates are to be made by a cert-manager that the cluster has not."""
    if settings.certificate_issuer != "cert-manager" or has_cert_manager:
        return None
    rule = f"the cluster has no cert-manager (it does not serve {API}): install it, or let this program make the CA"
    return SettingError("certificateIssuer", settings.certificate_issuer, rule, "tls")


def namespace_error(settings: Settings, refusal: str) -> pulumi.RunError | None:
    """The cluster refuses the namespace."""
    if not refusal:
        return None
    name = settings.namespace or "its own namespace"
    return pulumi.RunError(
        f"The cluster refuses the namespace that the program makes ({name}, with the label {_PRIVILEGED} = privileged, "
        f"since the node agent is privileged): {refusal} Have a cluster administrator allow it, or set namespace to a "
        "name that is allowed (pulumi config set namespace registry-pr-42)."
    )


def privileged_pod_error(namespace: str, refusal: str) -> pulumi.RunError | None:
    """The cluster refuses privileged pods in the namespace."""
    if not refusal:
        return None
    return pulumi.RunError(
        f"The cluster refuses privileged pods in the namespace {namespace}, and the node agent is one, since it writes "
        f"the CA to the nodes: {refusal} Have a cluster administrator exempt the namespace from that policy; to make "
        "that easy give it a fixed name (pulumi config set namespace registry)."
    )


def check(settings: Settings) -> Cluster:
    """Check that the cluster of the kubeconfig can fulfil the settings.

    Returns:
        The cluster, for what is asked of it later.

    Raises:
        pulumi.RunError: it cannot, or it cannot be reached.
    """
    cluster = Cluster()
    own_namespace = {"name": settings.namespace} if settings.namespace else {"generateName": "registry-"}
    refusal = cluster.refusal("namespace", {"metadata": {**own_namespace, "labels": NAMESPACE_LABELS}})
    has_gateways = settings.exposure == "gateway" and cluster.serves(GATEWAY_API, "Gateway")
    errors = [
        version_error(cluster.version()),
        ingress_class_error(settings, cluster.ingress_classes() if settings.exposure == "ingress" else None),
        storage_class_error(settings, cluster.storage_classes() if settings.storage == "volume" else None),
        node_address_error(settings, cluster.nodes if settings.exposure == "nodePort" else None),
        gateway_error(
            settings,
            cluster.gateway_classes if has_gateways else None,
            has_gateways=has_gateways,
            has_routes=has_gateways and route_version(cluster) != "",
        ),
        issuer_error(
            settings, has_cert_manager=settings.certificate_issuer == "tls" or cluster.serves(API, "Certificate")
        ),
        namespace_error(settings, refusal),
    ]
    found = [str(error) for error in errors if error]
    if found:
        raise pulumi.RunError("\n".join(found))
    return cluster


async def allow_node_agent(cluster: Cluster, namespace: str, image: str) -> str:
    """The namespace, once it is sure that the cluster takes privileged pods in it; unchecked before it exists.

    Args:
        cluster: The cluster.
        namespace: The namespace. At the first preview it has its name already and does not exist yet.
        image: The node agent's image.

    Raises:
        pulumi.RunError: a policy of the cluster forbids them.
    """
    container = {"name": "agent", "image": image, "securityContext": {"privileged": True}}
    pod: Object = {
        "metadata": {"generateName": "trust-"},
        "spec": {"hostPID": True, "hostNetwork": True, "containers": [container]},
    }
    deadline = time.monotonic() + _ACCOUNT_SECONDS
    while True:
        refusal = await asyncio.to_thread(cluster.refusal, "pod", pod, namespace)
        # A new namespace has its default ServiceAccount a moment later, and takes no pod before.
        if _NO_ACCOUNT not in refusal:
            break
        if time.monotonic() > deadline:
            return namespace  # that is no policy: the wait for the pods tells the reason
        await asyncio.sleep(0.1)
    missing = f'namespaces "{namespace}" not found'
    error = privileged_pod_error(namespace, refusal if missing not in refusal else "")
    if error:
        raise error
    return namespace
