"""A volume for the registry's images: one that is claimed, or the memory of the pod's node."""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..cluster import Cluster, Object, has_annotation, object_names
from ..settings import SettingError, Settings

_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
}


def quantity_bytes(quantity: str) -> int:
    """Bytes of a Kubernetes quantity such as `10Gi` or `1.5G`."""
    number = quantity.rstrip("kKMGTPi")
    return int(float(number) * _UNITS[quantity[len(number) :]])


def storage_class_error(storage_class: str, classes: Sequence[Object] | None) -> pulumi.RunError | None:
    """The error of a cluster without the wanted StorageClass, or without one that it would use by default.

    Several default ones are no error: Kubernetes takes the newest.

    Args:
        storage_class: The setting `storageClass`.
        classes: Every StorageClass; None if the user may not list them, and then there is no error.
    """
    if classes is None:
        return None
    known = object_names(classes)
    there = f"the cluster has {', '.join(known)}" if known else "the cluster has none"
    memory = "or keep images in memory: pulumi config set storage memory"
    if storage_class:
        if storage_class in known:
            return None
        rule = f"there is no StorageClass of that name: {there}"
        return SettingError("storageClass", storage_class, rule, known[0] if known else "standard", more=memory)
    if any(has_annotation(entry, annotation) for entry in classes for annotation in _DEFAULT_CLASS):
        return None
    if known:
        rule = f"no StorageClass is marked as the default one, so it has to be named: {there}"
        return SettingError("storageClass", "", rule, known[0], more=memory)
    rule = "the cluster has no StorageClass, so it makes no volumes: install a provisioner, or keep images in memory"
    return SettingError("storage", "volume", rule, "memory")


def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
    """Why the cluster cannot make the volume that the settings ask for; empty if it can, or if they ask for none."""
    if settings.storage.kind != "volume":
        return []
    error = storage_class_error(settings.storage.storage_class, cluster.storage_classes())
    return [error] if error else []


def memory(size: str) -> k8s.core.v1.VolumeArgs:
    """The pod's volume `data` in the memory of its node, with a limit; its content is gone when the pod is."""
    core = k8s.core.v1
    return core.VolumeArgs(name="data", empty_dir=core.EmptyDirVolumeSourceArgs(medium="Memory", size_limit=size))


def claimed(
    name: str,
    namespace: pulumi.Input[str],
    size: str,
    storage_class: str,
    opts: pulumi.ResourceOptions,
) -> k8s.core.v1.VolumeArgs:
    """The pod's volume `data` on a volume that is claimed for it.

    Args:
        name: Name of the claim in the namespace.
        namespace: Namespace of the claim.
        size: Size of the volume, a Kubernetes quantity.
        storage_class: StorageClass of the volume; empty for the cluster's default one.
        opts: Options of the claim.
    """
    core = k8s.core.v1
    claim = core.PersistentVolumeClaim(
        f"{name}-volume",
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=name,
            namespace=namespace,
            labels=names.labels(names.REGISTRY),
            # The Deployment's wait covers the claim. The claim's own wait expects the phase "Pending" if the class
            # binds at first use, so it would never end once the volume is bound (provider source, await/awaiters.go).
            annotations={"pulumi.com/skipAwait": "true"},
        ),
        spec=core.PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOnce"],
            storage_class_name=storage_class or None,
            resources=core.VolumeResourceRequirementsArgs(requests={"storage": size}),
        ),
        opts=opts,
    )
    source = core.PersistentVolumeClaimVolumeSourceArgs(claim_name=claim.metadata.name)
    return core.VolumeArgs(name="data", persistent_volume_claim=source)
