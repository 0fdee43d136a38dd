"""The doctor gathers what it may and can have, from an API server that refuses some of it and is slow with the rest."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from registry import names
from tests.unit.trust.doctor.objects_of_a_cluster import agent_pod, waiting
from trust.doctor import read
from trust.doctor.judge import judge

_END = threading.Event()
_MAY_NOT = ("/api/v1/nodes", "/secrets", "/gateways", "/exec")
"""How the paths end that the role `view`, given in one namespace, may not read."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.endswith("/log"):
            _END.wait(30)  # as an API server that asks the kubelet of a dead node
            return
        labels = {"app.kubernetes.io/name": "trust"}
        down = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
        pods = [agent_pod(), agent_pod("t2", "node-b"), agent_pod("t3", "node-c", proof=waiting("ErrImagePull"))]
        pods[1]["status"]["conditions"] = down
        found = {
            "ns": {"metadata": {"name": "ns", "annotations": {names.STACK: "pr-42"}}},
            "pods": {"items": pods},
            "daemonsets": {"items": [{"metadata": {"name": "trust", "labels": labels}, "spec": {}}]},
        }
        body = json.dumps(found.get(path.rpartition("/")[2], {"items": []})).encode()
        self.send_response(403 if path.endswith(_MAY_NOT) else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _END.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    content = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "users": [{"name": "c", "user": {"token": "c"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(read, "_SECONDS", 0.5)
    yield
    _END.set()
    server.shutdown()
    server.server_close()


def test_nodes_that_may_not_be_listed_are_those_of_the_pods_and_a_silent_kubelet_ends_nothing() -> None:
    facts = read.facts_of_namespace("ns", "")
    assert facts.logs == {"trust-1": "", "t2": "", "t3": ""}
    _, reports = judge(facts)
    assert [report.node for report in reports] == ["node-a", "node-b", "node-c"]
    conditions = [node["status"]["conditions"][0]["status"] for node in facts.nodes]
    assert conditions == ["True", "Unknown", "True"], "the node whose pod Kubernetes has marked"
