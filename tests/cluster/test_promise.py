"""The promise: after `pulumi up`, whoever has the CA pushes, and every node has it; `test_life_of_a_stack` pulls."""

import hashlib
import re
from pathlib import Path

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed

pytestmark = pytest.mark.cluster

UNKNOWN_CA = re.compile(r"x509: certificate signed by unknown authority")


def test_crane_refuses_the_registry_without_the_ca(cluster: Cluster, default_stack: Deployed, app_image: Path) -> None:
    refused = cluster.run("crane", "push", app_image, f"{default_stack.host}/test/app:untrusted", check=False)
    assert refused.returncode != 0
    assert UNKNOWN_CA.search(refused.stderr)


def test_skopeo_pushes_with_the_ca_and_is_refused_without(
    cluster: Cluster, default_stack: Deployed, app_image: Path, tmp_path: Path
) -> None:
    (tmp_path / "ca.crt").write_text(default_stack.ca)
    copy = ["skopeo", "--insecure-policy", "copy"]
    images = [f"docker-archive:{app_image}", f"docker://{default_stack.host}/test/app:skopeo"]
    refused = cluster.run(*copy, *images, check=False)
    assert refused.returncode != 0
    assert UNKNOWN_CA.search(refused.stderr)
    trusting = [*copy, "--dest-cert-dir", tmp_path]
    unknown = cluster.run(*trusting, *images, check=False)
    assert unknown.returncode != 0
    assert "unauthorized" in unknown.stderr
    cluster.run(*trusting, "--dest-authfile", default_stack.login / "config.json", *images)
    assert "skopeo" in default_stack.crane("ls", f"{default_stack.host}/test/app").split()


def test_openssl_and_python_accept_the_certificate(cluster: Cluster, default_stack: Deployed) -> None:
    verified = cluster.run(
        "openssl",
        "s_client",
        "-connect",
        f"{default_stack.host}:443",
        "-servername",
        default_stack.host,
        "-verify_hostname",
        default_stack.host,
        "-verify_return_error",
        "-CAfile",
        default_stack.ca_file,
        text="",
    )
    assert "Verify return code: 0 (ok)" in verified.stdout
    strict = (
        "import ssl, sys, urllib.request as r\n"
        "context = ssl.create_default_context(cafile=sys.argv[2])\n"
        "context.verify_flags |= ssl.VERIFY_X509_STRICT\n"
        "print(r.urlopen(f'https://{sys.argv[1]}/', context=context, timeout=10).status)"
    )
    assert cluster.run("python3", "-c", strict, default_stack.host, default_stack.ca_file).stdout.strip() == "200"


def test_a_folder_removed_by_hand_comes_back_and_a_strangers_folder_is_not_touched(
    cluster: Cluster, default_stack: Deployed
) -> None:
    for node in cluster.nodes:
        root = default_stack.hosts_directory(node)
        stranger = root.parent / "stranger.example.com"
        stranger.mkdir()
        (stranger / "hosts.toml").write_text('server = "https://stranger.example.com"\n')
        before = stranger.stat().st_mtime_ns
        for path in root.iterdir():
            path.unlink()
        root.rmdir()
        wait_until(lambda node=node: default_stack.trusted(node), f"our folder is back on {node}", timeout=15)
        assert stranger.stat().st_mtime_ns == before
        assert [path.name for path in stranger.iterdir()] == ["hosts.toml"]
        (stranger / "hosts.toml").unlink()
        stranger.rmdir()


def test_the_state_holds_no_key_and_no_secret_in_plain(default_stack: Deployed) -> None:
    state = default_stack.stack.state()
    assert "PRIVATE KEY" not in state
    secret = default_stack.cluster.get("secret", "-n", default_stack.namespace, "registry-http")
    assert secret["data"]["secret"]
    assert secret["data"]["secret"] not in state


def test_the_proof_image_comes_back_when_somebody_deletes_it(cluster: Cluster, default_stack: Deployed) -> None:
    proof = cluster.get("daemonset", "-n", default_stack.namespace, "trust")["spec"]["template"]["spec"]["containers"][
        0
    ]
    default_stack.crane("manifest", proof["image"])
    default_stack.crane("delete", proof["image"])
    wait_until(
        lambda: (
            cluster.run(
                "env", f"SSL_CERT_FILE={default_stack.ca_file}", "crane", "manifest", proof["image"], check=False
            ).returncode
            == 0
        ),
        "the proof image is back",
        timeout=30,
    )


def test_the_config_map_tells_host_address_and_ca(cluster: Cluster, default_stack: Deployed) -> None:
    data = cluster.get("configmap", "-n", default_stack.namespace, default_stack.outputs["configMap"])["data"]
    assert data == {"host": default_stack.host, "address": default_stack.outputs["address"], "ca.crt": default_stack.ca}


def test_every_node_holds_the_ca_of_the_config_map(default_stack: Deployed) -> None:
    fingerprint = hashlib.sha256(default_stack.ca.encode()).hexdigest()
    for node in default_stack.cluster.nodes:
        assert fingerprint in {
            hashlib.sha256(path.read_bytes()).hexdigest() for path in default_stack.hosts_directory(node).glob("*.crt")
        }
