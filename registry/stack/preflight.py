"""What can be known to go wrong before anything is made: the cluster cannot fulfil the settings.

`preflight` runs at every preview and `up`. It asks each part of the program for its errors, and adds those that belong
to no part. What this deliberately does not do: it does not guess. What the user may not read is not checked.
"""

import pulumi

from ..certificate import choice as certificates
from ..cluster import Cluster
from ..exposure import choice as exposures
from ..exposure.taken import move_error
from ..settings import Settings
from ..storage import volume
from . import provider, stored, strangers
from .identity import POD_SECURITY, namespace_annotations, namespace_labels, other_name, required_labels
from .recorded import Recorded

MINIMUM = (1, 29)
"""The first Kubernetes whose native sidecars are on by default (KEP-753)."""
_NO_INSTANCE = "0" * 12
"""What stands for the id of the instance before the first `up`."""


def version_error(version: tuple[int, int]) -> pulumi.RunError | None:
    """The error of a Kubernetes that is too old for the node agent's pod."""
    if version >= MINIMUM:
        return None
    own, least = (".".join(map(str, pair)) for pair in (version, MINIMUM))
    return pulumi.RunError(
        f"The cluster runs Kubernetes {own}, and the node agent is a native sidecar container, which needs {least} or "
        "newer. Upgrade the cluster, or choose another one in the kubeconfig."
    )


def namespace_error(settings: Settings, refusal: str) -> pulumi.RunError | None:
    """The error of a cluster that refuses the stack's namespace.

    Args:
        settings: The settings.
        refusal: Why the cluster refuses it; empty if it does not.
    """
    if not refusal:
        return None
    name, standard = settings.namespace or "its own namespace", required_labels(settings)[POD_SECURITY]
    why, other = "", ""
    if standard == "privileged":
        why = ", since the node agent is privileged"
        other = " Without an agent the namespace can be restricted: pulumi config set nodeTrust external."
    return pulumi.RunError(
        f"The cluster refuses the namespace that the program makes ({name}, with the label {POD_SECURITY} = {standard}"
        f"{why}): {refusal} Have a cluster administrator allow it, or set namespace to a name that is allowed (pulumi "
        f"config set namespace {other_name(settings.namespace)}).{other}"
    )


def _metadata(settings: Settings, recorded: Recorded) -> dict[str, dict[str, str]]:
    """Labels and annotations of the namespace that will be made: a policy may want any of them."""
    whose = pulumi.get_project(), pulumi.get_stack(), recorded.instance or _NO_INSTANCE
    labels = {**namespace_labels(*whose), **required_labels(settings)}
    return {"labels": labels, "annotations": namespace_annotations(*whose)}


def preflight(settings: Settings, cluster: Cluster, recorded: Recorded) -> bool:
    """Check that the cluster is the stack's, and can fulfil the settings without a loss that nobody has allowed.

    Returns:
        Whether the volume that the stack has is to be replaced by an empty one.

    Raises:
        pulumi.RunError: it cannot, or it cannot be reached. The message has a line for each reason.
    """
    provider.check_settings()
    strangers.require_same_cluster(recorded, cluster)
    version = cluster.version()
    named = {"name": settings.namespace} if settings.namespace else {"generateName": "registry-"}
    refusal = cluster.refusal("namespace", {"metadata": {**named, **_metadata(settings, recorded)}})
    there = stored.stored(cluster, recorded.namespace, recorded.kept)
    classes = cluster.storage_classes() if settings.storage.kind == "volume" else None
    moved = stored.place_errors(settings, there, classes)
    found = [
        version_error(version),
        *strangers.errors(settings, cluster, recorded),
        *exposures.errors(settings, cluster, recorded.exposure),
        move_error(settings, cluster, recorded.namespace),
        *certificates.errors(settings, cluster),
        volume.storage_class_error(settings.storage.storage_class, classes, there.storage_class if there else ""),
        *stored.losses(moved, there, allowed=settings.allow_data_loss),
        namespace_error(settings, refusal),
    ]
    lines = [str(error) for error in found if error]
    if lines:
        raise pulumi.RunError("\n".join(lines))
    stored.warn_of_kept_disks(settings, there, classes)
    strangers.warn_of_leftovers(strangers.leftovers(cluster, recorded, strangers.namespace_of(settings, recorded)))
    return bool(moved)
