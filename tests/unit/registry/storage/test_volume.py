"""The volume: the StorageClass that it needs, and what its size means in bytes."""

from typing import cast

import pytest

from registry.cluster import Cluster, Object
from registry.storage import volume
from registry.storage.volume import quantity_bytes, storage_class_error
from tests.unit.support.clusters import named
from tests.unit.support.errors import says
from tests.unit.support.settings import having, stored


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
    ("quantity", "size"), [("1", 1), ("10Gi", 10 * 2**30), ("1.5G", 1_500_000_000), ("2k", 2000), ("3Pi", 3 * 2**50)]
)
def test_a_quantity_is_a_number_of_bytes(quantity: str, size: int) -> None:
    assert quantity_bytes(quantity) == size


def test_in_memory_no_class_is_asked_for() -> None:
    class Refusing:
        """A cluster that nobody asks."""

    assert volume.errors(having(storage=stored("memory")), cast(Cluster, Refusing())) == []
