"""Objects that have another name for another host, class or CA are deleted by the program, once nothing needs them."""

from typing import Any, cast

import pulumi
import pytest
from kubernetes.client.exceptions import ApiException

from registry.cluster import Cluster, Object
from registry.stack import former
from registry.stack.former import has_telling_name, remove_former
from tests.unit.support.clusters import QuietCluster

INGRESSES = "/apis/networking.k8s.io/v1/namespaces/ns/ingresses"
CONFIG_MAPS = "/api/v1/namespaces/ns/configmaps"
OURS = "?labelSelector=app.kubernetes.io%2Fpart-of%3Dprivate-registry"


def named(*names: str, **more: Any) -> Object:
    return {"items": [{"metadata": {"name": name}, **more} for name in names]}


def test_what_the_stack_has_now_stays_and_all_else_that_has_a_telling_name_goes() -> None:
    agents = named("trust-agent-1", "trust-agent-2", immutable=True)
    agents["items"] += named("registry", "trust-agent-0")["items"]
    cluster = QuietCluster(
        objects={f"{INGRESSES}{OURS}": named("former", "now"), f"{CONFIG_MAPS}{OURS}": agents},
    )
    remove_former(cast(Cluster, cluster), "ns", {("Ingress", "now"), ("ConfigMap", "trust-agent-2")})
    assert sorted(cluster.deleted) == [f"{CONFIG_MAPS}/trust-agent-1", f"{INGRESSES}/former"]


def test_a_name_of_one_kind_keeps_no_object_of_another() -> None:
    cluster = QuietCluster(objects={f"{INGRESSES}{OURS}": named("registry-1")})
    remove_former(cast(Cluster, cluster), "ns", {("Gateway", "registry-1")})
    assert cluster.deleted == [f"{INGRESSES}/registry-1"]


def test_what_cannot_be_deleted_is_warned_of_and_the_rest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings = list[str]()
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)

    class Guarded(QuietCluster):
        def delete(self, path: str) -> None:
            if path.startswith(INGRESSES):
                raise ApiException(status=403, reason="Forbidden", body='{"message": "ingresses are forbidden"}')
            super().delete(path)

    objects = {f"{INGRESSES}{OURS}": named("former"), f"{CONFIG_MAPS}{OURS}": named("trust-agent-1", immutable=True)}
    cluster = Guarded(objects=objects)
    remove_former(cast(Cluster, cluster), "ns", set())
    assert cluster.deleted == [f"{CONFIG_MAPS}/trust-agent-1"]
    [warning] = warnings
    assert warning.endswith("until the next `pulumi up`: ingresses are forbidden")


@pytest.mark.parametrize("kind", ["Service", "Secret", "Deployment", "DaemonSet", "PersistentVolumeClaim", "Namespace"])
def test_what_has_one_name_for_good_is_left_to_pulumi(kind: str) -> None:
    assert not has_telling_name(kind, {})
    assert not has_telling_name("ConfigMap", {"data": {}})


def test_a_user_who_may_not_list_a_kind_has_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trimmed(QuietCluster):
        def find(self, path: str) -> Object | None:
            if path.startswith("/apis/cert-manager.io"):
                raise ApiException(status=403, reason="Forbidden")
            return super().find(path)

    warnings = list[str]()
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    remove_former(cast(Cluster, Trimmed()), "ns", set())
    assert not warnings


def test_what_goes_is_waited_for_and_what_does_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, warnings = list[str](), list[str]()

    class Lasting(QuietCluster):
        def find(self, path: str) -> Object | None:
            asked.append(path)
            return {} if path == f"{INGRESSES}/lasting" else super().find(path)

    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    monkeypatch.setattr(former, "_END_SECONDS", 0.1)
    monkeypatch.setattr(former, "_END_INTERVAL", 0.01)
    remove_former(cast(Cluster, Lasting(objects={f"{INGRESSES}{OURS}": named("lasting")})), "ns", set())
    assert asked.count(f"{INGRESSES}/lasting") > 1
    [warning] = warnings
    assert "ingresses/lasting is still being deleted" in warning
