"""Waits: the sentence that says why one has reached its time-out, and when a Deployment counts as rolled out."""

import asyncio
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pulumi
import pytest

from registry import waiting
from registry.cluster import Cluster, Object
from registry.waiting import after, awaited, is_rolled_out, rolled_out, unordered, why_not_ready


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("1 error occurred:\n\t* the Kubernetes API server reported: timed out waiting for the condition", ["in team"]),
        ("'exposure' timed out waiting to be Ready", ["in team"]),
        ('admission webhook "validate.nginx.ingress.kubernetes.io" denied the request: host is taken', []),
    ],
)
def test_the_reason_is_told_of_a_wait_in_vain_and_not_of_a_refusal(
    monkeypatch: pytest.MonkeyPatch, error: str, told: list[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "error", said.append)

    def unregistered(_name: str, explain: Any) -> Any:
        return explain

    monkeypatch.setattr(pulumi, "ErrorHook", unregistered)
    options = awaited("hook", cast(Any, None), "2m", lambda asked: f"in {asked['metadata']['namespace']}")
    [explain] = cast(Any, options.hooks).on_error
    inputs = {"metadata": {"namespace": "team"}}
    assert explain(pulumi.ErrorHookArgs("urn", "id", "name", "type", new_inputs=inputs, errors=[error])) is False
    assert said == told


def deployment(generation: int = 2, *, seen: int = 2, replicas: int = 1, updated: int = 1, ready: int = 1) -> Object:
    status = {"observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready}
    return {"metadata": {"generation": generation}, "spec": {"replicas": 1}, "status": status}


def test_all_pods_are_new_and_ready() -> None:
    assert is_rolled_out(deployment())


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(deployment(seen=1), id="the controller has not seen the update"),
        pytest.param(deployment(replicas=2), id="an old pod is there"),
        pytest.param(deployment(updated=0), id="no new pod"),
        pytest.param(deployment(ready=0), id="not ready"),
        pytest.param({}, id="empty"),
    ],
)
def test_otherwise_it_is_waited_for(other: Object) -> None:
    assert not is_rolled_out(other)


class Answers:
    """A cluster that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: Object | Exception) -> None:
        self.left = list(answers)
        self.woken: list[tuple[str, str, str]] = []

    def wake(self, workloads: str, namespace: str, name: str) -> None:
        self.woken.append((workloads, namespace, name))
        self.left = [deployment()]

    def ask(self, path: str, **_: str) -> str:
        if path != "/apis/apps/v1/namespaces/team/deployments/registry":
            return '{"items": []}'
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer)


def wait_for(answers: object, timeout: str, why: Callable[[], str] = str) -> list[str]:
    """What the wait says until it ends."""
    said: list[str] = []
    asyncio.run(rolled_out(cast(Cluster, answers), "team", "registry", timeout, said.append, why))
    return said


def test_the_wait_ends_with_the_roll_out() -> None:
    unseen = (PermissionError("may not"), ConnectionError("no answer"))
    answers = Answers(*unseen, deployment(seen=1), deployment(updated=0), deployment())
    assert wait_for(answers, "1m") == []
    assert answers.left == [deployment()]


@pytest.mark.parametrize(("reason", "because"), [("", ""), ("It is full.", ": It is full")])
def test_the_wait_is_bounded_and_says_why_and_where_to_look(reason: str, because: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        wait_for(Answers(deployment(ready=0)), "1s", lambda: reason)
    assert str(caught.value) == (
        "The pod of the Deployment registry in the namespace team was not ready within 1s (the setting readyTimeout)"
        f"{because}. Its events tell more: kubectl describe pods -n team"
    )


def test_a_wait_that_takes_long_says_why_when_that_changes_and_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starting = "The registry's pod is not ready yet"
    for name, seconds in (("_PATIENCE", 0), ("_WHY", 0), ("_INTERVAL", 0.01), ("_REMIND", 60)):
        monkeypatch.setattr(waiting, name, seconds)
    looks = [deployment(ready=0)] * 8

    def said(*reasons: str) -> list[str]:
        left = list(reasons)
        return wait_for(Answers(*looks, deployment()), "1m", lambda: left.pop(0) if len(left) > 1 else left[0])

    assert said("", "It is full.") == [starting, f"{starting}: It is full"]
    monkeypatch.setattr(waiting, "_REMIND", 0)
    assert len(said("It is full.")) == len(looks)
    monkeypatch.setattr(waiting, "_PATIENCE", 10)
    assert said("It is full.") == []


def test_a_pod_that_is_ready_while_the_reason_is_looked_for_is_no_failure() -> None:
    answers = Answers(deployment(ready=0))

    def why() -> str:
        answers.left = [deployment()]
        return "It was not ready."

    assert wait_for(answers, "0s", why) == ["The registry's pod is not ready yet: It was not ready"]


def test_while_reasons_take_long_the_deployment_is_looked_at_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_PATIENCE", 0), ("_WHY", 0), ("_INTERVAL", 0.01)):
        monkeypatch.setattr(waiting, name, seconds)
    asked: list[float] = []

    def why() -> str:
        asked.append(time.monotonic())
        time.sleep(0.1)
        return ""

    wait_for(Answers(*[deployment(ready=0)] * 60, deployment()), "1m", why)
    assert len(asked) >= 2
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(asked))


def test_a_deployment_that_somebody_has_paused_is_said_with_what_resumes_it() -> None:
    paused = deployment(updated=0)
    paused["spec"]["paused"] = True
    with pytest.raises(
        pulumi.RunError, match="registry in the namespace team is paused.*rollout resume deployment/reg"
    ):
        wait_for(Answers(paused), "1h")
    paused = deployment()
    paused["spec"]["paused"] = True
    assert wait_for(Answers(paused), "1h") == []


def test_a_controller_that_lets_the_pod_wait_after_refusals_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = deployment(ready=0)
    refused["status"]["conditions"] = [{"type": "ReplicaFailure", "status": "True"}]
    monkeypatch.setattr(waiting, "WAKE", 0.05)
    answers = Answers(refused)
    wait_for(answers, "1m")
    assert answers.woken == [("deployments", "team", "registry")]


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (LookupError("not found"), "is not there"),
        ({**deployment(), "spec": {"replicas": 0}, "status": {"observedGeneration": 2}}, "has 0 replicas"),
    ],
)
def test_what_somebody_has_changed_by_hand_is_not_waited_for(found: Object | Exception, what: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        wait_for(Answers(found), "1h")
    assert str(caught.value).startswith(f"The Deployment registry in the namespace team {what}, and the stack's state")
    assert str(caught.value).endswith("pulumi up --refresh")


def test_a_value_is_known_after_what_it_waits_for() -> None:
    async def run() -> tuple[list[str], str]:
        order: list[str] = []
        gate = asyncio.get_running_loop().create_future()

        async def ready() -> str:
            await gate
            order.append("ready")
            return "ready"

        value = after("value", pulumi.Output.from_input(ready()))
        value.apply(lambda _: order.append("known"))
        asyncio.get_running_loop().call_later(0.05, gate.set_result, None)
        known = await value.future()
        await asyncio.sleep(0)
        return order, str(known)

    order, known = asyncio.run(run())
    assert (order[0], known) == ("ready", "value")


LIMIT = {
    "metadata": {"name": "registry-1"},
    "status": {
        "containerStatuses": [
            {
                "name": "nginx",
                "image": "docker.io/library/nginx:1",
                "state": {"waiting": {"reason": "ErrImagePull", "message": "429 Too Many Requests"}},
            }
        ]
    },
}


class Lists:
    """A cluster that answers each path's last part with these objects, or with an error."""

    def __init__(self, **answers: list[Object] | Exception) -> None:
        self._answers = answers

    def ask(self, path: str, **_: str) -> str:
        answer = self._answers[path.rpartition("/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return json.dumps({"items": answer})


def test_a_pod_that_is_not_ready_is_told_with_the_clusters_words_and_the_fix() -> None:
    told = why_not_ready(cast(Cluster, Lists(pods=[LIMIT], events=[])), "ns", "registry")
    assert told.startswith("ErrImagePull: 429 Too Many Requests; docker.io limits how often it is pulled from")


class Crashing(Lists):
    """The same with a registry that crashes, and its log, or an error in its place."""

    def __init__(self, log: str | Exception) -> None:
        waits = {"name": "registry", "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}
        metadata = {"name": "registry-1", "namespace": "ns"}
        super().__init__(pods=[{"metadata": metadata, "status": {"containerStatuses": [waits]}}], events=[])
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._log = log

    def ask(self, path: str, **query: str) -> str:
        if not path.endswith("/log"):
            return super().ask(path, **query)
        self.asked.append((path, query))
        if isinstance(self._log, Exception):
            raise self._log
        return self._log


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("level=info\npanic: invalid region provided: x\n\ngoroutine 1:\n", "panic: invalid region provided: x; "),
        (PermissionError("no"), "CrashLoopBackOff: back-off 40s; "),
        (ConnectionError("no"), "CrashLoopBackOff: back-off 40s; "),
        (LookupError("no"), "CrashLoopBackOff: back-off 40s; "),
    ],
)
def test_a_registry_that_crashes_is_told_with_its_log(log: str | Exception, told: str) -> None:
    cluster = Crashing(log)
    sentence = why_not_ready(cast(Cluster, cluster), "ns", "registry")
    assert sentence.startswith(f"the container registry ends as soon as it starts: {told}its log")
    assert sentence.endswith("kubectl logs -n ns registry-1 -c registry --previous")
    query = {"container": "registry", "previous": "true", "tailLines": "200"}
    assert cluster.asked == [("/api/v1/namespaces/ns/pods/registry-1/log", query)]


def test_a_pod_that_ends_says_nothing_of_the_one_that_is_waited_for() -> None:
    ends = {**LIMIT, "metadata": {"name": "registry-0", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert why_not_ready(cast(Cluster, Lists(pods=[ends], events=[])), "ns", "registry") == ""


@pytest.mark.parametrize("error", [PermissionError("no"), ConnectionError("gone"), LookupError("none")])
def test_of_a_pod_that_cannot_be_read_nothing_is_told(error: Exception) -> None:
    assert why_not_ready(cast(Cluster, Lists(pods=error)), "ns", "registry") == ""


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.filterwarnings("error")
def test_a_value_without_its_resources_is_known_and_secret_as_it_was(known: bool, secret: bool) -> None:
    async def look() -> tuple[set[pulumi.Resource], object, bool, bool]:
        def later(value: Any) -> Any:
            found = asyncio.get_running_loop().create_future()
            found.set_result(value)
            return found

        resources = {cast(pulumi.Resource, object())}
        found = unordered(pulumi.Output(resources, later("value"), later(known), later(secret)))
        return await found.resources(), await found.future(), await found.is_known(), await found.is_secret()

    assert asyncio.run(look()) == (set(), "value", known, secret)


@pytest.mark.filterwarnings("error")
def test_a_value_without_its_resources_fails_as_it_does_with_them() -> None:
    async def look() -> None:
        def refuse(_: object) -> None:
            raise pulumi.RunError("denied by y.")

        await unordered(pulumi.Output.from_input(1).apply(refuse)).future()

    with pytest.raises(pulumi.RunError, match="denied by y"):
        asyncio.run(look())
