"""Break each link of the chain in turn: the doctor names that link and no other, and its fix mends it."""

import json
import re
import secrets
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_cluster import nodes
from local_cluster.paths import REPOSITORY

from .support.cluster import Cluster
from .support.commands import run, wait_until
from .support.diagnosis import SIGNAL_AGENT, agent_on, diagnose, wait_diagnosis
from .support.stacks import Deployed, Stack, served_ingress

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@contextmanager
def mended(deployed: Deployed) -> Iterator[None]:
    """Afterwards do what the doctor advises for objects that somebody changed, and see that it helps."""
    try:
        yield
    finally:
        deployed.stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
    wait_diagnosis(deployed.cluster, deployed.stack, timeout=150)


def other_certificate(folder: Path, host: str) -> tuple[str, str]:
    """A certificate for the host that no CA of ours issued, and its key; both PEM."""
    run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=somebody else", "-addext", f"subjectAltName=DNS:{host}", "-keyout", folder / "other.key",
         "-out", folder / "other.crt"],
        {"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    return (folder / "other.crt").read_text(), (folder / "other.key").read_text()


EXPIRED = """
[ca]
default_ca = expired
[expired]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = anything
copy_extensions = copy
[anything]
commonName = supplied
"""
"""Configuration for `openssl ca`, which unlike `openssl x509` takes dates of the past in every version."""


def expired_certificate(folder: Path, deployed: Deployed) -> tuple[str, str]:
    """A certificate for the host that the stack's own CA issued and that has expired, and its key; both PEM."""
    state = json.loads(deployed.stack.pulumi("stack", "export", "--show-secrets").stdout)
    [ca_key] = (each for each in state["deployment"]["resources"] if each["urn"].endswith("::certificate-ca-key-1"))
    (folder / "ca.key").write_text(json.loads(ca_key["outputs"]["privateKeyPem"]["plaintext"]))
    (folder / "ca.cnf").write_text(EXPIRED)
    (folder / "index").touch()
    for command in (
        ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=expired",
         "-addext", f"subjectAltName=DNS:{deployed.host}", "-keyout", "expired.key", "-out", "expired.csr"],
        ["ca", "-batch", "-notext", "-config", "ca.cnf", "-cert", deployed.ca_file, "-keyfile", "ca.key",
         "-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-in", "expired.csr", "-out", "expired.crt"],
    ):  # fmt: skip
        run(["openssl", *command], {"PATH": "/usr/bin:/bin"}, cwd=folder)
    return (folder / "expired.crt").read_text(), (folder / "expired.key").read_text()


def serve(deployed: Deployed, certificate: str, key: str) -> None:
    """Put another certificate and key into the Secret that the Ingress serves."""
    data = {"tls.crt": b64encode(certificate.encode()).decode(), "tls.key": b64encode(key.encode()).decode()}
    secret = served_ingress(deployed.cluster, deployed.namespace)["tls"][0]["secretName"]
    patch = ("patch", "secret", secret, "-n", deployed.namespace, "--patch-file=/dev/stdin")
    deployed.cluster.kubectl(*patch, text=json.dumps({"data": data}))


def try_again(deployed: Deployed) -> bool:
    """Have the controller look at the DaemonSet now and not minutes later, and tell whether it has all its pods."""
    again = f"test/again={secrets.token_hex(4)}"
    deployed.cluster.kubectl("annotate", "--overwrite", "daemonset/trust", "-n", deployed.namespace, again)
    return len(deployed.agents()) == len(deployed.cluster.nodes)


def test_every_node_of_a_healthy_stack_is_proved(cluster: Cluster, default_stack: Deployed) -> None:
    diagnosis = wait_diagnosis(cluster, default_stack.stack)
    lines = {line.split()[0]: line for line in diagnosis.text.splitlines()[1:]}
    assert set(lines) == set(cluster.nodes)
    for node in cluster.nodes:
        version = cluster.get("node", node)["status"]["nodeInfo"]["containerRuntimeVersion"].partition("://")[2]
        root = str(default_stack.hosts_directory(node).relative_to(nodes.node_root(node)).parent)
        assert re.fullmatch(rf"{node} +containerd {re.escape(version)}\S* +/{re.escape(root)} +proved", lines[node])


def test_the_namespace_and_a_kubeconfig_are_all_that_it_needs(cluster: Cluster, default_stack: Deployed) -> None:
    nothing_of_pulumi = ("env", "-i", f"KUBECONFIG={cluster.environment['KUBECONFIG']}", "PATH=/usr/bin:/bin")
    doctor = (*nothing_of_pulumi, sys.executable, "-m", "trust.doctor", "--namespace")
    done = cluster.run(*doctor, default_stack.namespace, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == diagnose(cluster, default_stack.stack).text
    for namespace, why in (("default", "has no annotation"), ("no-such-namespace", "does not exist")):
        refused = cluster.run(*doctor, namespace, check=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith(f"The namespace {namespace} {why}")


def test_another_ca_in_the_config_map_is_named(cluster: Cluster, default_stack: Deployed, tmp_path: Path) -> None:
    with mended(default_stack):
        certificate, _ = other_certificate(tmp_path, default_stack.host)
        patch = json.dumps({"data": {"ca.crt": certificate}})
        cluster.kubectl("patch", "configmap", "private-registry", "-n", default_stack.namespace, "-p", patch)
        wait_diagnosis(cluster, default_stack.stack, ("CA_REPLACED", "ConfigMap"))


def test_another_certificate_that_is_served_is_named_with_both_fingerprints(
    cluster: Cluster, default_stack: Deployed, tmp_path: Path
) -> None:
    with mended(default_stack):
        certificate, key = other_certificate(tmp_path, default_stack.host)
        serve(default_stack, certificate, key)
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("CERTIFICATE_MISMATCH", "certificate"))
        for file in (tmp_path / "other.crt", default_stack.ca_file):
            shown = run(["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", file], cluster.environment)
            assert shown.stdout.partition("=")[2].strip().replace(":", "").lower() in diagnosis.text


def test_a_certificate_that_has_expired_is_named_by_everyone_and_up_brings_a_good_one(
    cluster: Cluster, default_stack: Deployed, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    image = f"{default_stack.host}/test/expired:1"
    default_stack.crane("push", app_image, image)
    trusting = ("env", f"SSL_CERT_FILE={default_stack.ca_file}")

    def refused() -> bool:
        done = cluster.run(*trusting, "crane", "digest", image, check=False)
        return done.returncode != 0 and "certificate has expired" in done.stderr

    def told() -> bool:
        failed = cluster.get("events", "-n", namespace, "--field-selector=reason=Failed")["items"]
        named = {e["involvedObject"]["name"] for e in failed if "certificate has expired" in e["message"]}
        return named == {f"app-{node}" for node in cluster.nodes}

    with mended(default_stack):
        serve(default_stack, *expired_certificate(tmp_path, default_stack))
        wait_until(refused, "crane is refused, as the certificate has expired", timeout=30)
        default_stack.start_pods(namespace, image, cluster.nodes)
        wait_until(told, "the pull fails on every node, as the certificate has expired", timeout=60)
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("CERTIFICATE_MISMATCH", "certificate"))
        named = [line for line in diagnosis.text.splitlines() if "certificate has expired; the registry's TLS" in line]
        assert [line.split()[0] for line in named] == list(cluster.nodes)
    default_stack.crane("digest", image)
    # The kubelet tries again by itself, after a minute at most by now.
    default_stack.wait_running(namespace, cluster.nodes, timeout=120)


def test_a_registry_without_pods_is_named(cluster: Cluster, default_stack: Deployed) -> None:
    scale = ("scale", "deployment/registry", "-n", default_stack.namespace)
    cluster.kubectl(*scale, "--replicas=0")
    try:
        wait_diagnosis(cluster, default_stack.stack, ("REGISTRY_DOWN", "registry"))
    finally:
        cluster.kubectl(*scale, "--replicas=1")
    wait_diagnosis(cluster, default_stack.stack)


def test_a_stopped_agent_is_named_and_not_the_files_that_are_gone(cluster: Cluster, default_stack: Deployed) -> None:
    node = cluster.nodes[-1]
    pod = agent_on(default_stack, node)
    signal = ("exec", "-n", default_stack.namespace, pod, "-c", "agent", "--", "python3", "-c", SIGNAL_AGENT)
    cluster.kubectl(*signal, "19")
    try:
        folder = default_stack.hosts_directory(node)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("AGENT_STOPPED", "agent"))
        assert [line.split()[0] for line in diagnosis.text.splitlines() if "AGENT_STOPPED" in line] == [node]
    finally:
        cluster.kubectl(*signal, "18")
    wait_diagnosis(cluster, default_stack.stack)
    assert default_stack.trusted(node)


def test_an_image_of_the_agent_that_no_node_can_pull_is_named(cluster: Cluster, default_stack: Deployed) -> None:
    with mended(default_stack):
        broken = "agent=docker.io/library/python:no-such-tag"
        cluster.kubectl("set", "image", "daemonset/trust", broken, "-n", default_stack.namespace)
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("AGENT_NOT_RUNNING", "agent"))
        assert "set pythonImage" in diagnosis.text


def test_a_policy_that_forbids_the_agent_is_named(cluster: Cluster, default_stack: Deployed) -> None:
    label = ("label", "--overwrite", "namespace", default_stack.namespace)
    cluster.kubectl(*label, "pod-security.kubernetes.io/enforce=baseline")
    try:
        cluster.kubectl(
            "delete", "pod", "-n", default_stack.namespace, "-l", "app.kubernetes.io/name=trust", timeout=120
        )
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("POD_REFUSED", "policy"))
        assert "violates PodSecurity" in diagnosis.text
    finally:
        cluster.kubectl(*label, "pod-security.kubernetes.io/enforce=privileged")
        wait_until(lambda: try_again(default_stack), "the DaemonSet has its pods again", timeout=60, interval=2)
    wait_diagnosis(cluster, default_stack.stack)


def test_a_daemon_set_that_matches_no_node_is_named(cluster: Cluster, default_stack: Deployed) -> None:
    def select(pool: str | None) -> None:
        patch = {"spec": {"template": {"spec": {"nodeSelector": {"example.com/pool": pool}}}}}
        cluster.kubectl("patch", "daemonset/trust", "-n", default_stack.namespace, "-p", json.dumps(patch))

    select("none")
    try:
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("NO_MATCHING_NODE", "agent"))
        assert "example.com/pool=none" in diagnosis.text
    finally:
        select(None)
    wait_diagnosis(cluster, default_stack.stack)


def test_a_daemon_set_that_is_gone_is_named(cluster: Cluster, default_stack: Deployed) -> None:
    with mended(default_stack):
        cluster.kubectl("delete", "daemonset/trust", "-n", default_stack.namespace, timeout=120)
        wait_diagnosis(cluster, default_stack.stack, ("DAEMON_SET_MISSING", "agent"))


@pytest.mark.alone
def test_a_node_that_cannot_reach_the_address_is_named(cluster: Cluster, default_stack: Deployed) -> None:
    node = cluster.nodes[-1]
    route = ["route", "{}", "blackhole", f"{default_stack.outputs['address']}/32"]
    nodes.exec_in_node(node, ["ip", *(word.format("add") for word in route)])
    try:
        diagnosis = wait_diagnosis(cluster, default_stack.stack, ("NO_CONNECTION", "network"))
        assert [line.split()[0] for line in diagnosis.text.splitlines() if "NO_CONNECTION" in line] == [node]
    finally:
        nodes.exec_in_node(node, ["ip", *(word.format("del") for word in route)])
    wait_diagnosis(cluster, default_stack.stack)


def test_a_name_that_dns_does_not_answer_is_named_after_an_up_that_failed(cluster: Cluster) -> None:
    settings = {"dnsSuffix": "unanswered.example.com", "readyTimeout": "30s"}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        failed = stack.up(check=False)
        assert failed.returncode != 0
        diagnosis = wait_diagnosis(cluster, stack, ("NAME_NOT_RESOLVED", "DNS"))
        assert "rebind protection" in diagnosis.text


def test_a_stack_that_is_not_deployed_is_told_so(cluster: Cluster) -> None:
    with Stack(environment=cluster.environment) as stack:
        assert diagnose(cluster, stack).faults == {("NOT_DEPLOYED", "stack")}
        quiet = run(
            [sys.executable, "-m", "trust.doctor", "--stack", stack.name, "--if-deployed"],
            cluster.environment, check=False, cwd=REPOSITORY,
        )  # fmt: skip
        assert quiet.returncode == 1
        assert not quiet.stdout
