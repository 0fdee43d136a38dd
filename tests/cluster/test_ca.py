"""The CA is renewed, or another one takes over, while kubelets pull and a client pushes: nothing fails."""

import json
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.certificate.authority import authorities
from registry.certificate.contract import CA_VALIDITY, RENEWAL

from .support.certificates import served_certificate
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.loop import Loop
from .support.node_state import restarts
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROPAGATION = 150.0
"""Seconds that a kubelet may take to bring a changed Secret or ConfigMap into a running pod."""
HOUR = 3600
CERTIFICATES = ("tls:index/selfSignedCert:SelfSignedCert", "tls:index/locallySignedCert:LocallySignedCert")


def move_time(deployed: Deployed, folder: Path, left: timedelta) -> None:
    """Have it be so late that the CA is valid for `left` only.

    The provider compares the end of a certificate in the stack's state with its clock; so the end is what is moved.
    """
    state = json.loads(deployed.stack.state())
    found = {each["type"]: each["outputs"] for each in state["deployment"]["resources"] if each["type"] in CERTIFICATES}
    ca, server = (found[each] for each in CERTIFICATES)
    moved = datetime.now(UTC) + left - datetime.fromisoformat(ca["validityEndTime"])
    for each in (ca, server):
        end = datetime.fromisoformat(each["validityEndTime"]) + moved
        each["validityEndTime"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
    file = folder / "state.json"
    file.write_text(json.dumps(state))
    deployed.stack.pulumi("stack", "import", "--file", str(file))


def chain(deployed: Deployed, ca_file: Path) -> list[dict[str, Any]]:
    """The certificates that a client of Python verifies, the server's first; its checks are the strictest there are."""
    name, _, port = deployed.host.partition(":")
    program = (
        "import json, ssl, socket, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[3])\n"
        "context.verify_flags |= ssl.VERIFY_X509_STRICT\n"
        "with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as plain:\n"
        "    with context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:\n"
        "        print(json.dumps(tls.getpeercert()))\n"
    )
    shown = deployed.cluster.run("python3", "-c", program, name, port or "443", ca_file).stdout
    return [json.loads(shown)]


def key_of(pem: str) -> str:
    """The public key of the first certificate of a PEM text, PEM."""
    command = ["openssl", "x509", "-noout", "-pubkey"]
    return subprocess.run(command, input=pem, capture_output=True, text=True, check=True, timeout=30).stdout


def up_in_background(deployed: Deployed) -> tuple[threading.Thread, list[subprocess.CompletedProcess[str]]]:
    """`pulumi up` beside what the test does; the list gets its result."""
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(
        target=lambda: done.append(deployed.stack.pulumi("up", "--yes", "--skip-preview", timeout=600))
    )
    thread.start()
    return thread, done


def test_a_ca_in_its_last_60_days_is_renewed_with_its_key_and_nobody_notices(
    cluster: Cluster, tmp_path: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path / "stack", {"exposure": "loadBalancer"}) as deployed:
        [old] = authorities(deployed.ca)
        move_time(deployed, tmp_path, timedelta(hours=RENEWAL, minutes=10))
        deployed.stack.pulumi("preview", "--expect-no-changes")
        move_time(deployed, tmp_path, timedelta(hours=RENEWAL, minutes=-10))
        before, runtimes = served_certificate(deployed), {node: restarts(node) for node in cluster.nodes}
        agents = deployed.ready_agents()
        with Loop(deployed, namespace, tmp_path) as loop:
            told = deployed.stack.up().stdout
            assert "The CA was renewed, with the same key." in told
            assert datetime.fromtimestamp(old.ends, UTC).strftime("%Y-%m-%d") in told
            # Whoever has the old file verifies the new certificate: OpenSSL, and below Python and Go.
            wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
            loop.settle()
            outputs = deployed.stack.outputs()
            [new] = authorities(outputs["caCertificate"])
            assert (new.identity, key_of(new.pem)) == (old.identity, key_of(old.pem))
            assert new.pem != old.pem
            assert abs(new.ends - time.time() - CA_VALIDITY * HOUR) < HOUR
            renewed = tmp_path / "renewed.crt"
            renewed.write_text(new.pem)
            for file in (deployed.ca_file, renewed):
                [server] = chain(deployed, file)
                assert new.ends - 3 * HOUR < ssl.cert_time_to_seconds(server["notAfter"]) <= new.ends - HOUR
                login = deployed.login
                environment = [f"SSL_CERT_FILE={file}", f"DOCKER_CONFIG={login}"]
                cluster.run("env", *environment, "crane", "catalog", deployed.host)
            trusted = [deployed.hosts_directory(node) for node in cluster.nodes]
            wait_until(
                lambda: all(any(each.read_text() == new.pem for each in path.glob("*.crt")) for path in trusted),
                "the nodes have the new certificate",
                timeout=PROPAGATION,
            )
            loop.settle()
        loop.check(0)
        assert {node: restarts(node) for node in cluster.nodes} == runtimes
        assert deployed.ready_agents() == agents
        deployed.stack.pulumi("preview", "--expect-no-changes")


def test_another_ca_takes_over_in_one_up_and_no_pull_fails(cluster: Cluster, tmp_path: Path, namespace: str) -> None:
    with deployed_stack(cluster, tmp_path / "stack", {"exposure": "loadBalancer"}) as deployed:
        before = served_certificate(deployed)
        agents, runtimes = deployed.ready_agents(), {node: restarts(node) for node in cluster.nodes}

        def nodes_have() -> str:
            return cluster.get("configmap", "-n", deployed.namespace, "private-registry")["data"]["ca.crt"]

        with Loop(deployed, namespace, tmp_path) as loop:
            deployed.stack.pulumi("config", "set", "caVersion", "2")
            thread, done = up_in_background(deployed)
            wait_until(lambda: len(authorities(nodes_have())) == 2, "the nodes get both", timeout=120)
            assert served_certificate(deployed) == before
            deployed.ca_file.write_text(nodes_have())  # as a client does that takes the CA from where nodes do
            thread.join()
            assert done
            assert done[0].returncode == 0
            assert "The CA is another one than before." in done[0].stdout
            wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
            loop.settle()
        loop.check(0)
        new, old = authorities(deployed.stack.outputs()["caCertificate"])
        assert old.pem.strip() == deployed.ca.strip()
        assert key_of(new.pem) != key_of(old.pem)
        assert key_of(deployed.stack.outputs()["caCertificate"]) == key_of(new.pem)
        alone = tmp_path / "new.crt"
        alone.write_text(new.pem)
        chain(deployed, alone)
        assert deployed.ready_agents() == agents
        assert {node: restarts(node) for node in cluster.nodes} == runtimes
        deployed.stack.pulumi("preview", "--expect-no-changes")
