"""What the doctor says of a node whose agent does not run or cannot be asked."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.trust.doctor.objects_of_a_cluster import agent_pod, event, node, verdict, waiting
from trust.agent.faults import Reason
from trust.agent.outcome import Outcome
from trust.agent.proxies import entry_for
from trust.doctor.facts import Facts, Json
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


@pytest.mark.parametrize(
    ("joined", "since", "removed"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z", False),
        ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z", True),
        ("", "", True),
    ],
)
def test_a_node_that_has_never_been_ready_for_long_is_not_to_be_removed(
    healthy: Facts, joined: str, since: str, removed: bool
) -> None:
    down = node(ready="False")
    down["metadata"]["creationTimestamp"] = joined
    down["status"]["conditions"][0]["lastTransitionTime"] = since
    assert ("kubectl delete node" in verdict(replace(healthy, nodes=[down])).sentence) == removed
    down["status"]["conditions"] = []
    assert "kubectl delete node" not in verdict(replace(healthy, nodes=[down])).sentence


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


def proof_alone(message: str = "", reason: str = "ErrImagePull") -> Json:
    """A pod where somebody else makes the node trust the CA; with a message, its pull fails."""
    pod = agent_pod(proof=waiting(reason, message) if message or reason != "ErrImagePull" else None)
    del pod["spec"]["initContainers"], pod["status"]["initContainerStatuses"]
    return pod


def of_proof_alone(healthy: Facts, *pods: Json, **changes: Any) -> Verdict:
    return verdict(replace(healthy, probes={}, pods=list(pods), **changes))


def test_a_node_that_somebody_else_set_up_is_proved_by_the_proof_alone(healthy: Facts) -> None:
    assert of_proof_alone(healthy, proof_alone()).code == Code.PROVED
    assert of_proof_alone(healthy, proof_alone(reason="ContainerCreating")).code == Code.STARTING


AHEAD = "x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is before 2026-01-02"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", Code.NOT_TRUSTED),
        (
            "x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is after 2025-12-31",
            Reason.CERTIFICATE_MISMATCH,
        ),
        (AHEAD, Reason.CERTIFICATE_MISMATCH),
        ("x509: certificate is valid for a.example.com, not b.example.com", Reason.CERTIFICATE_MISMATCH),
        ("dial tcp: lookup registry.example.com on 10.0.0.2:53: no such host", Reason.NAME_NOT_RESOLVED),
        ("dial tcp 10.0.0.3:443: i/o timeout", Reason.NO_CONNECTION),
        ("proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused", Reason.PROXY_IN_THE_WAY),
        ("proxyconnect tcp: dial tcp: lookup proxy.test: no such host", Reason.PROXY_IN_THE_WAY),
        ("401 Unauthorized", Code.PULL_FAILED),
    ],
)
@pytest.mark.parametrize("backing_off", [False, True])
def test_without_an_agent_the_kubelets_words_tell_what_is_wrong(
    healthy: Facts, words: str, code: str, backing_off: bool
) -> None:
    pod, events = proof_alone(f"failed to pull and unpack image: {words}"), list(healthy.events)
    if backing_off:  # an older kubelet gives the reason in an event only
        pod = proof_alone("Back-off pulling image", "ImagePullBackOff")
        pod["status"]["containerStatuses"][0]["image"] = "h/proof"
        events = [event("Pod", "trust-1", "Failed", f'Failed to pull image "h/proof": {words}')]
    found = of_proof_alone(healthy, pod, events=events)
    assert (found.code, words in found.sentence) == (code, True)
    assert ("the clocks differ" in found.sentence) == (words == AHEAD)
    if code == Code.NOT_TRUSTED:
        assert "python3 -m registry.clients --node NAME" in found.sentence
        assert "kubectl -n ns delete pod trust-1" in found.sentence
        assert "Node node-a does not pull" in found.sentence
    if code == Reason.PROXY_IN_THE_WAY:
        assert f"add {entry_for(healthy.declared.host)} to NO_PROXY there, and restart it." in found.sentence


def test_a_node_that_cannot_reach_the_registry_that_runs_on_it_is_told_of_hairpins(healthy: Facts) -> None:
    home = {"metadata": {"name": "registry-0", "labels": {"app.kubernetes.io/name": "registry"}}, "status": {}}
    failing = proof_alone("dial tcp 10.0.0.3:443: i/o timeout")
    here = of_proof_alone(healthy, failing, {**home, "spec": {"nodeName": "node-a"}})
    assert here.code == Reason.NO_CONNECTION
    assert "aws-load-balancer-nlb-target-type" in here.sentence
    elsewhere = of_proof_alone(healthy, failing, {**home, "spec": {"nodeName": "node-b"}})
    assert "hairpin" not in elsewhere.sentence


def test_the_pod_that_is_refused_without_an_agent_is_the_proofs(healthy: Facts) -> None:
    assert healthy.daemon_set
    template = {"spec": {"containers": [{"name": "proof"}]}}
    refused = [event("DaemonSet", "trust", "FailedCreate", "denied by y")]
    spec = {**healthy.daemon_set["spec"], "template": template}
    found = of_proof_alone(healthy, events=refused, daemon_set={**healthy.daemon_set, "spec": spec})
    assert "refuses the proof's pod" in found.sentence
