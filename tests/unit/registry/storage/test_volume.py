"""The volume: the StorageClass that it needs, and what its size means in bytes."""

import pytest

from registry.cluster import Object
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
