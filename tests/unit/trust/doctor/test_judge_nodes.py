"""The doctor names the first broken link of a node, and only that one."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.unit.trust.doctor.objects_of_a_cluster import (
    FILE,
    HOST,
    agent_pod,
    certificate,
    faulty,
    node,
    probed,
    verdict,
    waiting,
)
from trust.agent import connect
from trust.agent.faults import Fault, Reason
from trust.doctor.__main__ import lines
from trust.doctor.facts import Facts
from trust.doctor.judge import all_proved, judge
from trust.doctor.verdict import BrokenLink, Verdict, link_of


def test_a_healthy_node_is_proved_and_told_in_one_line(healthy: Facts) -> None:
    shared, reports = judge(healthy)
    assert lines(reports, shared, "pr-42", "") == [
        "Stack pr-42", "node-a  containerd 1.7.24  /etc/containerd/certs.d  proved",
    ]  # fmt: skip
    assert all_proved(shared, reports)


def test_what_only_this_machine_lacks_is_the_last_line(healthy: Facts) -> None:
    shared, reports = judge(healthy)
    assert lines(reports, shared, "pr-42", "DNS says no.")[-1] == "From this machine: DNS says no."
    assert "no time to ask 984 of the agents" in lines(reports, shared, "pr-42", "", unasked=984)[-1]


def test_a_cluster_without_linux_nodes_is_not_proved(healthy: Facts) -> None:
    facts = replace(healthy, nodes=[node(os="windows")])
    shared, [report] = judge(facts)
    assert (report.verdict.code, report.counted) == ("NOT_LINUX", False)
    assert not all_proved(shared, [report])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eks.amazonaws.com/compute-type", "fargate"),
        ("type", "virtual-kubelet"),
        ("type", "kwok"),
        ("liqo.io/type", "virtual-node"),
    ],
)
def test_a_virtual_node_is_reported_and_not_counted(healthy: Facts, key: str, value: str) -> None:
    fake = node("node-b")
    fake["metadata"]["labels"][key] = value
    shared, reports = judge(replace(healthy, nodes=[node(), fake]))
    assert [report.verdict.code for report in reports] == ["PROVED", "VIRTUAL_NODE"]
    assert f"{key}={value}" in reports[1].verdict.sentence
    assert all_proved(shared, reports)


def test_a_machine_that_the_proof_cannot_run_on_is_reported_and_not_counted(healthy: Facts) -> None:
    other, known = node("node-b"), node()
    other["metadata"]["labels"]["kubernetes.io/arch"] = "riscv64"
    known["metadata"]["labels"]["kubernetes.io/arch"] = "amd64"
    shared, reports = judge(replace(healthy, nodes=[known, other]))
    assert [report.verdict.code for report in reports] == ["PROVED", "OTHER_ARCHITECTURE"]
    assert "riscv64, which the proof image is not for (amd64, arm64)" in reports[1].verdict.sentence
    assert [report.counted for report in reports] == [True, False]
    assert all_proved(shared, reports)


def test_a_machine_may_have_other_values_of_these_labels(healthy: Facts) -> None:
    machine = node()
    machine["metadata"]["labels"] |= {"eks.amazonaws.com/compute-type": "ec2", "type": "worker"}
    assert all_proved(*judge(replace(healthy, nodes=[machine])))


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
        connect.check(host, ca, connect.Client("node node-a"))
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


def test_a_certificate_that_is_not_yet_valid_is_told_with_what_the_agent_says_of_the_clocks(healthy: Facts) -> None:
    words = "certificate is not yet valid"
    details = {"host": HOST, "port": 443, "served": "5e" * 32, "trusted": ["ca" * 32], "error": words}
    connection = {"reason": "CERTIFICATE_MISMATCH", "sentence": "The clocks differ; mend it.", "details": details}
    found = verdict(replace(probed(healthy, connection=connection), served="s" * 64, stored="s" * 64))
    assert found == Verdict("CERTIFICATE_MISMATCH", BrokenLink.CERTIFICATE, "The clocks differ; mend it.")


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
    assert "proxy" not in found.sentence
    through = probed(healthy, status={**healthy.probes["trust-1"].status, "proxy": "socks5://proxy.example:1080"})
    found = verdict(replace(through, pods=[pod]))
    assert "container runtime, which pulls through the proxy socks5://proxy.example:1080" in found.sentence


def test_a_proof_that_is_being_pulled_is_no_failure_yet(healthy: Facts) -> None:
    found = verdict(replace(healthy, pods=[agent_pod(proof=waiting("PodInitializing"))]))
    assert (found.code, found.link) == ("STARTING", BrokenLink.PULL)
