"""The doctor gathers what it may and can have, from an API server that refuses some of it and is slow with the rest."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from registry import cluster, kubeconfig, names
from registry.pod.trouble import Crash
from tests.unit.support.api_server import JsonHandler, serving, write_kubeconfig
from tests.unit.trust.doctor.objects_of_a_cluster import agent_pod, waiting
from trust.doctor import read
from trust.doctor.facts import Json
from trust.doctor.judge import judge

_END = threading.Event()
_MAY_NOT = ("/api/v1/nodes", "/secrets", "/gateways", "/exec")
"""How the paths end that the role `view`, given in one namespace, may not read."""


class _Handler(JsonHandler):
    more: ClassVar[Sequence[Json]] = ()
    """Pods of the DaemonSet beside the three."""
    exec_is_silent: ClassVar[bool] = False

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/v1/namespaces/ns/pods/registry-1/log" and "previous=true" in self.path.lower():
            self.answer("panic: invalid region")
            return
        if path.endswith("/log") or (self.exec_is_silent and path.endswith("/exec")):
            _END.wait(30)  # as an API server that asks the kubelet of a dead node
            return
        labels = {"app.kubernetes.io/name": "trust"}
        down = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
        pods = [agent_pod(), agent_pod("t2", "node-b"), agent_pod("t3", "node-c", proof=waiting("ErrImagePull"))]
        pods[1]["status"]["conditions"] = down
        waits = {"name": "registry", **waiting("CrashLoopBackOff")}
        pods += self.more
        metadata = {"name": "registry-1", "namespace": "ns", "labels": {"app.kubernetes.io/name": "registry"}}
        pods.append({"metadata": metadata, "spec": {}, "status": {"containerStatuses": [waits]}})
        found = {
            "ns": {"metadata": {"name": "ns", "annotations": {names.STACK: "pr-42"}}},
            "pods": {"items": pods},
            "daemonsets": {"items": [{"metadata": {"name": "trust", "labels": labels}, "spec": {}}]},
        }
        self.answer(found.get(path.rpartition("/")[2], {"items": []}), 403 if path.endswith(_MAY_NOT) else 200)


@pytest.fixture(autouse=True)
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _END.clear()
    monkeypatch.setattr(read, "_SECONDS", 0.5)
    monkeypatch.setattr(cluster, "_LOG_TIMEOUT", (5.0, 1.0))
    with serving(_Handler) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        yield
        _END.set()


def test_nodes_that_may_not_be_listed_are_those_of_the_pods_and_a_silent_kubelet_ends_nothing() -> None:
    facts = read.facts_of_namespace("ns", "")
    assert list(facts.logs) == ["t3", "trust-1"], "the one that may have a fault first, and none of a node that is down"
    assert not facts.unasked
    [(crash, log)] = facts.crashed.items()
    assert crash == Crash("registry-1", "registry", previous=True)
    assert "panic: invalid region" in log
    _, reports = judge(facts)
    assert [report.node for report in reports] == ["node-a", "node-b", "node-c"]
    conditions = [node["status"]["conditions"][0]["status"] for node in facts.nodes]
    assert conditions == ["True", "Unknown", "True"], "the node whose pod Kubernetes has marked"


def test_kubelets_that_cannot_be_reached_are_asked_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Handler, "more", [agent_pod(f"more-{each}", "node-a") for each in range(62)])
    monkeypatch.setattr(read, "_LISTEN", 0.3)
    facts = read.facts_of_namespace("ns", "")
    assert facts.unasked >= 48, "one log at most is begun by each of the 16 threads"
    assert len(facts.logs) == 64 - facts.unasked


def test_an_api_server_that_does_not_answer_a_handshake_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Handler, "exec_is_silent", True)
    monkeypatch.setattr(kubeconfig, "_HANDSHAKE", 0.2)
    began = time.monotonic()
    assert not read.facts_of_namespace("ns", "").probes
    assert time.monotonic() - began < 20


class _Busy(_Handler):
    status: ClassVar[int] = 429
    refusals: ClassVar[int] = 0
    """How often it still says that it is busy."""

    def do_GET(self) -> None:
        if not self.path.partition("?")[0].endswith("/pods") or not _Busy.refusals:
            return super().do_GET()
        _Busy.refusals -= 1
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.send_header("Retry-After", "0")
        return self.end_headers()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_api_server_is_asked_once_more_and_then_said_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(_Busy, "status", status)
    with serving(_Busy) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "busy", url)))
        monkeypatch.setattr(_Busy, "refusals", 1)
        assert read.facts_of_namespace("ns", "").pods
        monkeypatch.setattr(_Busy, "refusals", 2)
        with pytest.raises(read.DoctorError, match="cannot be asked .*; it is busy or about to start: run the command"):
            read.facts_of_namespace("ns", "")
        assert not _Busy.refusals


class _Proxy(JsonHandler):
    def do_GET(self) -> None:
        self.answer("Sign in")


def test_what_is_no_api_server_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(_Proxy) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "proxy", url)))
        with pytest.raises(
            read.DoctorError, match="cannot be asked .it answers with no JSON object.; check KUBECONFIG"
        ):
            read.facts_of_namespace("ns", "")
