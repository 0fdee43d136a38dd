"""The volume: the StorageClass that it needs, and what its size means in bytes."""

import json
from typing import cast

import pulumi
import pytest

from registry.cluster import Cluster, Object
from registry.storage import volume
from registry.storage.volume import default_classes, quantity_bytes, storage_class_error
from tests.unit.support.clusters import named
from tests.unit.support.errors import says


def storage_class(name: str, *, default: bool = False) -> Object:
    return named(name, default="storageclass.kubernetes.io/is-default-class" if default else "")


@pytest.mark.parametrize(
    ("own", "classes", "parts"),
    [
        ("", [], (":storage is 'volume'", "no StorageClass", "set storage memory")),
        ("", [storage_class("ssd")], (":storageClass is ''", "set storageClass ssd", "set storage memory")),
        ("fast", [storage_class("ssd")], (":storageClass is 'fast'", "has ssd", "storageClass ssd", "storage memory")),
    ],
)
def test_a_volume_without_a_class(own: str, classes: list[Object], parts: tuple[str, ...]) -> None:
    says(storage_class_error(own, classes), *parts)


@pytest.mark.parametrize(
    ("own", "classes"),
    [
        ("", [storage_class("a", default=True), storage_class("b", default=True)]),
        ("", [named("old", default="storageclass.beta.kubernetes.io/is-default-class")]),
        ("ssd", [storage_class("ssd")]),
        ("ssd", None),
    ],
)
def test_a_volume_with_a_class(own: str, classes: list[Object] | None) -> None:
    assert storage_class_error(own, classes) is None


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("1", 1), ("10Gi", 10 * 2**30), ("1.5G", 1_500_000_000), ("2k", 2000), ("3Pi", 3 * 2**50), ("1500m", 1)],
)
def test_a_quantity_is_a_number_of_bytes(quantity: str, size: int) -> None:
    assert quantity_bytes(quantity) == size


def test_the_volume_that_is_there_needs_no_class_any_more() -> None:
    assert storage_class_error("", [storage_class("ssd")], own="gone") is None
    assert storage_class_error("gone", [], own="gone") is None
    says(storage_class_error("fast", [storage_class("ssd")], own="ssd"), "fast")


def test_of_several_default_classes_the_newest_counts() -> None:
    classes = [storage_class("old", default=True), storage_class("new", default=True), storage_class("ssd")]
    for number, entry in enumerate(classes):
        entry["metadata"]["creationTimestamp"] = f"2026-01-0{number + 1}"
    assert [entry["metadata"]["name"] for entry in default_classes(classes)] == ["new", "old"]


FULL = '{"reason": "STORAGE_FULL", "sentence": "It is full."}'
GOOD = '{"reason": "READY", "sentence": "It is good."}'


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", ("", "")),
        ("waiting for the registry: refused", ("", "")),
        (GOOD, ("", "")),
        (f"{GOOD}\n{FULL}\npushed x", ("STORAGE_FULL", "It is full.")),
        (f"{FULL}\n{GOOD}", ("", "")),
    ],
)
def test_the_last_word_on_the_storage_counts(log: str, expected: tuple[str, str]) -> None:
    assert volume.fault_in(log) == expected


class Logs:
    """A cluster with two pods of the registry, the second of which has something to say; or with a forbidden log."""

    def __init__(self, error: Exception | None = None, said: str = FULL, first: str | Exception = GOOD) -> None:
        self.error = error
        self.said = said
        self.first = first
        self.phases = {"a": "Running", "b": "Running"}
        self.deleted: set[str] = set()

    def ask(self, path: str, **query: str) -> str:
        if self.error:
            raise self.error
        if path.endswith("/pods"):
            assert query == {"labelSelector": "app.kubernetes.io/name=registry"}
            found = [
                {
                    "metadata": {"name": name, **({"deletionTimestamp": "now"} if name in self.deleted else {})},
                    "status": {"phase": phase},
                }
                for name, phase in self.phases.items()
            ]
            return json.dumps({"items": found})
        assert query["container"] == "proof-image"
        answer = {"/api/v1/namespaces/team/pods/a/log": self.first, "/api/v1/namespaces/team/pods/b/log": self.said}[
            path
        ]
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_every_pod_is_asked_and_a_user_who_may_not_ask_learns_nothing() -> None:
    assert volume.fault(cast(Cluster, Logs()), "team") == ("STORAGE_FULL", "It is full.")
    for error in (PermissionError(), LookupError(), ConnectionError()):
        assert volume.fault(cast(Cluster, Logs(error)), "team") == ("", "")


@pytest.mark.parametrize("error", [LookupError(), ConnectionError()])
def test_a_pod_without_a_log_does_not_hide_what_the_others_say(error: Exception) -> None:
    assert volume.fault(cast(Cluster, Logs(first=error)), "team") == ("STORAGE_FULL", "It is full.")


def test_a_pod_that_ends_is_not_asked_of_the_storage_that_it_leaves() -> None:
    cluster = Logs()
    cluster.deleted.add("b")
    assert volume.fault(cast(Cluster, cluster), "team") == ("", "")


def test_a_pod_that_has_ended_for_good_is_not_asked() -> None:
    cluster = Logs(first=AssertionError("asked"))
    cluster.phases["a"] = "Failed"
    assert volume.fault(cast(Cluster, cluster), "team") == ("STORAGE_FULL", "It is full.")
    cluster = Logs()
    cluster.phases["b"] = "Failed"
    assert volume.fault(cast(Cluster, cluster), "team") == ("", "")


def test_a_storage_that_is_full_is_a_warning_and_one_that_takes_nothing_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    volume.check(cast(Cluster, Logs(said=GOOD)), "team")
    assert warned == []
    volume.check(cast(Cluster, Logs()), "team")
    assert warned == ["It is full."]
    refused = '{"reason": "STORAGE_NOT_WRITABLE", "sentence": "chown it."}'
    with pytest.raises(pulumi.RunError, match="chown it"):
        volume.check(cast(Cluster, Logs(said=refused)), "team")
