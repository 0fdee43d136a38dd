"""A change that would lose the images of a stack is refused, and one that keeps them is not."""

from typing import Any, cast

import pulumi
import pytest
from kubernetes.client.exceptions import ApiException

from registry.cluster import Cluster, Object
from registry.settings import Bucket, Settings, StorageKind
from registry.stack.stored import Stored, losses, place_errors, stored, warn_of_kept_disks
from registry.storage.bucket import Kept
from tests.unit.support.clusters import QuietCluster, named
from tests.unit.support.errors import says
from tests.unit.support.settings import having
from tests.unit.support.settings import stored as wanted

CLAIM = "/api/v1/namespaces/registry-dev/persistentvolumeclaims/registry"
DEPLOYMENT = "/apis/apps/v1/namespaces/registry-dev/deployments/registry"
VOLUME = Stored(namespace="registry-dev", storage="volume", storage_class="standard", size="10Gi", capacity="10Gi")
MEMORY = Stored(namespace="registry-dev", storage="memory")


def settings_with(**values: Any) -> Settings:
    """The default settings, except for some; those of the storage as users spell them."""
    kind = cast(StorageKind, values.pop("storage", "volume"))
    names = {"storage_class": "storage_class", "storage_size": "size"}
    own = {names[key]: values.pop(key) for key in list(values) if key in names}
    return having(storage=wanted(kind, **own), **values)


def claim(*, bound: bool = True, ends: bool = False, capacity: str = "10Gi") -> Object:
    """A claim of the registry's volume."""
    spec = {"storageClassName": "standard", "resources": {"requests": {"storage": "10Gi"}}}
    return {
        "metadata": {"name": "registry", **({"deletionTimestamp": "2026-01-01"} if ends else {})},
        "spec": {**spec, **({"volumeName": "pvc-1"} if bound else {})},
        "status": {"capacity": {"storage": capacity}} if bound else {},
    }


def deployment(volume: Object) -> Object:
    return {"metadata": {}, "spec": {"template": {"spec": {"volumes": [{"name": "data", **volume}]}}}}


def found(namespace: str = "registry-dev", **objects: Object) -> Stored | None:
    paths = {"claim": CLAIM, "deployment": DEPLOYMENT}
    answers = {paths[name]: entry for name, entry in objects.items()}
    return stored(cast(Cluster, QuietCluster(objects=answers)), namespace, None)


def test_a_stack_without_a_namespace_or_a_registry_has_nothing_to_lose() -> None:
    assert found("") is None
    assert found() is None
    assert found(deployment=deployment({"persistentVolumeClaim": {}})) is None
    assert found(claim=claim(ends=True)) is None
    assert place_errors(settings_with(storage="memory"), None, None) == []


def test_images_are_found_on_a_volume_or_in_memory() -> None:
    assert found(claim=claim()) == VOLUME
    assert found(claim=claim(capacity="11Gi")) == Stored(**{**vars(VOLUME), "capacity": "11Gi"})
    assert found(claim=claim(bound=False)) == Stored(**{**vars(VOLUME), "empty": True})
    assert found(deployment=deployment({"emptyDir": {"medium": "Memory"}})) == MEMORY


def test_a_user_who_may_not_look_is_told_what_to_allow() -> None:
    class Refusing(QuietCluster):
        def find(self, path: str) -> Object | None:
            raise ApiException(status=403, reason="Forbidden")

    with pytest.raises(pulumi.RunError) as caught:
        stored(cast(Cluster, Refusing()), "registry-dev", None)
    says(caught.value, "cannot be seen", "403", "persistentvolumeclaims and deployments", "registry-dev")


@pytest.mark.parametrize(
    ("there", "values", "parts"),
    [
        (VOLUME, {"storage_class": "fast"}, (":storageClass is 'fast'", "standard", "set storageClass standard")),
        (VOLUME, {"storage_size": "5Gi"}, (":storageSize is '5Gi'", "10Gi", "shrink", "set storageSize 10Gi")),
        (VOLUME, {"storage_size": "20Gi"}, (":storageSize is '20Gi'", "allowVolumeExpansion", "storageSize 10Gi")),
        (VOLUME, {"storage": "memory", "storage_size": "2Gi"}, (":storage is 'memory'", "set storage volume")),
        (VOLUME, {"storage": "s3", "storage_size": ""}, (":storage is 's3'", "set storage volume")),
        (MEMORY, {}, (":storage is 'volume'", "in memory", "set storage memory")),
        (VOLUME, {"namespace": "other"}, (":namespace is 'other'", "registry-dev", "set namespace registry-dev")),
        (MEMORY, {"namespace": "other", "storage": "memory"}, (":namespace is 'other'", "registry-dev")),
    ],
)
def test_a_change_that_would_lose_images_is_one_error_with_both_ways_on(
    there: Stored, values: dict[str, Any], parts: tuple[str, ...]
) -> None:
    [error] = place_errors(settings_with(**values), there, [named("standard")])
    says(error, *parts, "pulumi config set allowDataLoss true")


@pytest.mark.parametrize(
    ("there", "values"),
    [
        (VOLUME, {}),
        (VOLUME, {"storage_class": "standard"}),
        (VOLUME, {"storage_size": "10240Mi"}),
        (VOLUME, {"namespace": "registry-dev"}),
        (VOLUME, {"storage_size": "20Gi", "storage_class": "standard"}),
        # A provisioner may have rounded up, and may have been too small for what was asked.
        (Stored(**{**vars(VOLUME), "size": "10G"}), {"storage_size": "10G"}),
        (Stored(**{**vars(VOLUME), "size": "30Gi"}), {"storage_size": "20Gi"}),
        (MEMORY, {"storage": "memory", "storage_size": "3Gi"}),
    ],
)
def test_a_change_that_keeps_the_images_is_no_error(there: Stored, values: dict[str, Any]) -> None:
    assert place_errors(settings_with(**values), there, [{**named("standard"), "allowVolumeExpansion": True}]) == []


KEPT = Kept(bucket="team-images", endpoint="https://s3.example.com")
IN_BUCKET = Stored(namespace="registry-dev", storage="s3", kept=KEPT)


def in_bucket(name: str = "team-images", endpoint: str = "https://s3.example.com", **values: Any) -> Settings:
    bucket = Bucket(name=name, region="us-east-1", endpoint=endpoint, ca="", keys=None)
    return having(storage=wanted("s3", bucket=bucket), **values)


def test_images_in_a_bucket_are_where_the_state_says() -> None:
    assert stored(cast(Cluster, QuietCluster()), "registry-dev", KEPT) == IN_BUCKET
    assert stored(cast(Cluster, QuietCluster()), "", KEPT) is None


@pytest.mark.parametrize(
    ("wanted_place", "parts"),
    [
        (in_bucket(namespace="other"), (":namespace is 'other'", "team-images/registry-dev/", "registry-dev")),
        (in_bucket("more"), (":s3Bucket is 'more'", "team-images/registry-dev/", "set s3Bucket team-images")),
        (in_bucket(endpoint=""), (":s3Endpoint is ''", "team-images/", "set s3Endpoint https://s3.example.com")),
    ],
)
def test_a_change_after_which_images_in_a_bucket_are_not_found_is_refused_or_warned_of(
    wanted_place: Settings, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    [error] = errors = place_errors(wanted_place, IN_BUCKET, None)
    says(error, *parts, "or accept that they stay behind: pulumi config set allowDataLoss true")
    assert losses(errors, IN_BUCKET, allowed=False) == errors
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    assert losses(errors, IN_BUCKET, allowed=True) == []
    assert "stays behind in the bucket" in warned[0]


def test_the_same_place_in_a_bucket_is_no_error_and_another_storage_leaves_the_images_there() -> None:
    for same in (in_bucket(), in_bucket(namespace="registry-dev"), having(storage=wanted("memory"))):
        assert place_errors(same, IN_BUCKET, None) == []


def test_a_class_that_nobody_may_list_is_taken_to_let_volumes_grow() -> None:
    assert place_errors(settings_with(storage_size="20Gi"), VOLUME, None) == []


@pytest.mark.parametrize("values", [{"storage_class": "fast"}, {"storage_size": "5Gi"}, {"storage_size": "20Gi"}])
def test_a_volume_that_was_never_there_is_made_anew_without_an_error(values: dict[str, Any]) -> None:
    there = Stored(**{**vars(VOLUME), "empty": True})
    errors = place_errors(settings_with(**values), there, None)
    assert len(errors) == 1
    assert losses(errors, there, allowed=False) == []


def test_a_loss_that_is_allowed_is_a_warning_that_says_how_to_forbid_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    errors = place_errors(settings_with(storage_class="fast"), VOLUME, None)
    assert losses(errors, VOLUME, allowed=False) == errors
    assert warned == []
    assert losses(errors, VOLUME, allowed=True) == []
    [text] = warned
    assert "is lost" in text
    assert ":storageClass is 'fast'" in text
    assert "pulumi config rm allowDataLoss" in text


@pytest.mark.parametrize(
    ("there", "values", "warns"),
    [
        (None, {}, True),
        (VOLUME, {}, False),
        (Stored(**{**vars(VOLUME), "storage_class": "kept"}), {}, True),
        (VOLUME, {"storage_class": "kept"}, True),
        (None, {"storage_class": "standard"}, False),
        (None, {"storage": "memory"}, False),
    ],
)
def test_a_class_that_keeps_disks_is_warned_of(
    there: Stored | None, values: dict[str, Any], warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    default = named("kept", default="storageclass.kubernetes.io/is-default-class")
    older = named("standard", default="storageclass.kubernetes.io/is-default-class")
    default["metadata"]["creationTimestamp"], older["metadata"]["creationTimestamp"] = "2026-02-01", "2026-01-01"
    classes = [{**older, "reclaimPolicy": "Delete"}, {**default, "reclaimPolicy": "Retain"}]
    warn_of_kept_disks(settings_with(**values), there, classes)
    assert [("kept" in text and "kubectl patch persistentvolume" in text) for text in warned] == [True] * warns
