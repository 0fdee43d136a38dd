"""A volume for the registry's images: one that is claimed, or the memory of the pod's node."""

import json
from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..cluster import Cluster, Object, has_annotation, object_names
from ..pod import proof_image
from ..pod.pods import log_of, pods_of
from ..pod.trouble import is_over
from ..settings import SettingError

_DEFAULT_CLASS = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_UNITS = {
    "m": 10**-3,
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}


def quantity_bytes(quantity: str) -> int:
    """Bytes of a Kubernetes quantity such as `10Gi` or `1.5G`."""
    number = quantity.rstrip("mkKMGTPEi")
    return int(float(number) * _UNITS[quantity[len(number) :]])


def default_classes(classes: Sequence[Object] | None) -> Sequence[Object]:
    """The StorageClasses that are marked as the default one. Kubernetes takes the newest, which is the first here."""
    marked = [entry for entry in classes or () if any(has_annotation(entry, each) for each in _DEFAULT_CLASS)]
    return sorted(marked, key=lambda entry: str(entry["metadata"].get("creationTimestamp", "")), reverse=True)


def storage_class_error(storage_class: str, classes: Sequence[Object] | None, own: str = "") -> pulumi.RunError | None:
    """The error of a cluster without the wanted StorageClass, or without one that it would use by default.

    Several default ones are no error: Kubernetes takes the newest.

    Args:
        storage_class: The setting `storageClass`.
        classes: Every StorageClass; None if the user may not list them, and then there is no error.
        own: The class of the volume that is there already, and needs none any more.
    """
    if classes is None or (own and storage_class in ("", own)):
        return None
    known = object_names(classes)
    there = f"the cluster has {', '.join(known)}" if known else "the cluster has none"
    memory = "or keep images in memory: pulumi config set storage memory"
    if storage_class:
        if storage_class in known:
            return None
        rule = f"there is no StorageClass of that name: {there}"
        return SettingError("storageClass", storage_class, rule, known[0] if known else "standard", more=memory)
    if default_classes(classes):
        return None
    if known:
        rule = f"no StorageClass is marked as the default one, so it has to be named: {there}"
        return SettingError("storageClass", "", rule, known[0], more=memory)
    rule = "the cluster has no StorageClass, so it makes no volumes: install a provisioner, or keep images in memory"
    return SettingError("storage", "volume", rule, "memory")


def fault_in(log: str) -> tuple[str, str]:
    """Reason and sentence of what is wrong with the storage, as a pod has said last; empty if nothing is.

    Args:
        log: The end of the log of the container `names.PROOF_CONTAINER`.
    """
    for line in reversed(log.splitlines()):
        if line.startswith("{"):
            said = json.loads(line)
            reason = said.get("reason", proof_image.READY)
            return ("", "") if reason == proof_image.READY else (reason, said["sentence"])
    return "", ""


def fault(cluster: Cluster, namespace: str) -> tuple[str, str]:
    """The same as the registry's pods say it now; empty also if the user may not read their logs."""
    try:
        found = pods_of(cluster, namespace, names.REGISTRY)
    except (OSError, LookupError):
        return "", ""
    for pod in found:
        if is_over(pod) or "deletionTimestamp" in pod["metadata"]:
            continue
        try:
            log = log_of(cluster, namespace, pod["metadata"]["name"], names.PROOF_CONTAINER, lines=50)
            reason, sentence = fault_in(log)
        except (OSError, LookupError):
            continue  # it may have gone, or its node be down; another one may say what is wrong
        if reason:
            return reason, sentence
    return "", ""


def check(cluster: Cluster, namespace: str) -> None:
    """Warn of a storage that is full, from which everybody can still pull.

    Raises:
        pulumi.RunError: the registry cannot write to its storage.
    """
    reason, sentence = fault(cluster, namespace)
    if reason == "STORAGE_FULL":
        pulumi.log.warn(sentence)
    elif reason:
        raise pulumi.RunError(sentence)


def memory(size: str) -> k8s.core.v1.VolumeArgs:
    """The pod's volume `data` in the memory of its node, with a limit; its content is gone when the pod is."""
    core = k8s.core.v1
    return core.VolumeArgs(name="data", empty_dir=core.EmptyDirVolumeSourceArgs(medium="Memory", size_limit=size))


def claimed(
    name: str,
    namespace: pulumi.Input[str],
    size: str,
    storage_class: str,
    *,
    anew: bool,
    opts: pulumi.ResourceOptions,
) -> k8s.core.v1.VolumeArgs:
    """The pod's volume `data` on a volume that is claimed for it.

    Args:
        name: Name of the claim in the namespace.
        namespace: Namespace of the claim.
        size: Size of the volume, a Kubernetes quantity.
        storage_class: StorageClass of the volume; empty for the one that it has, and at first for the default one.
        anew: Whether a volume that is there is replaced by an empty one, since it cannot be changed as wanted.
        opts: Options of the claim.
    """
    core = k8s.core.v1
    # By default, to name the class that the volume has would replace the volume, and so would to name it no longer.
    kept = pulumi.ResourceOptions(ignore_changes=["spec.storageClassName"])
    replaced = pulumi.ResourceOptions(replace_on_changes=["spec"], delete_before_replace=True)
    claim = core.PersistentVolumeClaim(
        f"{name}-volume",
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=name,
            namespace=namespace,
            labels=names.labels(names.REGISTRY),
            # The wait for the pods covers the claim. The claim's own wait expects the phase "Pending" if the class
            # binds at first use, so it would never end once the volume is bound (provider source, await/awaiters.go).
            annotations={"pulumi.com/skipAwait": "true"},
        ),
        spec=core.PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOnce"],
            storage_class_name=storage_class or None,
            resources=core.VolumeResourceRequirementsArgs(requests={"storage": size}),
        ),
        opts=pulumi.ResourceOptions.merge(opts, replaced if anew else kept),
    )
    source = core.PersistentVolumeClaimVolumeSourceArgs(claim_name=claim.metadata.name)
    return core.VolumeArgs(name="data", persistent_volume_claim=source)
