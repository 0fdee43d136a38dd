"""Objects of a cluster as the Kubernetes API shows them, and the verdict on its only node."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from trust.doctor.facts import Facts, Json
from trust.doctor.judge import all_proved, judge
from trust.doctor.verdict import Code, Verdict

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
