"""The command that frees space: in which order it does what, in which pods, and what it does after an error."""

import json
from collections.abc import Callable, Sequence
from typing import cast

import pytest

from registry.cluster import Cluster
from registry.pod import nginx
from registry.stack import gc

DRY_RUN = """\
team/app: marking blob sha256:aa
manifest eligible for deletion: {team/app sha256:11 [1 latest]}
manifest eligible for deletion: {team/other sha256:22 []}
3 blobs marked, 1 blobs and 2 manifests eligible for deletion
"""
SCRIPT = "/etc/private-registry/gc.sh"


class Recorded:
    """A cluster with the registry's pods, in which programs are recorded instead of run."""

    def __init__(self, *names: str, ready: str = "True") -> None:
        self.ids = {name: f"id-{name}" for name in names}
        self.ready = ready
        self.ran: list[tuple[str, str, str]] = []
        self.fails = ""
        self.evicted: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def ask(self, path: str, **query: str) -> str:
        assert (path, query) == ("/api/v1/namespaces/team/pods", {"labelSelector": "app.kubernetes.io/name=registry"})
        status = {"conditions": [{"type": "Ready", "status": self.ready}]}
        pods = [{"metadata": {"name": name, "uid": uid}, "status": status} for name, uid in self.ids.items()]
        pods += [{"metadata": {"name": name, "uid": name}, "status": {"phase": "Failed"}} for name in self.evicted]
        return json.dumps({"items": pods})

    def execute(
        self, namespace: str, pod: str, container: str, command: Sequence[str], tick: Callable[[], None]
    ) -> tuple[int, str, str]:
        assert namespace == "team"
        words = " ".join(command)
        self.ran.append((pod, container, words))
        if self.fails and self.fails in words:
            return 1, "", "it went wrong"
        if "collect" in words and SCRIPT in words:
            self.meanwhile()
            tick()
            return 0, f"{DRY_RUN}freed 5 MiB\n", ""
        return 0, DRY_RUN if "--dry-run" in words else "", ""


def free(cluster: Recorded, *, untagged: bool = False) -> list[str]:
    said: list[str] = []
    gc.collect(gc.Pods(cast(Cluster, cluster), "team"), untagged=untagged, say=said.append)
    return said


def stops(cluster: Recorded, seconds: int) -> list[str]:
    """The pods in which pushes were stopped for so long, in order."""
    return [pod for pod, container, words in cluster.ran if container == "nginx" and f"+ {seconds}))" in words]


def test_pushes_are_stopped_in_every_pod_before_one_collects_and_allowed_after() -> None:
    cluster = Recorded("b", "a")
    assert free(cluster)[-2:] == ["freed 5 MiB", "Pushes are allowed again"]
    assert stops(cluster, 60) == ["b", "a"], "the one that collects is the last"
    steps = [(pod, words.split()[2]) for pod, container, words in cluster.ran if container == "registry"]
    assert steps == [("a", "settle"), ("b", "settle"), ("a", "collect")]
    assert cluster.ran[-2:] == [(pod, "nginx", f"rm -f {nginx.STOPPED}") for pod in ("a", "b")]
    assert not [words for _, _, words in cluster.ran if "--delete-untagged" in words]


def test_a_pod_that_was_evicted_stops_nothing_and_is_asked_for_nothing() -> None:
    cluster = Recorded("a")
    cluster.evicted = ["evicted"]
    cluster.meanwhile = lambda: cluster.evicted.append("another")
    assert free(cluster)[-1] == "Pushes are allowed again"
    assert {pod for pod, _, _ in cluster.ran} == {"a"}


def test_manifests_without_a_tag_are_found_by_a_dry_run_and_deleted_by_the_api() -> None:
    cluster = Recorded("a")
    assert "2 manifests have no tag" in free(cluster, untagged=True)
    [deletion] = [words for _, container, words in cluster.ran if container == "proof-image"]
    assert deletion.endswith("127.0.0.1:5001 team/app@sha256:11 team/other@sha256:22")
    [asked] = [words for _, _, words in cluster.ran if "--delete-untagged" in words]
    assert "--dry-run" in asked


@pytest.mark.parametrize("step", ["settle", "--dry-run", "127.0.0.1:5001", "collect /etc"])
def test_after_an_error_pushes_stay_stopped_for_less_than_the_collection_needs(step: str) -> None:
    cluster = Recorded("a", "b")
    cluster.fails = step
    with pytest.raises(gc.GcError, match="it went wrong"):
        free(cluster, untagged=True)
    assert stops(cluster, 20) == ["a", "b"], "the one that collects is the first"
    assert not [words for _, _, words in cluster.ran if words.startswith("rm")]


def test_pods_that_change_meanwhile_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "_RENEW", 0)
    cluster = Recorded("a")
    cluster.meanwhile = lambda: cluster.ids.update(b="id-b")
    with pytest.raises(gc.GcError, match="pods have changed"):
        free(cluster)
    assert stops(cluster, 20) == ["a"]


def test_that_pushes_are_stopped_is_prolonged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "_RENEW", 0)
    cluster = Recorded("a")
    free(cluster)
    assert stops(cluster, 60) == ["a", "a"]


def test_nothing_is_done_unless_every_pod_is_ready() -> None:
    for cluster, part in ((Recorded(), "has no pod"), (Recorded("a", ready="False"), "pod a is not ready")):
        with pytest.raises(gc.GcError, match=part):
            free(cluster)
        assert cluster.ran == []
