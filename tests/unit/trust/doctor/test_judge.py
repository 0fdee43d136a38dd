"""The doctor names the first broken link, and only that one."""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from trust.agent import certificates, connect
from trust.agent.faults import Fault, Reason
from trust.agent.outcome import Outcome
from trust.doctor.__main__ import lines
from trust.doctor.facts import Declared, Facts, Json, Probe
from trust.doctor.judge import all_proved, judge, reported_fault
from trust.doctor.read import declaration
from trust.doctor.stack import shared_fault
from trust.doctor.verdict import BrokenLink, Code, Verdict, link_of

HOST = "registry-pr-42-r.192-0-2-1.nip.io"
FILE = f"/etc/containerd/certs.d/{HOST}/private-registry.ns.crt"


def certificate(folder: Path, name: str, host: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{host}", "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder: Path) -> str:
    return certificate(folder, "ca")[0].read_text()


@pytest.fixture(scope="module")
def other_ca(folder: Path) -> str:
    return certificate(folder, "other")[0].read_text()


def node(name: str = "node-a", *, ready: str = "True", os: str = "linux", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/os": os}},
        "spec": spec,
        "status": {
            "nodeInfo": {"containerRuntimeVersion": "containerd://1.7.24"},
            "conditions": [{"type": "Ready", "status": ready, "message": "Kubelet stopped posting node status."}],
        },
    }


def agent_pod(
    name: str = "trust-1", on: str = "node-a", *, agent: Json | None = None, proof: Json | None = None, **metadata: Any
) -> Json:
    ready = proof is None and agent is None
    return {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": "trust"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
            **metadata,
        },
        "spec": {"nodeName": on, "initContainers": [{"name": "agent", "image": "python:3"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "initContainerStatuses": [{"name": "agent", "state": {"running": {}}, **(agent or {})}],
            "containerStatuses": [{"name": "proof", "state": {"running": {}}, **(proof or {})}],
        },
    }


def waiting(reason: str, message: str = "") -> Json:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def event(kind: str, name: str, reason: str, message: str, at: str = "2026-01-01T00:00:00Z") -> Json:
    involved = {"kind": kind, "name": name}
    return {"metadata": {}, "involvedObject": involved, "reason": reason, "message": message, "lastTimestamp": at}


@pytest.fixture
def probe(ca: str) -> Probe:
    """A node with nothing wrong."""
    prints = list(certificates.fingerprints(ca))
    status = {
        "reason": "READY",
        "sentence": "",
        "runtime": "containerd",
        "version": "v1.7.24",
        "roots": [f"/etc/containerd/certs.d/{HOST}"],
        "ca": prints,
    }
    return Probe(process="S", status=status, files={FILE: True}, ca=prints, connection=None)


@pytest.fixture
def healthy(ca: str, probe: Probe) -> Facts:
    """One node, all proved."""
    return Facts(
        declared=Declared(stack="pr-42", namespace="ns", host=HOST, ca=ca),
        nodes=[node()],
        namespace={},
        deployment={"metadata": {"name": "registry"}, "spec": {"replicas": 1}, "status": {"readyReplicas": 1}},
        daemon_set={
            "metadata": {"name": "trust"},
            "spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}}}},
        },
        config_map={"metadata": {"name": "private-registry"}, "data": {"host": HOST, "ca.crt": ca}},
        entrances=[{"metadata": {"name": "ingress"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}],
        pods=[agent_pod()],
        probes={"trust-1": probe},
    )


def verdict(facts: Facts) -> Verdict:
    """The verdict on the only node."""
    shared, [report] = judge(facts)
    assert all_proved(shared, [report]) == (report.verdict.code == Code.PROVED)
    return shared or report.verdict


def probed(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, probes={"trust-1": replace(facts.probes["trust-1"], **changes)})


def faulty(facts: Facts, reason: str, sentence: str = "It is so; mend it.") -> Facts:
    status = {**facts.probes["trust-1"].status, "reason": reason, "sentence": sentence}
    return probed(facts, status=status)


def test_a_healthy_node_is_proved_and_told_in_one_line(healthy: Facts) -> None:
    shared, reports = judge(healthy)
    assert lines(reports, shared, "pr-42", "") == [
        "Stack pr-42", "node-a  containerd 1.7.24  /etc/containerd/certs.d  proved",
    ]  # fmt: skip
    assert all_proved(shared, reports)


def test_what_only_this_machine_lacks_is_the_last_line(healthy: Facts) -> None:
    shared, reports = judge(healthy)
    assert lines(reports, shared, "pr-42", "DNS says no.")[-1] == "From this machine: DNS says no."


def test_a_cluster_without_linux_nodes_is_not_proved(healthy: Facts) -> None:
    facts = replace(healthy, nodes=[node(os="windows")])
    shared, [report] = judge(facts)
    assert (report.verdict.code, report.counted) == ("NOT_LINUX", False)
    assert not all_proved(shared, [report])


def test_a_cordoned_node_is_reported_and_not_counted(healthy: Facts) -> None:
    facts = replace(healthy, nodes=[node(), node("node-b", unschedulable=True)])
    shared, reports = judge(facts)
    assert [report.counted for report in reports] == [True, False]
    assert all_proved(shared, reports)
    assert lines(reports, shared, "pr-42", "")[2].endswith("(not counted)")


@pytest.mark.parametrize(
    ("reason", "link"),
    [
        (Reason.CA_INVALID, BrokenLink.CONFIG_MAP),
        (Reason.NAME_NOT_RESOLVED, BrokenLink.DNS),
        (Reason.NO_CONNECTION, BrokenLink.NETWORK),
        (Reason.NO_TLS, BrokenLink.NETWORK),
        (Reason.NO_REGISTRY, BrokenLink.REGISTRY),
        (Reason.CERTIFICATE_MISMATCH, BrokenLink.CERTIFICATE),
        (Reason.RUNTIME_UNKNOWN, BrokenLink.RUNTIME),
        (Reason.READ_ONLY, BrokenLink.RUNTIME),
        (Reason.CONFIG_INVALID, BrokenLink.CONFIG),
        (Reason.INLINE_MIRRORS, BrokenLink.CONFIG),
        (Reason.FOREIGN_HOSTS_TOML, BrokenLink.CONFIG),
        (Reason.SYMLINK_LEAVES_TREE, BrokenLink.CONFIG),
        (Reason.RESTART_NOT_ALLOWED, BrokenLink.RESTART),
        (Reason.RESTART_FAILED, BrokenLink.RESTART),
        (Reason.CONFIG_REVERTED, BrokenLink.RESTART),
        ("SOMETHING_NEWER", BrokenLink.AGENT),
    ],
)
def test_each_reason_of_the_agent_is_handed_on_with_its_link(healthy: Facts, reason: str, link: BrokenLink) -> None:
    assert verdict(faulty(healthy, reason)) == Verdict(reason, link, "It is so; mend it.")


def test_every_reason_of_the_agent_has_a_link() -> None:
    assert all(link_of(reason) != BrokenLink.AGENT for reason in Reason)


# What keeps a node from the registry


class Answer(BaseHTTPRequestHandler):
    """Answers everything with 503."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def unavailable(folder: Path) -> Iterator[int]:
    """Port of a server on localhost that answers 503 over TLS."""
    server = HTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(folder, "server"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def unreachable(host: str, ca: str) -> BrokenLink:
    with pytest.raises(Fault) as caught:
        connect.check(host, ca, "node node-a")
    return link_of(caught.value.reason)


def test_a_name_without_address_is_dns(ca: str) -> None:
    assert unreachable("no-such-name.invalid", ca) == BrokenLink.DNS


def test_a_port_that_nobody_serves_is_the_network(ca: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert unreachable(f"localhost:{port}", ca) == BrokenLink.NETWORK


def test_an_answer_other_than_a_registrys_is_the_registry(folder: Path, unavailable: int) -> None:
    assert unreachable(f"localhost:{unavailable}", (folder / "server.crt").read_text()) == BrokenLink.REGISTRY


def test_what_the_node_meets_now_goes_before_what_the_agent_saw(healthy: Facts) -> None:
    facts = probed(healthy, connection={"reason": "NO_CONNECTION", "sentence": "No route; mend it.", "details": {}})
    assert verdict(facts) == Verdict("NO_CONNECTION", BrokenLink.NETWORK, "No route; mend it.")


@pytest.mark.parametrize(
    ("served", "stored", "words"),
    [
        ("s" * 64, "s" * 64, "run pulumi up --refresh --stack pr-42"),
        ("s" * 64, "t" * 64, "Ingress controller"),
        ("", "", "Said by the agent; mend it."),
    ],
)
def test_a_certificate_is_told_with_whose_fault_it_is(healthy: Facts, served: str, stored: str, words: str) -> None:
    details = {"host": HOST, "port": 443, "served": "5e" * 32, "trusted": ["ca" * 32], "error": "expired"}
    found = {"reason": "CERTIFICATE_MISMATCH", "sentence": "Said by the agent; mend it.", "details": details}
    facts = probed(healthy, connection=found)
    found = verdict(replace(facts, served=served, stored=stored))
    assert (found.code, found.link) == ("CERTIFICATE_MISMATCH", BrokenLink.CERTIFICATE)
    assert words in found.sentence
    if served:
        what = connect.mismatch(f"{HOST}:443", "5e" * 32, ["ca" * 32], "expired")
        assert found.sentence.startswith(f"{what}; ")


@pytest.mark.parametrize("state", ["T", "t", "Z", ""])
def test_a_stopped_agent_is_named_before_the_files_that_it_does_not_put_back(healthy: Facts, state: str) -> None:
    found = verdict(probed(healthy, process=state, files={FILE: False}))
    assert (found.code, found.link) == ("AGENT_STOPPED", BrokenLink.AGENT)
    assert FILE in found.sentence
    assert "delete pod trust-1" in found.sentence


def test_files_that_are_gone_although_the_agent_runs_are_named(healthy: Facts) -> None:
    found = verdict(probed(healthy, files={FILE: False}))
    assert (found.code, found.link) == ("CA_FILE_LOST", BrokenLink.FILES)


def test_a_node_that_still_has_the_ca_of_before_a_rotation_is_named(healthy: Facts, ca: str, other_ca: str) -> None:
    rotated = {"metadata": {"name": "private-registry"}, "data": {"host": HOST, "ca.crt": other_ca}}
    facts = replace(healthy, config_map=rotated, declared=replace(healthy.declared, ca=other_ca))
    found = verdict(facts)
    assert (found.code, found.link) == ("CA_OLD", BrokenLink.FILES)


def test_an_agent_without_a_status_has_just_started(healthy: Facts) -> None:
    assert verdict(probed(healthy, status={})).code == "STARTING"


def test_a_pull_that_fails_although_the_agent_is_content_is_named(healthy: Facts) -> None:
    pod = agent_pod(proof=waiting("ImagePullBackOff", "x509: certificate signed by unknown authority"))
    found = verdict(replace(healthy, pods=[pod]))
    assert (found.code, found.link) == ("PULL_FAILED", BrokenLink.PULL)
    assert "x509" in found.sentence


def test_a_proof_that_is_being_pulled_is_no_failure_yet(healthy: Facts) -> None:
    found = verdict(replace(healthy, pods=[agent_pod(proof=waiting("PodInitializing"))]))
    assert (found.code, found.link) == ("STARTING", BrokenLink.PULL)


# Pods


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


# Agents that cannot be asked


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


# What all nodes share


def test_a_shared_fault_is_told_once_and_every_node_bears_its_code(healthy: Facts) -> None:
    facts = replace(healthy, nodes=[node("node-a"), node("node-b")], config_map=None)
    shared, reports = judge(facts)
    printed = lines(reports, shared, "pr-42", "")
    assert sum("is not there" in line for line in printed) == 1
    assert [report.verdict.code for report in reports] == ["CONFIG_MAP_MISSING"] * 2
    assert not all_proved(shared, reports)


def shared(facts: Facts) -> tuple[str, str]:
    found = shared_fault(facts)
    assert found
    assert found.sentence.endswith(".")
    return found.code, found.link


def test_the_first_broken_link_of_the_chain_is_named(healthy: Facts) -> None:
    broken = replace(healthy, daemon_set=None)
    assert shared(broken) == ("DAEMON_SET_MISSING", BrokenLink.AGENT)
    broken = replace(broken, config_map=None)
    assert shared(broken) == ("CONFIG_MAP_MISSING", BrokenLink.CONFIG_MAP)
    broken = replace(broken, entrances=[{"metadata": {"name": "address"}, "status": {"loadBalancer": {}}}])
    assert shared(broken) == ("NO_ADDRESS", BrokenLink.ADDRESS)
    broken = replace(broken, entrances=[{"kind": "Gateway", "metadata": {"name": "exposure"}, "status": {}}])
    assert shared(broken) == ("NO_ADDRESS", BrokenLink.ADDRESS)
    broken = replace(broken, deployment=None)
    assert shared(broken) == ("REGISTRY_MISSING", BrokenLink.REGISTRY)
    broken = replace(broken, namespace=None)
    assert shared(broken) == ("NOT_DEPLOYED", BrokenLink.STACK)


def test_the_address_of_a_gateway_counts(healthy: Facts) -> None:
    status = {"addresses": [{"type": "IPAddress", "value": "192.0.2.1"}]}
    gateway = {"kind": "Gateway", "metadata": {"name": "exposure"}, "status": status}
    assert shared_fault(replace(healthy, entrances=[gateway])) is None


def test_another_ca_is_told_with_both_fingerprints(healthy: Facts, ca: str, other_ca: str) -> None:
    replaced = {"metadata": {"name": "private-registry"}, "data": {"host": HOST, "ca.crt": other_ca}}
    found = shared_fault(replace(healthy, config_map=replaced))
    assert found
    assert (found.code, found.link) == ("CA_REPLACED", BrokenLink.CONFIG_MAP)
    assert certificates.fingerprints(ca)[0] in found.sentence
    assert certificates.fingerprints(other_ca)[0] in found.sentence


@pytest.mark.parametrize("data", [{}, {"ca.crt": "nonsense"}, None])
def test_a_config_map_without_a_certificate_is_named(healthy: Facts, data: Json | None) -> None:
    facts = replace(healthy, config_map={"metadata": {"name": "private-registry"}, "data": data})
    assert shared(facts) == ("CA_INVALID", BrokenLink.CONFIG_MAP)


def test_another_host_in_the_config_map_is_named(healthy: Facts, ca: str) -> None:
    facts = replace(healthy, config_map={"metadata": {}, "data": {"host": "another.example.com", "ca.crt": ca}})
    assert shared(facts) == ("HOST_REPLACED", BrokenLink.CONFIG_MAP)


def registry_down(healthy: Facts, **changes: Any) -> str:
    deployment = {"metadata": {"name": "registry"}, "spec": {"replicas": 1}, "status": {}}
    found = shared_fault(replace(healthy, **{"deployment": deployment, **changes}))
    assert found
    assert (found.code, found.link) == ("REGISTRY_DOWN", BrokenLink.REGISTRY)
    return found.sentence


def test_a_registry_scaled_to_nothing_is_told_how_to_come_back(healthy: Facts) -> None:
    deployment = {"metadata": {"name": "registry"}, "spec": {"replicas": 0}, "status": {}}
    assert "--replicas=1" in registry_down(healthy, deployment=deployment)


def registry_pod(status: Json) -> Json:
    metadata = {"name": "registry-1", "labels": {"app.kubernetes.io/name": "registry"}}
    return {"metadata": metadata, "spec": {}, "status": status}


def test_a_registry_whose_image_is_not_there_is_told(healthy: Facts) -> None:
    status = {"containerStatuses": [{"name": "registry", **waiting("ErrImagePull", "registry:9: not found")}]}
    assert "registry:9: not found" in registry_down(healthy, pods=[registry_pod(status)])


def test_a_registry_whose_volume_is_not_there_is_told_by_the_volumes_event(healthy: Facts) -> None:
    status = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "unbound claims"}]}
    events = [
        event("PersistentVolumeClaim", "registry", "ProvisioningFailed", "no space"),
        event("Pod", "registry-1", "FailedScheduling", "unbound claims"),
    ]
    assert "ProvisioningFailed: no space" in registry_down(healthy, pods=[registry_pod(status)], events=events)


def test_a_registry_whose_pods_are_refused_is_told(healthy: Facts) -> None:
    events = [event("ReplicaSet", "registry-1", "FailedCreate", "exceeded quota")]
    assert "exceeded quota" in registry_down(healthy, pods=[], events=events)


# The stack's state


def state(*resources: Json) -> Json:
    stack = {"urn": "urn:pulumi:pr-42::private-registry::pulumi:pulumi:Stack::x", "type": "pulumi:pulumi:Stack"}
    return {"deployment": {"resources": [{**stack, "outputs": {}}, *resources]}}


NAMESPACE = {"urn": "n", "type": "kubernetes:core/v1:Namespace", "outputs": {"metadata": {"name": "ns"}}}


def test_a_state_that_up_left_half_way_tells_the_namespace() -> None:
    assert declaration("", state(NAMESPACE)) == Declared(stack="pr-42", namespace="ns")


def test_a_state_with_the_config_map_tells_host_and_ca() -> None:
    other = {"metadata": {"name": "registry-config"}, "data": {"config.yml": ""}}
    lookup = {"metadata": {"name": "private-registry"}, "data": {"host": "h", "ca.crt": "c"}}
    maps = ({"urn": "m", "type": "kubernetes:core/v1:ConfigMap", "outputs": outputs} for outputs in (other, lookup))
    assert declaration("pr-42", state(NAMESPACE, *maps)) == Declared(stack="pr-42", namespace="ns", host="h", ca="c")


def test_an_empty_state_tells_nothing() -> None:
    assert declaration("pr-42", {"deployment": {}}) == Declared(stack="pr-42")
