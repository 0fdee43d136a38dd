"""What belongs to somebody else is refused before anything is made, and what is the stack's own is taken over."""

from dataclasses import replace
from typing import Any, cast

import pulumi
import pytest
from kubernetes.client.exceptions import ApiException

from registry import names
from registry.cluster import Cluster, Object
from registry.stack import strangers
from registry.stack.recorded import Recorded
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.errors import says
from tests.unit.support.settings import having

OURS = Recorded(instance="0123456789ab", cluster=QuietCluster.uid, context="quiet")


def there(name: str, instance: str = "", **metadata: str) -> Object:
    return {"metadata": {"name": name, "labels": {names.INSTANCE: instance} if instance else {}, **metadata}}


def errors(objects: dict[str, Object], recorded: Recorded = OURS, **values: Any) -> list[str]:
    cluster = cast(Cluster, QuietCluster(objects=objects))
    return [str(error) for error in strangers.errors(having(**values), cluster, recorded)]


@pytest.mark.parametrize("recorded", [Recorded(), Recorded(cluster=QuietCluster.uid)])
def test_the_right_cluster_is_no_error(recorded: Recorded) -> None:
    strangers.require_same_cluster(recorded, cast(Cluster, QuietCluster()))


def test_another_cluster_is_an_error_that_names_both_and_the_two_ways_out() -> None:
    recorded = Recorded(cluster="there", context="prod")
    with pytest.raises(pulumi.RunError) as caught:
        strangers.require_same_cluster(recorded, cast(Cluster, QuietCluster()))
    says(caught.value, "another cluster", "prod", "there", "quiet", QuietCluster.uid)
    says(caught.value, "pulumi config set kubernetes:context prod", "pulumi stack rm --force", "pulumi stack init")


def test_a_stack_of_an_organisation_is_forgotten_under_its_full_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_organization", lambda: "acme")
    monkeypatch.setattr(pulumi, "get_project", lambda: "private-registry")
    monkeypatch.setattr(pulumi, "get_stack", lambda: "pr-42")
    with pytest.raises(pulumi.RunError) as caught:
        strangers.require_same_cluster(Recorded(cluster="there"), cast(Cluster, QuietCluster()))
    name = "acme/private-registry/pr-42"
    says(caught.value, f"pulumi stack rm --force --preserve-config {name} && pulumi stack init {name}")


def test_a_user_who_may_not_read_the_clusters_id_is_not_stopped() -> None:
    class Unreadable(QuietCluster):
        uid = ""

    strangers.require_same_cluster(OURS, cast(Cluster, Unreadable()))


@pytest.mark.parametrize("recorded", [OURS, Recorded()])
@pytest.mark.parametrize("instance", ["", "ba9876543210"])
def test_a_strangers_namespace_is_refused(instance: str, recorded: Recorded) -> None:
    found = errors({"/api/v1/namespaces/registry": there("registry", instance)}, recorded, namespace="registry")
    assert found == [
        "The namespace registry exists already, and is not this stack's. Choose another name: pulumi config set "
        "namespace registry-pr-42."
    ]


def test_our_own_namespace_is_taken_over_unless_it_is_being_deleted() -> None:
    path = "/api/v1/namespaces/registry"
    assert errors({path: there("registry", OURS.instance)}, namespace="registry") == []
    [error] = errors({path: there("registry", OURS.instance, deletionTimestamp="now")}, namespace="registry")
    assert "is being deleted. When it is gone" in error
    assert "pulumi up --refresh" in error


@pytest.mark.parametrize("recorded", [OURS, Recorded()])
@pytest.mark.parametrize("instance", ["", "ba9876543210"])
def test_a_strangers_namespace_that_is_being_deleted_is_only_waited_for(instance: str, recorded: Recorded) -> None:
    """Such is also that of an earlier instance of the stack, whose state was forgotten."""
    ends = there("registry", instance, deletionTimestamp="now")
    found = errors({"/api/v1/namespaces/registry": ends}, recorded, namespace="registry")
    assert found == [
        "The namespace registry is being deleted. When it is gone (kubectl get namespace registry): pulumi up"
    ]


def test_the_name_that_is_proposed_is_not_the_one_that_is_taken() -> None:
    [error] = errors({"/api/v1/namespaces/registry-pr-42": there("registry-pr-42")}, namespace="registry-pr-42")
    assert error.endswith("Choose another name: pulumi config set namespace registry-pr-43.")


def test_of_our_own_namespace_that_does_not_go_it_is_said_what_it_waits_for() -> None:
    conditions = [
        {"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "Discovery failed: v1.gone."},
        {"type": "NamespaceContentRemaining", "status": "False", "message": "All content removed"},
        {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "a/b in 1 resource instances"},
    ]
    ends = {**there("registry", OURS.instance, deletionTimestamp="now"), "status": {"conditions": conditions}}
    [error] = errors({"/api/v1/namespaces/registry": ends}, namespace="registry")
    assert "The cluster says what it waits for: Discovery failed: v1.gone. a/b in 1 resource instances" in error
    assert "removed" not in error


def test_objects_of_others_in_other_namespaces_are_refused() -> None:
    objects = {
        "/api/v1/namespaces/a/secrets/registry-x": there("registry-x"),
        "/api/v1/namespaces/b/configmaps/registry-x": there("registry-x", "ba9876543210"),
        "/api/v1/namespaces/c/secrets/registry-x": there("registry-x", OURS.instance),
        "/api/v1/namespaces/kube-public/configmaps/local-registry-hosting": there("local-registry-hosting"),
    }
    values: dict[str, Any] = {"namespace": "registry-x", "pull_namespaces": ("a", "c"), "ca_namespaces": ("b",)}
    first, second, third = errors(objects, advertise=True, **values)
    assert "secret a/registry-x exists already" in first
    assert "configmap b/registry-x exists already" in second
    assert "configmap kube-public/local-registry-hosting exists already" in third
    assert "pulumi config set advertise false" in third


def test_what_cannot_be_seen_is_not_taken_over() -> None:
    class Refusing(QuietCluster):
        def find(self, path: str) -> Object | None:
            raise ApiException(status=403, reason="Forbidden")

    found = strangers.errors(having(namespace="registry"), cast(Cluster, Refusing()), OURS)
    says(found[0], "Whose the namespace registry is cannot be seen", "Forbidden")


def test_before_the_first_up_only_what_has_a_known_name_is_asked_for() -> None:
    class Asked(QuietCluster):
        def find(self, path: str) -> Object | None:
            raise AssertionError(path)

    assert strangers.errors(having(pull_namespaces=("a",)), cast(Cluster, Asked()), Recorded()) == []
    assert strangers.leftovers(cast(Cluster, Asked()), Recorded(), "") == []


def test_namespaces_that_the_state_does_not_know_are_left_over() -> None:
    items = [there("old"), there("own"), there("new"), there("ends", deletionTimestamp="now")]
    path = f"/api/v1/namespaces?labelSelector=private-registry/instance%3D{OURS.instance}"
    cluster = cast(Cluster, QuietCluster(objects={path: {"items": items}}))
    recorded = Recorded(instance=OURS.instance, namespace="own")
    assert strangers.leftovers(cluster, recorded, "new") == ["old"]


def test_a_move_to_another_namespace_that_has_not_ended_is_not_taken_back() -> None:
    """Pulumi would delete the namespace that the stack is in again, and every image."""
    a, b = "registry-a", "registry-b"
    objects = {f"/api/v1/namespaces/{name}": there(name, OURS.instance) for name in (a, b)}
    for namespace in (b, ""):  # empty: somebody has deleted it, and the state was refreshed
        [error] = errors(objects, replace(OURS, namespace=namespace, wanted=b), namespace=a)
        assert f"from the namespace {a} to {b} has not ended" in error
        assert f"pulumi config set namespace {b}" in error
    assert not errors(objects, replace(OURS, namespace=b, wanted=b))


@pytest.mark.parametrize("namespace", ["registry-a", "registry-b"])
def test_a_move_that_was_killed_before_the_state_had_the_namespace_goes_on_or_back(namespace: str) -> None:
    recorded = replace(OURS, namespace="registry-a", wanted="registry-b")
    objects = {f"/api/v1/namespaces/{name}": there(name, OURS.instance) for name in ("registry-a", "registry-b")}
    assert not errors(objects, recorded, namespace=namespace)
