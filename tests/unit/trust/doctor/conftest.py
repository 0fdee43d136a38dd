"""A cluster with nothing wrong, and the certificates for it."""

from pathlib import Path

import pytest

from tests.unit.trust.doctor.objects_of_a_cluster import FILE, HOST, agent_pod, certificate, node
from trust.agent import certificates
from trust.doctor.facts import Declared, Facts, Probe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(folder: Path) -> str:
    return certificate(folder, "ca")[0].read_text()


@pytest.fixture(scope="module")
def other_ca(folder: Path) -> str:
    return certificate(folder, "other")[0].read_text()


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
