"""The very pods that will be made are asked for in a dry run, and a refusal is told with the fix that fits."""

import asyncio
import json
import threading
from dataclasses import dataclass, field
from typing import Any, cast

import pulumi
import pytest

from registry.cluster import Cluster
from registry.registry import registry_pod
from registry.settings import load
from tests.unit.support.engine import Recorder, run_program
from tests.unit.support.settings import FakeConfig
from trust import admission
from trust.admission import Sample, plain, require_pods
from trust.daemonset import trust_pod
from trust.refusals import refused


@dataclass
class Asked:
    """A cluster that gives these answers for each pod, the last one for ever, and keeps what it was asked."""

    answers: list[str] = field(default_factory=lambda: [""])
    registry: list[str] = field(default_factory=list[str])
    """The answers for the registry's pod, if they are others."""
    bodies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    phases: dict[str, str | Exception] = field(default_factory=dict[str, str | Exception])
    """The phase of the one pod by its label, or an error; no pod if there is none."""

    def ask(self, path: str, **query: str) -> str:
        assert path == "/api/v1/namespaces/ns/pods"
        phase = self.phases.get(query["labelSelector"].removeprefix("app.kubernetes.io/name="))
        if isinstance(phase, Exception):
            raise phase
        return json.dumps({"items": [{"status": {"phase": phase}}] if phase else []})

    def refusal(self, kind: str, body: dict[str, Any], namespace: str = "") -> str:
        assert (kind, namespace) == ("pod", "ns")
        self.bodies.append(body)
        name = body["metadata"]["labels"]["app.kubernetes.io/name"]
        answers = (name == "registry" and self.registry) or self.answers
        asked = sum(each["metadata"]["labels"]["app.kubernetes.io/name"] == name for each in self.bodies)
        return answers[min(asked, len(answers)) - 1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_INTERVAL", 0.01)


def samples(**values: str) -> list[Sample]:
    settings = load(FakeConfig(**values))
    return [trust_pod(settings), registry_pod(settings, cast(Cluster, Asked()))]


def ask(cluster: Asked) -> None:
    async def asked() -> None:
        await require_pods(cluster, "ns", samples())

    asyncio.run(asked())


def shape(thing: object) -> object:
    """What policies look at: all but the values that are known later, and what Pulumi leaves out as it is empty."""
    if isinstance(thing, dict):
        return {
            key: shape(value)
            for key, value in sorted(cast(dict[str, object], thing).items())
            if key
            not in (
                "value",
                "name",
                "secretName",
                "claimName",
                "private-registry/agent",
                "private-registry/host",
                "private-registry/ca",
            )
            and not key.startswith("private-registry/config")
        }
    if isinstance(thing, list):
        return [shape(entry) for entry in cast(list[object], thing)]
    return "sha256" if isinstance(thing, str) and "private-registry/proof@sha256:" in thing else thing


@pytest.mark.parametrize(
    "values",
    [
        {"auth": "basic"},
        {"exposure": "loadBalancer", "auth": "basic"},
        {"storage": "memory", "auth": "basic"},
        {"nodeTrust": "external", "auth": "basic"},
    ],
    ids=lambda values: "-".join(values.values()),
)
def test_the_pods_of_the_dry_run_are_those_that_the_program_makes(values: dict[str, str]) -> None:
    recorder = Recorder()
    run_program(recorder, **values)

    async def both() -> list[dict[str, Any]]:
        return [await plain(template) for _, template in samples(**values)]

    for kind, sample in zip((":DaemonSet", ":Deployment"), asyncio.run(both()), strict=True):
        assert shape(sample) == shape(recorder.of(kind)["spec"]["template"]), kind


def test_the_pod_of_the_agent_has_what_policies_ask_for() -> None:
    cluster = Asked()
    ask(cluster)
    agent, registry = sorted(
        cluster.bodies, key=lambda body: body["metadata"]["labels"]["app.kubernetes.io/name"] != "trust"
    )
    assert agent["spec"]["hostPID"] is True
    assert agent["spec"]["priorityClassName"] == "system-node-critical"
    assert agent["spec"]["initContainers"][0]["securityContext"] == {"privileged": True}
    assert agent["spec"]["containers"][0]["image"].startswith("registry-sample.nip.io/private-registry/proof@sha256:")
    for body in (agent, registry):
        assert body["metadata"]["labels"]["app.kubernetes.io/name"]
        assert body["metadata"]["generateName"]
        for container in (*body["spec"].get("initContainers", []), *body["spec"]["containers"]):
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}


@pytest.mark.parametrize(
    "later", ['pods is forbidden: error looking up service account: serviceaccount "default" not found',
              "insufficient quota to match these scopes: [{PriorityClass In [system-node-critical]}]",
              "status unknown for quota: trust, resources: pods",
              'error looking up service account ns/trust: serviceaccount "trust" not found',
              'security context constraint: [provider "privileged": Forbidden: not usable by user or serviceaccount]',
              "unable to find annotation openshift.io/sa.scc.uid-range"],
)  # fmt: skip
def test_what_a_new_namespace_lacks_for_a_moment_is_waited_for(later: str) -> None:
    ask(Asked([later, later, ""]))
    with pytest.raises(pulumi.RunError, match="denied by y"):
        ask(Asked([later, "denied by y."]))


def test_an_account_that_never_comes_is_left_to_the_wait_for_the_pods_and_a_quota_that_never_counts_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "_SECONDS", 0.1)
    ask(Asked(['serviceaccount "default" not found']))
    with pytest.raises(pulumi.RunError, match="insufficient quota.*Raise that quota"):
        ask(Asked(["insufficient quota to match these scopes"]))


def test_each_pod_that_is_refused_has_a_paragraph() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        ask(Asked(["denied by y."], ["denied by z."]))
    agent, registry = str(caught.value).splitlines()
    assert agent.startswith("The cluster refuses the node agent's pod in the namespace ns: denied by y. Have a cluster")
    assert registry.startswith(
        "The cluster refuses the registry's pod in the namespace ns: denied by z. Have a cluster"
    )


def test_the_cluster_is_asked_for_both_pods_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    class Beside(Asked):
        def refusal(self, kind: str, body: dict[str, Any], namespace: str = "") -> str:
            both.wait()
            return super().refusal(kind, body, namespace)

    cluster = Beside()
    ask(cluster)
    assert len(cluster.bodies) == 2


def test_a_namespace_that_somebody_has_deleted_is_no_policy() -> None:
    with pytest.raises(pulumi.RunError) as caught:
        ask(Asked(['namespaces "ns" not found']))
    assert str(caught.value).startswith("The namespace ns is not there, and the stack's state does not know it")
    assert str(caught.value).endswith("pulumi up --refresh")


QUOTA = "exceeded quota: team, requested: requests.memory=2Gi, used: requests.memory=2Gi, limited: requests.memory=3Gi"


def test_a_quota_without_room_for_one_more_pod_beside_those_that_run_is_left_to_the_waits() -> None:
    ask(Asked([QUOTA], phases={"trust": "Running", "registry": "Pending"}))
    with pytest.raises(pulumi.RunError, match="denied by y"):
        ask(Asked(["denied by y."], phases={"trust": "Running", "registry": "Running"}))


@pytest.mark.parametrize("phase", ["Failed", "Succeeded", "", PermissionError("may not"), LookupError("none")])
def test_a_quota_without_room_for_the_first_pod_is_told(phase: str | Exception) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        ask(Asked([QUOTA], phases={"trust": "Running", "registry": phase}))
    [told] = str(caught.value).splitlines()
    assert told.startswith("The cluster refuses the registry's pod in the namespace ns: exceeded quota")


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("unable to validate against any security context constraint: []", "oc adm policy add-scc-to-user nonroot-v2"),
        ("insufficient quota to match these scopes", "Raise that quota in the namespace ns"),
        ("minimum memory usage per Container is 16Mi, but request is 4Mi", "Change that LimitRange"),
        ("cpu max limit to request ratio per Container is 10, but provided ratio is 50", "Change that LimitRange"),
        (
            "image h/private-registry/proof is not from an allowed registry",
            "has to allow docker.io/library/python:3 (imageRegistry sets",
        ),
        ("no privileged pods", "exempt the namespace"),
    ],
)
def test_the_fix_fits_the_clusters_words(words: str, fix: str) -> None:
    containers = [{"name": "proof", "image": "h/private-registry/proof"}]
    pod = {"initContainers": [{"name": "agent", "image": "docker.io/library/python:3"}], "containers": containers}
    said = refused("the node agent's", f"{words}.", "ns", pod)
    assert f"in the namespace ns: {words}. " in said
    assert fix in said
    assert said.endswith(".") or said.endswith("own host.")


def test_the_agents_account_that_somebody_has_deleted_is_no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_SECONDS", 0.1)
    with pytest.raises(pulumi.RunError) as caught:
        ask(Asked(['error looking up service account ns/trust: serviceaccount "trust" not found']))
    assert str(caught.value).startswith("The ServiceAccount trust in the namespace ns is not there")
    assert str(caught.value).endswith("pulumi up --refresh")
