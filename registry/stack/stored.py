"""Where the images of the stack are now, and which changes of the settings would lose them.

A volume keeps its StorageClass for life and never shrinks, what is in memory stays there, and what is in a bucket lies
below the name of the namespace. So some settings of a stack that is up cannot change without a new, empty place for its
images. Such a change is refused before anything is changed, unless `allowDataLoss` says that the images do not matter.
What this deliberately does not do: it copies no images, and it does not stop `pulumi destroy`, which is asked for by
its name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
from kubernetes.client.exceptions import ApiException

from .. import names
from ..cluster import Cluster, Object, api_message
from ..settings import SettingError, Settings, StorageKind
from ..storage.bucket import Kept
from ..storage.volume import default_classes, quantity_bytes


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Where the images of a stack are."""

    namespace: str
    """Name of the stack's namespace."""
    storage: StorageKind
    """On a volume, in memory, or in a bucket."""
    kept: Kept | None = None
    """The bucket, if it is one."""
    empty: bool = False
    """Whether no image can be there yet, since the claim of the volume is not bound."""
    storage_class: str = ""
    """StorageClass of the volume; empty if its claim names none yet."""
    size: str = ""
    """Size that the claim asks for, as a Kubernetes quantity."""
    capacity: str = ""
    """Size of the volume itself, which may be more."""


def stored(cluster: Cluster, namespace: str, kept: Kept | None) -> Stored | None:
    """Where the images of a stack are; None if it has no place for them yet.

    Args:
        cluster: The cluster.
        namespace: Name of the stack's namespace; empty if it has none yet.
        kept: The bucket that its images are in, as the stack's state says; None if they are in none.

    Raises:
        pulumi.RunError: the cluster does not tell.
    """
    if not namespace:
        return None
    if kept:
        return Stored(namespace=namespace, storage="s3", kept=kept)
    try:
        claim = cluster.find(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{names.REGISTRY}")
        if claim and "deletionTimestamp" not in claim["metadata"]:
            spec, status = claim["spec"], claim.get("status", {})
            size = str(spec["resources"]["requests"]["storage"])
            return Stored(
                namespace=namespace,
                storage="volume",
                empty=not spec.get("volumeName"),
                storage_class=str(spec.get("storageClassName") or ""),
                size=size,
                capacity=str(status.get("capacity", {}).get("storage") or size),
            )
        deployment = cluster.find(f"/apis/apps/v1/namespaces/{namespace}/deployments/{names.REGISTRY}")
    except ApiException as error:
        raise pulumi.RunError(
            f"Where the stack keeps its images cannot be seen: {api_message(error)}. Have the user read "
            f"persistentvolumeclaims and deployments in the namespace {namespace}."
        ) from None
    return Stored(namespace=namespace, storage="memory") if deployment and _in_memory(deployment) else None


def _in_memory(deployment: Object) -> bool:
    volumes = cast("Sequence[Mapping[str, Any]]", deployment["spec"]["template"]["spec"].get("volumes") or ())
    return any(volume["name"] == "data" and "emptyDir" in volume for volume in volumes)


def place_errors(settings: Settings, there: Stored | None, classes: Sequence[Object] | None) -> Sequence[SettingError]:
    """Why the images cannot stay where they are, one error for each setting that changes; empty if they can.

    Args:
        settings: The settings.
        there: Where the images are.
        classes: Every StorageClass; None if the user may not list them.
    """
    return list(_place_errors(settings, there, classes)) if there else []


def _place_errors(settings: Settings, there: Stored, classes: Sequence[Object] | None) -> Iterator[SettingError]:
    if settings.namespace not in ("", there.namespace):
        rule = (
            f"the stack is in the namespace {there.namespace}, which would be deleted with every image in the "
            "registry; and clients would have to trust another CA"
        )
        if there.kept:
            rule = (
                f"the registry's images lie at {there.kept.bucket}/{there.namespace}/ in the bucket, where it would "
                "not look for them any more; and clients would have to trust another CA"
            )
        yield SettingError("namespace", settings.namespace, rule, there.namespace, more=_accept(there))
    if there.kept:
        yield from _bucket_errors(settings, there, there.kept)
        return
    if settings.storage.kind != there.storage:
        place = f"on the volume of the namespace {there.namespace}" if there.storage == "volume" else "in memory"
        rule = f"the registry's images are {place}, and would be deleted"
        yield SettingError("storage", settings.storage.kind, rule, there.storage, more=_accept(there))
        return
    if there.storage != "volume":
        return
    if settings.storage.storage_class not in ("", there.storage_class):
        rule = (
            f"the registry's volume is of the StorageClass {there.storage_class}, and a volume keeps its class for "
            "life: it would be deleted with every image, and another one made"
        )
        yield SettingError(
            "storageClass", settings.storage.storage_class, rule, there.storage_class, more=_accept(there)
        )
    wanted, asked = quantity_bytes(settings.storage.size), quantity_bytes(there.size)
    if wanted < min(asked, quantity_bytes(there.capacity)) or (there.empty and wanted != asked):
        rule = (
            f"the registry's volume has {there.size}, and a volume cannot shrink: it would be deleted with every "
            "image, and another one made"
        )
        yield SettingError("storageSize", settings.storage.size, rule, there.size, more=_accept(there))
    elif wanted > asked and not _grows(there.storage_class, classes):
        rule = (
            f"the registry's volume has {there.size}, and its StorageClass {there.storage_class} does not let volumes "
            "grow (allowVolumeExpansion): it would be deleted with every image, and another one made"
        )
        yield SettingError("storageSize", settings.storage.size, rule, there.size, more=_accept(there))


def _bucket_errors(settings: Settings, there: Stored, kept: Kept) -> Iterator[SettingError]:
    """Why the registry would not find the images in a bucket; another storage is chosen knowingly, and they stay."""
    wanted = settings.storage.bucket
    if not wanted:
        return
    where = f"{kept.bucket}/{there.namespace}/{f' at {kept.endpoint}' if kept.endpoint else ''}"
    rule = f"the registry's images lie in the bucket at {where}, where it would not look for them any more"
    for key, now, before in (("s3Bucket", wanted.name, kept.bucket), ("s3Endpoint", wanted.endpoint, kept.endpoint)):
        if now != before:
            yield SettingError(key, now, rule, before or "''", more=_accept(there))


def _accept(there: Stored) -> str:
    """What to do if the images do not matter."""
    if there.kept:
        return "or accept that they stay behind: pulumi config set allowDataLoss true"
    return "or accept that every image is lost: pulumi config set allowDataLoss true"


def _grows(storage_class: str, classes: Sequence[Object] | None) -> bool:
    """Whether a StorageClass lets volumes grow, as far as it is known."""
    found = [entry for entry in classes or () if entry["metadata"]["name"] == storage_class]
    return not found or bool(found[0].get("allowVolumeExpansion"))


def losses(errors: Sequence[SettingError], there: Stored | None, *, allowed: bool) -> Sequence[SettingError]:
    """The errors of a change that would lose images; if it is allowed, a warning of each instead.

    Args:
        errors: What `place_errors` gives.
        there: Where the images are.
        allowed: The setting `allowDataLoss`.
    """
    if there is None or there.empty:
        return []
    if not allowed:
        return errors
    what = "stays behind in the bucket" if there.kept else "is lost"
    for error in errors:
        pulumi.log.warn(
            f"Every image of this registry {what}, since allowDataLoss is true. {error.reason} Afterwards have the "
            "next loss refused again: pulumi config rm allowDataLoss"
        )
    return []


def warn_of_kept_disks(settings: Settings, there: Stored | None, classes: Sequence[Object] | None) -> None:
    """Warn of a StorageClass that keeps the disk of a volume which is deleted: `destroy` cannot remove that one."""
    own = settings.storage.storage_class or (there.storage_class if there else "")
    found = [entry for entry in classes or () if entry["metadata"]["name"] == own] if own else default_classes(classes)
    if settings.storage.kind != "volume" or not found or found[0].get("reclaimPolicy") != "Retain":
        return
    pulumi.log.warn(
        f"The StorageClass {found[0]['metadata']['name']} keeps the disk of a volume that is deleted (reclaimPolicy "
        "Retain), so `pulumi destroy` leaves this stack's disk behind. `kubectl get persistentvolumes` shows it with "
        f"the claim NAMESPACE/{names.REGISTRY}; then it goes by: kubectl patch persistentvolume NAME -p "
        """'{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}'"""
    )
