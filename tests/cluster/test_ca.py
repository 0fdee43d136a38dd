"""The CA is renewed, or another one takes over, while kubelets pull and a client pushes: nothing fails."""

import base64
import json
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local_cluster import nodes
from local_cluster.paths import REPOSITORY
from registry.certificate.authority import authorities
from registry.certificate.contract import CA_VALIDITY, RENEWAL

from .support.certificates import served_certificate
from .support.cluster import Cluster
from .support.commands import run, wait_until
from .support.loop import Loop
from .support.meanwhile import again_and_again
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

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


def shown_to_python(deployed: Deployed, ca_file: Path) -> dict[str, Any]:
    """The certificate that a client in Python is shown, and verifies; its checks are the strictest there are."""
    name, _, port = deployed.host.partition(":")
    program = (
        "import json, ssl, socket, sys\n"
        "context = ssl.create_default_context(cafile=sys.argv[3])\n"
        "context.verify_flags |= ssl.VERIFY_X509_STRICT\n"
        "with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as plain:\n"
        "    with context.wrap_socket(plain, server_hostname=sys.argv[1]) as tls:\n"
        "        print(json.dumps(tls.getpeercert()))\n"
    )
    return json.loads(deployed.cluster.run("python3", "-c", program, name, port or "443", ca_file).stdout)


def key_of(pem: str) -> str:
    """The public key of the first certificate of a PEM text, PEM."""
    command = ["openssl", "x509", "-noout", "-pubkey"]
    return subprocess.run(command, input=pem, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_ca_in_its_last_60_days_is_renewed_with_its_key_and_nobody_notices(
    cluster: Cluster, tmp_path: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path / "stack", {"exposure": "loadBalancer"}) as deployed:
        [old] = authorities(deployed.ca)
        move_time(deployed, tmp_path, timedelta(hours=RENEWAL, minutes=10))
        deployed.stack.pulumi("preview", "--expect-no-changes")
        move_time(deployed, tmp_path, timedelta(hours=RENEWAL, minutes=-10))
        before, agents = served_certificate(deployed), deployed.ready_agents()
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
                server = shown_to_python(deployed, file)
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
        assert deployed.ready_agents() == agents
        deployed.stack.pulumi("preview", "--expect-no-changes")


def trusted_by_nodes(deployed: Deployed) -> str:
    """What is in the ConfigMap from which nodes and builders take the CA."""
    return deployed.cluster.get("configmap", "-n", deployed.namespace, "private-registry")["data"]["ca.crt"]


@contextmanager
def following(deployed: Deployed) -> Iterator[None]:
    """Have the client trust at any time what the ConfigMap says, as one does that runs its snippet before each job."""

    def follow() -> None:
        new = deployed.ca_file.with_suffix(".new")
        new.write_text(trusted_by_nodes(deployed))
        new.replace(deployed.ca_file)

    with again_and_again(follow, seconds=1):
        yield


def test_another_ca_takes_over_in_one_up_and_no_pull_fails(cluster: Cluster, tmp_path: Path, namespace: str) -> None:
    with deployed_stack(cluster, tmp_path / "stack", {"exposure": "loadBalancer"}) as deployed:
        before, agents = served_certificate(deployed), deployed.ready_agents()
        with Loop(deployed, namespace, tmp_path) as loop:
            deployed.stack.pulumi("config", "set", "caVersion", "2")
            with following(deployed):
                told = deployed.stack.up().stdout
                assert "Waiting for the new CA beside the old one on node-a, node-b, node-c" in told
                assert "The CA is another one than before." in told
                wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
                loop.settle()
        loop.check(0)
        outputs = deployed.stack.outputs()
        new, old = authorities(outputs["caCertificate"])
        assert old.pem.strip() == deployed.ca.strip()
        assert key_of(new.pem) != key_of(old.pem)
        alone = tmp_path / "new.crt"
        alone.write_text(new.pem)
        shown_to_python(deployed, alone)
        assert deployed.ready_agents() == agents
        deployed.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.usefixtures("cert_manager")
def test_m1_each_issuer_follows_the_other_and_nodes_trust_both_meanwhile(
    cluster: Cluster, tmp_path: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path / "stack", {"exposure": "loadBalancer"}) as deployed:
        first = authorities(deployed.ca)
        with Loop(deployed, namespace, tmp_path) as loop, following(deployed):
            for number, issuer in enumerate(("cert-manager", "tls")):
                deployed.stack.pulumi("config", "set", "certificateIssuer", issuer)
                deployed.stack.up()
                loop.settle()
                found = authorities(deployed.stack.outputs()["caCertificate"])
                assert len(found) == 2 + number
                assert found[-1].pem == first[0].pem
                if issuer == "cert-manager":
                    assert_bounded(deployed, found[0].pem, tmp_path)
                deployed.stack.pulumi("preview", "--expect-no-changes")
        # The pod is made anew, since each issuer has a Secret of its own.
        loop.check(15)


def assert_bounded(deployed: Deployed, ca: str, folder: Path) -> None:
    """Check that the CA can sign for hosts below nip.io, and for nothing else."""
    (folder / "bounded.crt").write_text(ca)
    found = deployed.cluster.get("secrets", "-n", deployed.namespace)["items"]
    [key] = [each["data"]["tls.key"] for each in found if each["metadata"]["name"].startswith("certificate-ca-")]
    (folder / "bounded.key").write_bytes(base64.b64decode(key))

    def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)

    # fmt: off
    for name, accepted in (
        (f"DNS:{deployed.host}", True), ("DNS:example.com", False), ("DNS:nip.io.example.com", False),
        ("IP:10.99.0.1", False),
    ):
        made = openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=x", "-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:FALSE",
            "-CA", "bounded.crt", "-CAkey", "bounded.key", "-keyout", "any.key", "-out", "any.crt",
        )
        assert made.returncode == 0, made.stderr
        verified = openssl("verify", "-x509_strict", "-CAfile", "bounded.crt", "any.crt")
        assert (verified.returncode == 0) == accepted, (name, verified.stdout, verified.stderr)
    # fmt: on


@contextmanager
def cluster_issuer(cluster: Cluster, folder: Path) -> Iterator[tuple[str, str]]:
    """A ClusterIssuer of a CA that the test makes; its name, and the CA's certificate."""
    name = f"test-{secrets.token_hex(3)}"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9",
        "-subj", f"/CN=The company's CA {name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-keyout", "company.key", "-out", "company.crt",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=30)
    ca = (folder / "company.crt").read_text()
    files = [f"--cert={folder}/company.crt", f"--key={folder}/company.key"]
    cluster.kubectl("create", "secret", "tls", name, "-n", "kube-system", *files)
    metadata = {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": name}}
    try:
        cluster.apply({**metadata, "spec": {"ca": {"secretName": name}}})
        cluster.kubectl("wait", "--for=condition=Ready", f"clusterissuer/{name}", "--timeout=30s")
        yield name, ca
    finally:
        cluster.kubectl("delete", "clusterissuer", name, "--ignore-not-found")
        cluster.kubectl("delete", "secret", name, "-n", "kube-system")


@pytest.mark.usefixtures("cert_manager")
def test_a_cluster_issuer_takes_over_from_the_stacks_own_ca_and_others_are_refused(
    cluster: Cluster, tmp_path: Path, namespace: str
) -> None:
    values = {"exposure": "loadBalancer", "certificateIssuer": "cert-manager"}
    with (
        cluster_issuer(cluster, tmp_path) as (issuer, ca),
        deployed_stack(cluster, tmp_path / "stack", values) as deployed,
    ):
        deployed.stack.pulumi("config", "set", "issuer", "nobody")
        refused = deployed.stack.up(check=False)
        assert refused.returncode != 0
        told = refused.stdout + refused.stderr
        assert "there is no ClusterIssuer of that name: the cluster has " in told
        assert issuer in told
        with Loop(deployed, namespace, tmp_path) as loop, following(deployed):
            deployed.stack.pulumi("config", "set", "issuer", issuer)
            deployed.stack.up()
            loop.settle()
            outputs = deployed.stack.outputs()
            found = authorities(outputs["caCertificate"])
            assert found[0].pem.strip() == ca.strip()
            deployed.stack.pulumi("preview", "--expect-no-changes")
        loop.check(15)
        assert {each["metadata"]["name"] for each in cluster.get("issuers", "-n", deployed.namespace)["items"]} == set()


BUNDLE = "etc/ssl/certs/ca-certificates.crt"


@contextmanager
def publicly_trusted(cluster: Cluster, ca: str) -> Iterator[None]:
    """Have every node's own bundle of CAs hold one more; a container runtime reads the bundle when it starts."""
    before = {node: (nodes.node_root(node) / BUNDLE).read_bytes() for node in cluster.nodes}

    def put(node: str, content: bytes) -> None:
        (nodes.node_root(node) / BUNDLE).write_bytes(content)
        assert nodes.exec_in_node(node, ["systemctl", "restart", "containerd"]).returncode == 0

    try:
        for node, content in before.items():
            put(node, content + ca.encode())
        yield
    finally:
        for node, content in before.items():
            put(node, content)


@pytest.mark.alone
@pytest.mark.usefixtures("cert_manager")
def test_where_the_certificate_is_publicly_trusted_nodes_get_nothing_and_nobody_has_to_trust_a_ca(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    # cert-manager writes no `ca.crt` for issuers such as Let's Encrypt; here a policy takes it away.
    removal = {"patchType": "JSONPatch", "jsonPatch": {"expression": '[JSONPatch{op: "remove", path: "/data/ca.crt"}]'}}
    spec = {"reinvocationPolicy": "Never", "mutations": [removal]}
    with cluster_issuer(cluster, tmp_path) as (issuer, ca), publicly_trusted(cluster, ca):
        by_it = f"object.metadata.?annotations['cert-manager.io/issuer-name'].orValue('') == '{issuer}'"
        where = f"has(object.data) && 'ca.crt' in object.data && {by_it}"
        values = {"exposure": "loadBalancer", "certificateIssuer": "cert-manager", "issuer": issuer}
        with (
            cluster.policy("MutatingAdmissionPolicy", issuer, "/secrets", spec, {}, where, changes=True),
            deployed_stack(cluster, tmp_path / "stack", values) as deployed,
        ):
            assert deployed.ca == trusted_by_nodes(deployed) == ""
            for node in cluster.nodes:
                assert not list(deployed.hosts_directory(node).glob("*.crt"))
            deployed.ca_file.write_text(ca)  # a client whose system trusts the CA
            image = f"{deployed.host}/test/app:1"
            deployed.crane("push", app_image, image)
            deployed.start_pods(namespace, image, cluster.nodes)
            deployed.assert_running(namespace, cluster.nodes)
            assert "nobody has to trust a CA" in deployed.snippets["docker"]
            doctor = [sys.executable, "-m", "trust.doctor", "--stack", deployed.stack.name]
            assert "PROVED" in run(doctor, cluster.environment, cwd=REPOSITORY).stdout
            # And back to a CA of the stack's own, which nodes get before it is served.
            deployed.stack.pulumi("config", "rm", "issuer")
            deployed.stack.up()
            now = replace(deployed, outputs=deployed.stack.outputs())
            assert all(now.trusted(node) for node in cluster.nodes)
            now.start_pods(namespace, image, cluster.nodes, name="own")
            now.assert_running(namespace, cluster.nodes, name="own")
