"""The wait for the nodes says how far it is, who is missing and why, and ends well or with a sentence per node."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.unit.trust.doctor.objects_of_a_cluster import agent_pod, event, node, waiting
from trust import listening, proving
from trust.doctor.facts import Declared, Facts, Json
from trust.doctor.judge import of_each_node
from trust.doctor.verdict import BrokenLink, Verdict
from trust.proving import Narrator, Progress, Unproved, progress, prove

DAEMON_SET: Json = {
    "metadata": {"name": "trust", "generation": 1},
    "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}}},
    "status": {"observedGeneration": 1, "desiredNumberScheduled": 3},
}
REFUSED = Verdict("POD_REFUSED", BrokenLink.POLICY, "denied by y.")
STARTING = Verdict("STARTING", BrokenLink.AGENT, "It starts.")


def seen(
    *nodes: Json, pods: tuple[Json, ...] = (), daemon_set: Json = DAEMON_SET, revisions: Sequence[Json] = ()
) -> Progress:
    return progress(
        Facts(
            declared=Declared(stack="", namespace="ns"),
            nodes=list(nodes),
            namespace={},
            daemon_set=daemon_set,
            revisions=list(revisions),
            pods=list(pods),
        )
    )


def test_a_node_that_is_down_is_not_waited_for() -> None:
    found = seen(node("node-a"), node("node-b", ready="Unknown"), pods=(agent_pod(on="node-a"),))
    assert found.done
    assert found.proved == {"node-a"}
    assert "node-b" in found.away["node-b"]


def test_where_every_node_is_down_nothing_is_proved() -> None:
    assert not seen(node("node-a", ready="Unknown")).done
    assert not seen().done


@pytest.mark.parametrize(
    "label", [("eks.amazonaws.com/compute-type", "fargate"), ("type", "virtual-kubelet"), ("type", "kwok"),
              ("liqo.io/type", "virtual-node")],
)  # fmt: skip
def test_a_virtual_node_a_cordoned_one_and_windows_are_not_waited_for(label: tuple[str, str]) -> None:
    fake = node("fake")
    fake["metadata"]["labels"] = {"kubernetes.io/os": "linux", **dict([label])}
    found = seen(
        node("node-a"), fake, node("cordoned", unschedulable=True), node("w", os="windows"),
        pods=(agent_pod(on="node-a"),),
    )  # fmt: skip
    assert found == Progress(proved=frozenset({"node-a"}))


def test_a_pod_of_the_version_before_proves_nothing() -> None:
    second = {**DAEMON_SET, "metadata": {"annotations": {"deprecated.daemonset.template.generation": "2"}}}
    labels = {"app.kubernetes.io/name": "trust", "pod-template-generation": "1"}
    assert seen(node(), pods=(agent_pod(labels=labels),), daemon_set=second).missing["node-a"].code == "NO_POD"
    labels = {**labels, "pod-template-generation": "2"}
    assert seen(node(), pods=(agent_pod(labels=labels),), daemon_set=second).done


def test_a_pod_of_an_earlier_version_counts_again_when_the_version_is_changed_back() -> None:
    def revision(number: int, version: str) -> Json:
        return {"revision": number, "metadata": {"labels": {"controller-revision-hash": version}}}

    labels = {"app.kubernetes.io/name": "trust", "pod-template-generation": "1", "controller-revision-hash": "good"}
    third = {"generation": 3, "annotations": {"deprecated.daemonset.template.generation": "3"}}
    back = {**DAEMON_SET, "metadata": third, "status": {"observedGeneration": 3}}
    not_seen = {**back, "status": {"observedGeneration": 2}}
    before, changed_back = [revision(1, "good"), revision(2, "bad")], [revision(3, "good"), revision(2, "bad")]
    pods = (agent_pod(labels=labels),)
    assert seen(node(), pods=pods, daemon_set=back, revisions=changed_back).done
    for daemon_set, revisions in ((back, before), (not_seen, changed_back), (back, [])):
        assert not seen(node(), pods=pods, daemon_set=daemon_set, revisions=revisions).done


def test_a_pod_that_is_about_to_go_proves_nothing() -> None:
    assert not seen(node(), pods=(agent_pod(deletionTimestamp="2026-01-01T00:00:00Z"),)).done


class Counted(dict[str, Any]):
    """An object that counts how often somebody looks at its metadata."""

    looks = 0

    def __getitem__(self, key: str) -> Any:
        type(self).looks += key == "metadata"
        return super().__getitem__(key)


def test_the_work_of_a_look_grows_with_the_number_of_nodes_and_not_with_its_square() -> None:
    count = 200
    nodes = [node(f"n{each}") for each in range(count)]
    pods = [Counted(agent_pod(f"t{each}", f"n{each}", proof=waiting("PodInitializing"))) for each in range(count)]
    Counted.looks = 0
    assert len(seen(*nodes, pods=tuple(pods)).missing) == count
    assert Counted.looks < 20 * count


def test_of_all_warnings_a_node_gets_those_of_its_pod_and_of_the_daemon_set() -> None:
    pods = [agent_pod("t1", "node-a", proof=waiting("CreateContainerError")), agent_pod("t2", "node-b")]
    events = [event("Pod", "t2", "Failed", "of t2"), event("DaemonSet", "trust", "FailedCreate", "no more pods")]
    facts = Facts(declared=Declared(stack=""), nodes=[], pods=pods, events=events)
    of_node = of_each_node(facts)
    found = {name: of_node(node(name)) for name in ("node-a", "node-b", "node-c")}
    assert {name: pod and pod["metadata"]["name"] for name, (pod, _) in found.items()} == {
        "node-a": "t1",
        "node-b": "t2",
        "node-c": None,
    }
    said = {name: [each["message"] for each in about.events] for name, (_, about) in found.items()}
    assert said == {"node-a": ["no more pods"], "node-b": ["no more pods", "of t2"], "node-c": ["no more pods"]}


# What is said


@dataclass
class Told:
    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    narrator: Narrator = field(init=False)

    def __post_init__(self) -> None:
        self.narrator = Narrator(self.said.append, self.warned.append, 0)


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_line_is_said_as_each_node_is_proved(told: Told) -> None:
    told.narrator.tell(Progress(missing={"node-a": STARTING, "node-b": STARTING, "node-c": STARTING}), 1)
    told.narrator.tell(Progress(proved=frozenset({"node-a"}), missing={"node-b": STARTING, "node-c": STARTING}), 2)
    told.narrator.tell(Progress(proved=frozenset({"node-a", "node-b"}), missing={"node-c": STARTING}), 3)
    told.narrator.tell(Progress(proved=frozenset({"node-a", "node-b", "node-c"})), 4)
    assert told.said == ["node-a: proved, 1 of 3", "node-b: proved, 2 of 3", "node-c: proved, 3 of 3"]
    assert not told.warned


def test_a_node_that_the_proof_cannot_run_on_is_warned_of_once_and_not_waited_for(told: Told) -> None:
    other = node("node-b")
    other["metadata"]["labels"]["kubernetes.io/arch"] = "s390x"
    found = seen(node("node-a"), other, pods=(agent_pod(on="node-a"),))
    assert found.done
    assert found.proved == {"node-a"}
    for second in range(3):
        told.narrator.tell(found, second)
    [warning] = told.warned
    assert warning.startswith("Node node-b is a machine of the architecture s390x")
    assert told.said == ["node-a: proved, 1 of 1"]


def test_who_is_missing_is_said_at_once_when_the_reason_changes_and_else_once_a_minute(told: Told) -> None:
    for second in range(130):
        verdict = Verdict("NO_TLS", BrokenLink.NETWORK, "No TLS.") if 20 <= second < 40 else REFUSED
        told.narrator.tell(Progress(missing={"node-a": verdict}), second)
    refused, no_tls = (
        f"Waiting for 1 of 1 nodes:\n  node-a: {words}" for words in ("POD_REFUSED, denied by y.", "NO_TLS, No TLS.")
    )
    assert told.said == [refused, no_tls, refused, refused]


def test_who_only_starts_is_said_after_ten_seconds_and_then_once_a_minute(told: Told) -> None:
    for second in range(75):
        told.narrator.tell(Progress(missing={"node-a": STARTING}), second)
        assert len(told.said) == (second >= 10) + (second >= 70)


@pytest.mark.parametrize("code", ["NO_REGISTRY", "NO_CONNECTION", "NO_TLS", "CERTIFICATE_MISMATCH", "PROXY_IN_THE_WAY"])
def test_a_registry_that_an_agent_has_not_reached_yet_is_no_fault_for_a_moment(told: Told, code: str) -> None:
    unreached = Progress(missing={"node-a": Verdict(code, BrokenLink.NETWORK, "HTTP 503.")})
    for moment in (0, 3, 7):
        told.narrator.tell(unreached, moment)
    assert not told.said
    told.narrator.tell(Progress(missing={"node-a": Verdict("READ_ONLY", BrokenLink.FILES, "Read-only.")}), 7)
    told.narrator.tell(unreached, 8)
    both = ("READ_ONLY, Read-only.", f"{code}, HTTP 503.")
    assert told.said == [f"Waiting for 1 of 1 nodes:\n  node-a: {words}" for words in both]


def test_a_node_that_is_down_is_warned_of_once_also_when_it_comes_and_goes(told: Told) -> None:
    down = Progress(away={"node-b": "The kubelet of node node-b is not Ready."})
    for found in (down, down, Progress(proved=frozenset({"node-b"})), down):
        told.narrator.tell(found, 0)
    [warning] = told.warned
    assert warning.startswith("The kubelet of node node-b is not Ready.")


@pytest.mark.parametrize("kind", ["away", "left_out"])
def test_many_nodes_that_are_not_waited_for_are_one_warning_and_those_that_follow_another(
    told: Told, kind: str
) -> None:
    sentences = {f"n{each:03}": f"Node n{each:03} is not." for each in range(301)}
    for count in (300, 300, 0, 5, 301):
        told.narrator.tell(replace(Progress(), **{kind: dict(list(sentences.items())[:count])}), 0)
    many, one = told.warned
    assert many.splitlines()[9:11] == ["  Node n009 is not.", "  and 290 more nodes"]
    assert one.splitlines()[0] == "Node n300 is not."


def test_where_every_one_of_many_nodes_is_down_the_first_ones_are_named_at_the_end(told: Told) -> None:
    down = [node(f"n{each:03}", ready="Unknown") for each in range(300)]
    assert len(message(Script([{"nodes": down}]), told).splitlines()) == 12


def test_of_many_nodes_the_first_ones_are_named(told: Told) -> None:
    told.narrator.tell(Progress(missing={f"n{i}": REFUSED for i in range(500)}), 0)
    assert told.said[0].startswith("Waiting for 500 of 500 nodes:")
    assert told.said[0].endswith("and 490 more nodes")
    assert len(told.said[0].splitlines()) == 12


# The wait


@dataclass
class Script:
    """An API that answers with one list of objects per look, the last one for ever."""

    looks: list[dict[str, Any]]
    forbidden: tuple[str, ...] = ()
    when_woken: dict[str, Any] = field(default_factory=dict[str, Any])
    """What comes once the controller has been woken."""
    asked: list[str] = field(default_factory=list[str])
    woken: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    def wake(self, workloads: str, namespace: str, name: str) -> None:
        self.woken.append((workloads, namespace, name))
        if self.when_woken:
            self.looks = [self.when_woken]

    def ask(self, path: str, **_: str) -> str:
        self.asked.append(path)
        kind = path.rpartition("/")[2]
        kind = {"trust": "daemonset"}.get(kind, kind)
        if kind == "daemonset" and len(self.looks) > 1:
            self.current = self.looks.pop(0)
        elif kind == "daemonset":
            self.current = self.looks[0]
        found = self.current
        if kind in self.forbidden:
            raise PermissionError(f"may not read {kind}")
        if isinstance(found.get(kind), Exception):
            raise found[kind]
        if kind == "daemonset":
            return json.dumps(found.get(kind, DAEMON_SET))
        if kind == "log" and isinstance(found.get(kind), dict):
            answer = found[kind][path.split("/")[-2]]
            if isinstance(answer, Exception):
                raise answer
            return answer
        return found.get(kind, "") if kind == "log" else json.dumps({"items": found.get(kind, [])})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_INTERVAL", 0.01)


def waited(script: Script, told: Told, timeout: str = "1s") -> None:
    asyncio.run(prove(script, "ns", "h.example.com", timeout, told.said.append, told.warned.append))


def message(script: Script, told: Told) -> str:
    with pytest.raises(Unproved) as caught:
        waited(script, told)
    return str(caught.value)


def test_an_unchanged_up_looks_once_and_says_one_line(told: Told) -> None:
    waited(Script([{"nodes": [node(), node("node-b")], "pods": [agent_pod(), agent_pod("t2", "node-b")]}]), told)
    assert told.said == ["node-a, node-b: proved, 2 of 2"]


def test_a_node_that_joins_meanwhile_is_waited_for(told: Told) -> None:
    waited(
        Script(
            [
                {"nodes": [node()], "pods": [agent_pod(proof=waiting("PodInitializing"))]},
                {"nodes": [node(), node("node-b")], "pods": [agent_pod()]},
                {"nodes": [node(), node("node-b")], "pods": [agent_pod(), agent_pod("t2", "node-b")]},
            ]
        ),
        told,
    )
    assert told.said == ["node-a: proved, 1 of 2", "node-b: proved, 2 of 2"]


def test_a_pod_that_only_the_controller_is_refused_is_said_at_once_and_at_the_end(told: Told) -> None:
    words = 'pods "trust-" is forbidden: not for controllers'
    refused = event("DaemonSet", "trust", "FailedCreate", words)
    told_at_the_end = message(Script([{"nodes": [node()]}, {"nodes": [node()], "events": [refused]}]), told)
    assert f"node-a: POD_REFUSED, The cluster refuses the agent's pod in the namespace ns: {words}." in told.said[0]
    assert "0 of 1 nodes have pulled from the registry within 1s (the setting readyTimeout)" in told_at_the_end
    assert words in told_at_the_end


def test_a_controller_that_lets_the_pods_wait_after_refusals_is_woken(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = event("DaemonSet", "trust", "FailedCreate", 'pods "trust-" is forbidden')
    monkeypatch.setattr(proving, "WAKE", 0.05)
    script = Script([{"nodes": [node()], "events": [refused]}], when_woken={"nodes": [node()], "pods": [agent_pod()]})
    waited(script, told, "1m")
    assert script.woken == [("daemonsets", "ns", "trust")]
    assert told.said[-1] == "node-a: proved, 1 of 1"


def test_a_controller_whose_pods_are_there_is_left_alone(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "WAKE", 0.0)
    script = Script([{"nodes": [node()], "pods": [agent_pod(proof=waiting("PodInitializing"))]}])
    message(script, told)
    assert script.woken == []


def test_what_an_earlier_up_ran_into_is_not_said_at_first(told: Told) -> None:
    refused = {**event("DaemonSet", "trust", "FailedCreate", "old"), "metadata": {"resourceVersion": "7"}}
    waited(
        Script(
            [{"nodes": [node()], "events": [refused]}, {"nodes": [node()], "events": [refused], "pods": [agent_pod()]}]
        ),
        told,
    )
    assert told.said == ["node-a: proved, 1 of 1"]


def test_the_reason_is_the_agents_own_from_its_log(told: Told) -> None:
    pod = agent_pod(agent={"started": False}, proof=waiting("PodInitializing"))
    said = json.dumps({"reason": "NAME_NOT_RESOLVED", "sentence": "DNS says no.", "details": {}})
    assert "node-a: NAME_NOT_RESOLVED, DNS says no." in message(
        Script([{"nodes": [node()], "pods": [pod], "log": f"noise\n{said}\n"}]), told
    )


@pytest.mark.parametrize("error", [ConnectionError("no route to host"), LookupError("gone")])
def test_a_log_that_cannot_be_had_does_not_hide_the_reasons_of_other_nodes(told: Told, error: Exception) -> None:
    nodes = [node(f"node-{each}", ready="Unknown" if each == "c" else "True") for each in "abc"]
    starting = {"agent": {"started": False}, "proof": waiting("PodInitializing")}
    pods = [agent_pod(f"trust-{each}", f"node-{each}", **starting) for each in "cab"]
    said = json.dumps({"reason": "INLINE_MIRRORS", "sentence": "Mirrors are inline.", "details": {}})
    script = Script([{"nodes": nodes, "pods": pods, "log": {"trust-a": error, "trust-b": said}}])
    assert "node-b: INLINE_MIRRORS, Mirrors are inline." in message(script, told)
    assert not [path for path in script.asked if "trust-c/" in path], "the log of a node that is down"


def line(reason: str) -> str:
    """A line of an agent's log."""
    return json.dumps({"reason": reason, "sentence": f"It is {reason}.", "details": {}})


def test_a_ready_pod_whose_agent_has_found_a_fault_since_is_no_proof(told: Told) -> None:
    two = {"nodes": [node(), node("node-b")], "pods": [agent_pod(), agent_pod("t2", "node-b")]}
    log = {"trust-1": line("READY"), "t2": f"{line('READY')}\n{line('CONFIG_REVERTED')}"}
    script = Script([{**two, "log": log}])
    end = message(script, told)
    assert "1 of 2 nodes have pulled" in end
    assert "node-b: CONFIG_REVERTED, It is CONFIG_REVERTED." in end
    assert "node-b: CONFIG_REVERTED, It is CONFIG_REVERTED." in told.said[1]
    logs = [path for path in script.asked if path.endswith("/log")]
    assert len([path for path in logs if "/trust-1/" in path]) == 1
    assert len([path for path in logs if "/t2/" in path]) > 1


@pytest.mark.parametrize("reason", ["CONFIG_REVERTED", "NAME_NOT_RESOLVED"])
def test_a_fault_that_passes_is_waited_for(told: Told, reason: str) -> None:
    one = {"nodes": [node()], "pods": [agent_pod()]}
    again = f"{line(reason)}\nthe node stays configured\n{line('READY')}"
    waited(Script([{**one, "log": line(reason)}] * 2 + [{**one, "log": again}]), told)
    assert told.said == [
        f"Waiting for 1 of 1 nodes:\n  node-a: {reason}, It is {reason}.",
        "node-a: proved, 1 of 1",
    ]


@pytest.mark.parametrize("error", [ConnectionError("no route to host"), LookupError("gone")])
def test_a_ready_pod_whose_log_cannot_be_had_is_a_proof(told: Told, error: Exception) -> None:
    waited(Script([{"nodes": [node()], "pods": [agent_pod()], "log": {"trust-1": error}}]), told)
    assert told.said == ["node-a: proved, 1 of 1"]


def test_a_fault_holds_until_the_log_can_be_read_again(told: Told) -> None:
    one = {"nodes": [node()], "pods": [agent_pod()]}
    silent = {**one, "log": {"trust-1": ConnectionError("no route to host")}}
    assert "node-a: NO_TLS" in message(Script([{**one, "log": line("NO_TLS")}, silent]), told)


def test_kubelets_that_let_the_logs_wait_do_not_hold_up_the_end(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_LISTEN", -1.0)
    script = Script([{"nodes": [node()], "pods": [agent_pod()], "log": line("NO_TLS")}])
    waited(script, told)
    assert not [path for path in script.asked if path.endswith("/log")]


def test_each_node_that_is_named_has_its_agents_own_reason(told: Told) -> None:
    silent = {"agent": {"started": False}, "proof": waiting("PodInitializing")}
    nodes = [f"node-{n:02}" for n in range(12)]
    pods = [agent_pod(f"trust-{12 - n:02}", name, **silent) for n, name in enumerate(nodes)]
    pods.append(agent_pod("trust-00", "node-00", deletionTimestamp="2026-01-01T00:00:00Z", **silent))
    pods.sort(key=lambda pod: pod["metadata"]["name"])
    end = message(Script([{"nodes": list(map(node, nodes)), "pods": pods, "log": line("NO_TLS")}]), told)
    assert end.count("NO_TLS, It is NO_TLS.") == 10
    assert "and 2 more nodes" in end


def test_of_a_log_that_is_not_read_nothing_is_said(told: Told) -> None:
    pod = agent_pod(agent={"started": False}, proof=waiting("PodInitializing"))
    looked = {"nodes": [node()], "pods": [pod], "log": ""}
    assert "its log says no reason" in message(Script([looked]), told)
    assert "its log, which was not read, may say why" in message(Script([looked], ("log",)), told)


def test_a_user_who_may_read_neither_logs_nor_events_nor_nodes_still_gets_an_end(told: Told) -> None:
    forbidden = ("log", "events", "nodes")
    three = [agent_pod(f"t{n}", f"node-{n}") for n in "abc"]
    waited(Script([{"pods": three[:2]}, {"pods": three}], forbidden), told)
    assert told.said[-1] == "node-c: proved, 3 of 3"
    assert "a node whose name cannot be read" in message(Script([{"pods": three[:2]}], forbidden), told)


def test_a_user_who_may_not_list_nodes_does_not_wait_for_one_that_is_down(told: Told) -> None:
    down = agent_pod("t2", "node-b")
    down["status"]["conditions"] = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    two = {**DAEMON_SET, "status": {"observedGeneration": 1, "desiredNumberScheduled": 2}}
    waited(Script([{"pods": [agent_pod(), down], "daemonset": two}], ("nodes",)), told)
    assert told.said == ["node-a: proved, 1 of 1"]
    [warning] = told.warned
    assert warning.startswith("The kubelet of node node-b is not Ready (its pod was marked as not ready")
    own = agent_pod("t2", "node-b", proof=waiting("ErrImagePull", "no such host"))
    own["status"]["conditions"].append({"type": "ContainersReady", "status": "False"})
    end = message(Script([{"pods": [agent_pod(), own], "daemonset": two}], ("nodes",)), told)
    assert "node-b: PULL_FAILED" in end


def test_an_image_that_a_webhook_has_rewritten_is_named(told: Told) -> None:
    def with_image(image: str) -> Json:
        return {"initContainers": [], "containers": [{"name": "proof", "image": image}]}

    pod = agent_pod(proof=waiting("ErrImagePull", "no such host"))
    pod["spec"] |= with_image("mirror.test/private-registry/proof@sha256:1")
    daemon_set = {**DAEMON_SET, "spec": {"template": {"spec": with_image("h/private-registry/proof@sha256:1")}}}
    end = message(Script([{"nodes": [node()], "pods": [pod], "daemonset": daemon_set}]), told)
    assert "a webhook of the cluster has put mirror.test/private-registry/proof@sha256:1 in place" in end


def test_a_daemon_set_that_matches_no_node_is_an_error_at_once(told: Told) -> None:
    none = {**DAEMON_SET, "status": {"observedGeneration": 1, "desiredNumberScheduled": 0}}
    with pytest.raises(Unproved, match="matches no node, so no kubelet trusts the registry"):
        waited(Script([{"nodes": [node()], "daemonset": none}]), told, "1h")
    not_yet = {**none, "status": {"observedGeneration": 0, "desiredNumberScheduled": 0}}
    waited(Script([{"nodes": [node()], "daemonset": not_yet}, {"nodes": [node()], "pods": [agent_pod()]}]), told)


def test_a_daemon_set_that_somebody_has_deleted_is_not_waited_for(told: Told) -> None:
    with pytest.raises(Unproved, match="The DaemonSet trust in the namespace ns is not there, .* pulumi up --refresh$"):
        waited(Script([{"nodes": [node()], "daemonset": LookupError("not found")}]), told, "1h")
    assert not told.said


def test_an_api_that_does_not_answer_for_a_while_is_said_and_waited_for(told: Told) -> None:
    waited(Script([{"nodes": ConnectionError("no route")}] * 2 + [{"nodes": [node()], "pods": [agent_pod()]}]), told)
    assert told.said == ["The cluster does not say how far the nodes are: no route", "node-a: proved, 1 of 1"]
    assert "no route" in message(Script([{"nodes": ConnectionError("no route")}]), told)


def test_where_every_node_is_down_the_message_names_them(told: Told) -> None:
    assert "The kubelet of node node-a is not Ready" in message(Script([{"nodes": [node(ready="Unknown")]}]), told)


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        ("exceeded quota: pods, requested: pods=1", "Raise that quota in the namespace ns"),
        ("unable to validate against any security context constraint", "oc adm policy add-scc-to-user nonroot-v2"),
        ("image is not from an allowed registry", "this registry's own host"),
    ],
)
def test_a_refusal_is_followed_by_the_fix_that_fits(told: Told, words: str, fix: str) -> None:
    refused = event("DaemonSet", "trust", "FailedCreate", words)
    assert fix in message(Script([{"nodes": [node()]}, {"nodes": [node()], "events": [refused]}]), told)
