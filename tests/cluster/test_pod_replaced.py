"""The registry's pod is replaced while somebody pushes: what is under way is completed, what was acknowledged stays."""

import hashlib
import os
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_cluster import network
from registry.pod.nginx import DRAIN

from .support.changes import GAP
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

MEGABYTE = b"x" * 1000000
SLOW_PUSH = """
import http.client, os, ssl, sys, time
host, ca, megabytes, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
context = ssl.create_default_context(cafile=ca)
login = {"Authorization": "Basic " + os.environ["LOGIN"]}

def send(method, path, body=b"", **headers):
    connection = http.client.HTTPSConnection(host, timeout=60, context=context)
    connection.request(method, path, body, {**login, **headers})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers.get("Location", "")

def pieces(pause):
    for number in range(megabytes):
        yield b"x" * 1000000
        if number == 2 and pause:
            print("under way", flush=True)
        time.sleep(pause)

def upload(pause):
    status, location = send("POST", "/v2/test/slow/blobs/uploads/")
    assert status == 202, status
    return send("PATCH", location, pieces(pause), **{"Content-Length": str(megabytes * 1000000)})

try:
    status, location = upload(pause)
except (OSError, http.client.HTTPException) as error:
    status = "cut off by " + type(error).__name__
print(status, flush=True)
sys.stdin.readline()
if status != 202:
    status, location = upload(0)
status, _ = send("PUT", location + "&digest=sha256:" + os.environ["DIGEST"])
print(status, flush=True)
"""
"""Uploads a layer in one request, slowly. Once it is told to go on, it repeats an upload that was cut off, and closes
the upload."""


def pods(deployed: Deployed) -> dict[str, bool]:
    """The ids of the registry's pods, and whether each was told to end."""
    labels = "app.kubernetes.io/name=registry"
    found = deployed.cluster.get("pods", "-n", deployed.namespace, "-l", labels)["items"]
    return {pod["metadata"]["uid"]: "deletionTimestamp" in pod["metadata"] for pod in found}


@dataclass(kw_only=True)
class SlowPush:
    """A slow push that is under way."""

    process: subprocess.Popen[str]

    def says(self) -> str:
        """The next line that the client prints."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Tell the client to go on."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def slow_push(deployed: Deployed, megabytes: int, pause: float) -> Iterator[SlowPush]:
    """A client that pushes a layer of so many megabytes, with a pause in seconds after each."""
    user = f"{deployed.outputs['username']}:{deployed.outputs['password']}"
    environment = {**os.environ, "LOGIN": b64encode(user.encode()).decode(), "DIGEST": digest_of(megabytes)}
    command = [sys.executable, "-c", SLOW_PUSH, deployed.host, str(deployed.ca_file), str(megabytes), str(pause)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(network.client(*command), env=environment, **pipes) as process:
        push = SlowPush(process=process)
        assert push.says() == "under way"
        yield push
        assert process.wait(30) == 0


def digest_of(megabytes: int) -> str:
    """SHA-256 of the layer, in hexadecimal digits."""
    digest = hashlib.sha256()
    for _ in range(megabytes):
        digest.update(MEGABYTE)
    return digest.hexdigest()


def test_a_transfer_that_is_under_way_is_completed_and_the_upload_goes_on_in_the_new_pod(
    cluster: Cluster, tmp_path: Path, app_image: Path
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "loadBalancer"}) as deployed:
        reference = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, reference)
        digest = deployed.crane("digest", reference)
        before = pods(deployed)
        deployed.stack.pulumi("config", "set", "auth", "basic")
        with ThreadPoolExecutor() as pool, slow_push(deployed, 40, 1) as push:
            up = pool.submit(deployed.stack.up)
            wait_until(lambda: True in pods(deployed).values(), "the pod was told to end", timeout=60)

            def answers() -> bool:
                return deployed.run_crane(deployed.login, "digest", reference, check=False).returncode == 0

            wait_until(answers, "the new pod serves", timeout=GAP)
            assert True in pods(deployed).values(), "the old pod still completes the transfer"
            assert push.says() == "202", "the transfer was completed by the old pod"
            up.result()
            wait_until(lambda: not pods(deployed).keys() & before.keys(), "the old pod is gone", timeout=30)
            push.go_on()
            assert push.says() == "201", "the new pod has what the old one acknowledged"
        assert deployed.crane("digest", reference) == digest


@pytest.mark.timeout(900)
def test_l2_a_slow_push_of_2_gb_survives_or_gets_an_error_and_what_was_acknowledged_stays(
    cluster: Cluster, tmp_path: Path, app_image: Path
) -> None:
    megabytes, pause = 2000, 2 * DRAIN / 2000
    with deployed_stack(cluster, tmp_path, {"exposure": "loadBalancer"}) as deployed:
        reference = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, reference)
        manifest = deployed.crane("manifest", reference)
        deployed.stack.pulumi("config", "set", "auth", "basic")
        with ThreadPoolExecutor() as pool, slow_push(deployed, megabytes, pause) as push:
            up = pool.submit(deployed.stack.up)
            outcome = push.says()
            # It takes twice as long as a pod has to end; but on a slow machine `up` may come late.
            assert re.fullmatch("202|cut off by [A-Za-z]+", outcome)
            assert up.result().returncode == 0
            assert deployed.crane("manifest", reference) == manifest
            deployed.crane("pull", reference, tmp_path / "pulled.tar")
            push.go_on()
            assert push.says() == "201", "a push that was cut off works when it is repeated"
        blob = f"{deployed.host}/test/slow@sha256:{digest_of(megabytes)}"
        command = ["sh", "-c", f"crane blob {blob} | sha256sum"]
        environment = [f"SSL_CERT_FILE={deployed.ca_file}", f"DOCKER_CONFIG={deployed.login}"]
        assert digest_of(megabytes) in cluster.run("env", *environment, *command).stdout
