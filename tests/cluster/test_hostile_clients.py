"""What a client may try without harm: odd paths, a manifest without end, a thousand slow uploads."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import network
from local_cluster.paths import REPOSITORY

from .support.cluster import Cluster
from .support.stacks import Deployed

pytestmark = pytest.mark.cluster

LONG_NAME = f"/v2/{'a' * 300}/manifests/1"
"""The one to which distribution 3.1 answers 500 and not 4xx: a name of more than 255 characters."""
PATHS = (
    "/v2/../../../etc/passwd",
    "/v2/..%2f..%2f..%2fetc%2fpasswd/tags/list",
    "/v2/%2e%2e/%2e%2e/etc/manifests/1",
    "/v2/team/../../secret/manifests/1",
    "/v2/team/..%2fsecret/manifests/1",
    "/v2/team//app/manifests/1",
    "/v2/team%00/app/manifests/1",
    "/v2/team\\app/manifests/1",
    "/v2/Team/App/manifests/1",
    "/v2/.hidden/manifests/1",
    "/v2/-team/app/manifests/1",
    "/v2/_manifests/manifests/1",
    "/v2/team/_layers/manifests/1",
    "/v2/team/app/manifests/../../x",
    "/v2/team/app/manifests/sha256:../../../../etc/passwd",
    "/v2/team/app/manifests/sha256:zz",
    "/v2/team/app/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd",
    "/v2/team/app/blobs/uploads/..%2f..%2f..%2fx",
    "/v2/team/app/blobs/uploads/not-a-uuid?_state=AAAA",
    LONG_NAME,
    "/v2/team/app/manifests/" + "a" * 300,
    "/v2/team/app/manifests/1?ns=../../x",
)
MANIFEST_CLAIM = 10 * 1024**3
SENT_AT_MOST = 64 * 1024**2
SLOW_CONNECTIONS = 1000
SLOW_SECONDS = 15


@pytest.fixture(autouse=True)
def _the_registry_stays_up(client_registry: Deployed) -> Iterator[None]:
    """After each test the same pod runs, no container of which was restarted: one over its memory limit would be."""
    before = registry_containers(client_registry)
    yield
    assert registry_containers(client_registry) == before
    assert [ready for _, _, _, ready in before] == [True, True]


def registry_containers(deployed: Deployed) -> list[tuple[str, str, int, bool]]:
    pods = deployed.cluster.get("pods", "-n", deployed.namespace, "-l", "app.kubernetes.io/name=registry")["items"]
    return [
        (pod["metadata"]["name"], status["name"], status["restartCount"], status["ready"])
        for pod in pods
        for status in pod["status"]["containerStatuses"]
    ]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_path_trick_is_the_clients_error(
    method: str, cluster: Cluster, client_registry: Deployed, tmp_path: Path
) -> None:
    (tmp_path / "body").write_text("{}")
    urls = [f"https://{client_registry.host}{path}" for path in PATHS]
    # HTTP/2 may end the stream of a body that nobody reads before curl has seen the answer.
    curl = ["curl", "--http1.1", "--silent", "--globoff", "--path-as-is", "--cacert", client_registry.ca_file]
    curl += ["--request", method]
    curl += ["--location", "--max-redirs", "3"]  # to the path without the dots, which has to be refused just so
    if method == "PUT":
        curl += ["--data-binary", f"@{tmp_path / 'body'}"]
    outputs = [word for _ in urls for word in ("--output", "/dev/null")]
    codes = cluster.run(*curl, "--write-out", "%{http_code}\\n", *outputs, *urls).stdout.split()
    others = {path: code for path, code in zip(PATHS, codes, strict=True) if not code.startswith("4")}
    assert others == {LONG_NAME: "500"}
    assert set(client_registry.crane("catalog", client_registry.host).split()) == {"private-registry/proof"}


def test_a_manifest_of_ten_gigabytes_is_refused_early(client_registry: Deployed) -> None:
    send = (
        "import socket, ssl, sys\n"
        "at, ca, claim, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])\n"
        "host, _, port = at.partition(':')\n"
        "context = ssl.create_default_context(cafile=ca)\n"
        "with context.wrap_socket(socket.create_connection((host, port or 443), 30), server_hostname=host) as s:\n"
        "    s.sendall(f'PUT /v2/big/manifest/manifests/1 HTTP/1.1\\r\\nHost: {at}\\r\\n'\n"
        "              f'Content-Type: application/vnd.oci.image.manifest.v1+json\\r\\n'\n"
        "              f'Content-Length: {claim}\\r\\n\\r\\n'.encode())\n"
        "    sent = 0\n"
        "    s.settimeout(0.01)\n"
        "    answer = b''\n"
        "    while not answer and sent < most:\n"
        "        try:\n"
        "            sent += s.send(b' ' * 65536)\n"
        "        except TimeoutError:\n"
        "            pass\n"
        "        except OSError:\n"
        "            break\n"
        "        try:\n"
        "            answer = s.recv(4096)\n"
        "        except TimeoutError:\n"
        "            pass\n"
        "    print(sent, answer.split(b'\\r\\n')[0].decode())\n"
    )
    command = [
        sys.executable,
        "-c",
        send,
        client_registry.host,
        str(client_registry.ca_file),
        str(MANIFEST_CLAIM),
        str(SENT_AT_MOST),
    ]
    done = subprocess.run(network.client(*command), check=True, capture_output=True, text=True, timeout=120)
    sent, _, status = done.stdout.strip().partition(" ")
    assert int(sent) < SENT_AT_MOST
    assert status.startswith("HTTP/1.1 4"), done.stdout


@pytest.mark.alone
@pytest.mark.slow
def test_a_thousand_slow_uploads_do_not_keep_anybody_from_pulling(
    client_registry: Deployed, app_image: Path, tmp_path: Path
) -> None:
    reference = f"{client_registry.host}/test/app:1"
    client_registry.crane("push", app_image, reference)
    command = [
        sys.executable, "-m", "tests.cluster.support.slow_uploads", client_registry.host, str(client_registry.ca_file),
        str(SLOW_CONNECTIONS), str(SLOW_SECONDS),
    ]  # fmt: skip
    with subprocess.Popen(network.client(*command), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as slow:
        assert slow.stdout
        assert slow.stdout.readline() == f"{SLOW_CONNECTIONS}\n"
        end = time.monotonic() + SLOW_SECONDS - 5
        pulls = 0
        while time.monotonic() < end:
            client_registry.crane("pull", reference, tmp_path / "pulled.tar", timeout=10)
            pulls += 1
        assert slow.poll() is None, "they were held all the time"
        assert pulls >= 5
        assert slow.wait(60) == 0
