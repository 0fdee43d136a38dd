"""What is wrong with the cluster is said before anything is made, and whoever is not concerned is not asked."""

from dataclasses import dataclass, field
from typing import Any, cast

import pulumi
import pytest

from registry.cluster import Cluster, Object
from registry.stack import preflight
from registry.stack.recorded import Recorded
from tests.unit.support.errors import says
from tests.unit.support.settings import having, stored


@pytest.mark.parametrize("version", [(1, 28), (1, 9), (0, 99)])
def test_a_kubernetes_without_native_sidecars_is_refused(version: tuple[int, int]) -> None:
    says(preflight.version_error(version), f"{version[0]}.{version[1]}", "1.29", "Upgrade the cluster")


@pytest.mark.parametrize("version", [(1, 29), (1, 36), (2, 0)])
def test_a_kubernetes_with_native_sidecars_is_accepted(version: tuple[int, int]) -> None:
    assert preflight.version_error(version) is None


def test_a_policy_is_quoted_with_what_it_forbids() -> None:
    says(
        preflight.namespace_error(having(namespace="x"), "denied by y."), "refuses", "x", "= privileged", "denied by y."
    )
    says(preflight.namespace_error(having(node_trust="external"), "denied by y."), "= restricted)", "denied by y.")
    says(preflight.namespace_error(having(namespace="registry-pr-42"), "no."), "config set namespace registry-pr-43")
    assert preflight.namespace_error(having(), "") is None


@dataclass
class EmptyCluster:
    """A cluster that has nothing and refuses the namespace; it records what it is asked."""

    asked: list[str] = field(default_factory=list)
    nodes: tuple[Object, ...] = ()
    gateway_classes: tuple[Object, ...] = ()

    uid = ""

    def version(self) -> tuple[int, int]:
        return 1, 28

    def ingress_classes(self) -> list[Object]:
        self.asked.append("ingress_classes")
        return []

    def storage_classes(self) -> list[Object]:
        self.asked.append("storage_classes")
        return []

    def serves(self, group_version: str, _kind: str) -> bool:
        self.asked.append(group_version)
        return False

    def refusal(self, *_: object) -> str:
        return "denied by y."


@pytest.mark.parametrize(
    ("values", "asked", "parts"),
    [
        ({}, ["storage_classes", "ingress_classes"], ("IngressClass", "StorageClass")),
        ({"exposure": "nodePort"}, ["storage_classes"], ("InternalIP", "StorageClass")),
        ({"exposure": "loadBalancer", "storage": stored("memory")}, [], ()),
        ({"exposure": "gateway", "storage": stored("memory")}, ["gateway.networking.k8s.io/v1"], ("Gateway API",)),
        (
            {"exposure": "loadBalancer", "storage": stored("memory"), "certificate_issuer": "cert-manager"},
            ["cert-manager.io/v1"],
            ("cert-manager",),
        ),
    ],
)
def test_each_part_that_the_settings_name_brings_its_errors_and_no_other_asks_the_cluster(
    values: dict[str, Any], asked: list[str], parts: tuple[str, ...]
) -> None:
    cluster = EmptyCluster()
    with pytest.raises(pulumi.RunError) as caught:
        preflight.preflight(having(**values), cast(Cluster, cluster), Recorded())
    says(caught.value, "1.28", *parts, "denied by y.")
    assert len(str(caught.value).splitlines()) == 2 + len(parts)
    assert cluster.asked == asked


def test_where_the_provider_goes_to_another_cluster_nothing_is_asked_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_KUBERNETES_CLUSTER", "other")  # what `pulumi config` says, for this test alone
    cluster = EmptyCluster()
    with pytest.raises(pulumi.RunError, match="The setting kubernetes:cluster is other, but the program asks"):
        preflight.preflight(having(), cast(Cluster, cluster), Recorded())
    assert cluster.asked == []
