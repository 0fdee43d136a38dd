"""What the doctor says of a node whose agent does not run or cannot be asked."""

from dataclasses import replace

import pytest

from tests.unit.trust.doctor.objects_of_a_cluster import agent_pod, event, node, verdict, waiting
from trust.agent.faults import Reason
from trust.agent.outcome import Outcome
from trust.doctor.facts import Facts
from trust.doctor.judge import reported_fault
from trust.doctor.verdict import BrokenLink, Code, Verdict


def test_an_agents_image_that_cannot_be_pulled_names_the_setting(healthy: Facts) -> None:
    found = verdict(replace(healthy, probes={}, pods=[agent_pod(agent=waiting("ErrImagePull", "not found"))]))
    assert (found.code, found.link) == ("AGENT_NOT_RUNNING", BrokenLink.AGENT)
    assert "pythonImage" in found.sentence


def test_an_agent_that_ended_with_a_fault_is_quoted(healthy: Facts) -> None:
    ended = {"terminated": {"message": Outcome("READ_ONLY", "/etc cannot be written; mend it.").message() + "\n"}}
    pod = agent_pod(agent={**waiting("CrashLoopBackOff"), "lastState": ended})
    found = verdict(replace(healthy, probes={}, pods=[pod]))
    assert found == Verdict("READ_ONLY", BrokenLink.RUNTIME, "/etc cannot be written; mend it.")


def test_a_pod_that_is_stuck_is_explained_by_its_newest_event(healthy: Facts) -> None:
    pod = agent_pod(agent=waiting("PodInitializing"))
    events = [
        event("Pod", "trust-1", "FailedMount", "no such ConfigMap", "2026-01-01T00:00:02Z"),
        event("Pod", "trust-1", "FailedScheduling", "older", "2026-01-01T00:00:01Z"),
        event("Pod", "another", "FailedMount", "not ours", "2026-01-01T00:00:03Z"),
    ]
    found = verdict(replace(healthy, probes={}, pods=[pod], events=events))
    assert "FailedMount: no such ConfigMap" in found.sentence


def test_refused_pods_are_told_in_the_words_of_the_policy(healthy: Facts) -> None:
    events = [event("DaemonSet", "trust", "FailedCreate", 'pods "trust-" is forbidden: violates PodSecurity')]
    found = verdict(replace(healthy, pods=[], events=events))
    assert (found.code, found.link) == ("POD_REFUSED", BrokenLink.POLICY)
    assert "violates PodSecurity" in found.sentence


def test_a_refusal_of_the_past_is_not_told_of_a_node_that_has_its_pod(healthy: Facts) -> None:
    events = [event("DaemonSet", "trust", "FailedCreate", "forbidden")]
    assert verdict(replace(healthy, events=events)).code == Code.PROVED


def test_a_node_that_the_daemon_set_does_not_match_is_named_with_the_label(healthy: Facts) -> None:
    daemon_set = {
        "metadata": {"name": "trust"}, "spec": {"template": {"spec": {"nodeSelector": {"pool": "gpu"}}}}
    }  # fmt: skip
    found = verdict(replace(healthy, pods=[], daemon_set=daemon_set))
    assert found.code == "NO_MATCHING_NODE"
    assert "pool=gpu" in found.sentence


def test_a_node_without_a_pod_and_without_a_reason_is_named(healthy: Facts) -> None:
    assert verdict(replace(healthy, pods=[])).code == "NO_POD"


def test_the_younger_of_two_pods_counts_and_one_that_ends_does_not(healthy: Facts) -> None:
    old, new = agent_pod("trust-0"), agent_pod("trust-1", creationTimestamp="2026-01-02T00:00:00Z")
    ending = agent_pod("trust-2", creationTimestamp="2026-01-03T00:00:00Z", deletionTimestamp="2026-01-03T00:00:01Z")
    facts = replace(healthy, pods=[ending, old, new])
    assert verdict(facts).code == Code.PROVED


def test_a_pod_that_is_not_scheduled_yet_belongs_to_the_node_that_it_is_pinned_to(healthy: Facts) -> None:
    pod = agent_pod(agent=waiting("PodInitializing"))
    del pod["spec"]["nodeName"]
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-a"]}]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    pod["spec"]["affinity"] = {"nodeAffinity": required}
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]}
    found = verdict(replace(healthy, probes={}, pods=[pod]))
    assert found.code == "AGENT_NOT_RUNNING"
    assert "Insufficient cpu" in found.sentence


def test_a_kubelet_that_is_down_is_named_before_the_pod_that_it_had(healthy: Facts) -> None:
    found = verdict(replace(healthy, nodes=[node(ready="Unknown")]))
    assert (found.code, found.link) == ("NODE_NOT_READY", BrokenLink.NODE)


READY = Outcome("READY", "It is so.").line()
UNRESOLVED = Outcome(Reason.NAME_NOT_RESOLVED, "It is so.").line()
READ_ONLY = Outcome(Reason.READ_ONLY, "It is so.").line()


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("", Code.PROVED),
        (f"{READY}\n", Code.PROVED),
        (f"{UNRESOLVED}\n{READY}\n", Code.PROVED),
        (f"{READY}\n{UNRESOLVED}\n", "NAME_NOT_RESOLVED"),
        (f"{READY}\n{UNRESOLVED}\nthe node stays configured\n{READY}\n", Code.PROVED),
        (f"wrote /etc/x\n{READ_ONLY}\nwrote /etc/x\n", "READ_ONLY"),
    ],
)
def test_the_log_speaks_for_an_agent_that_cannot_be_asked(healthy: Facts, log: str, code: str) -> None:
    assert verdict(replace(healthy, probes={}, logs={"trust-1": log})).code == code


@pytest.mark.parametrize(
    "line", ["HTTP: no", '{"a": 1}', "{", "[1]", '{"reason": 1}', '{"reason": "X", "details": []}']
)
def test_a_log_line_that_only_looks_like_an_outcome_is_none(line: str) -> None:
    assert reported_fault(f"{line}\n") is None
