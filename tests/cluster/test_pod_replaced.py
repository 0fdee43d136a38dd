"""The registry's pod is replaced while somebody pushes: what is under way is completed, what was acknowledged stays."""

import hashlib
import os
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local_cluster import network

from .support.changes import GAP
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SECONDS = 40
SLOW_PUSH = """
import http.client, os, ssl, sys, time
host, ca, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=ca)
login = {"Authorization": "Basic " + os.environ["LOGIN"]}

def send(method, path, body=b"", **headers):
    connection = http.client.HTTPSConnection(host, timeout=60, context=context)
    connection.request(method, path, body, {**login, **headers})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers.get("Location", "")

def pieces():
    for number in range(seconds):
        yield b"x" * 1000000
        if number == 2:
            print("under way", flush=True)
        time.sleep(1)

status, location = send("POST", "/v2/test/slow/blobs/uploads/")
assert status == 202, status
connection = http.client.HTTPSConnection(host, timeout=60, context=context)
connection.request("PATCH", location, pieces(), {**login, "Content-Length": str(seconds * 1000000)})
answer = connection.getresponse()
print(answer.status, flush=True)
location = answer.headers["Location"]
sys.stdin.readline()
status, _ = send("PUT", location + "&digest=sha256:" + os.environ["DIGEST"])
print(status, flush=True)
"""


def pods(deployed: Deployed) -> dict[str, bool]:
    """The ids of the registry's pods, and whether each was told to end."""
    labels = "app.kubernetes.io/name=registry"
    found = deployed.cluster.get("pods", "-n", deployed.namespace, "-l", labels)["items"]
    return {pod["metadata"]["uid"]: "deletionTimestamp" in pod["metadata"] for pod in found}


def test_a_transfer_that_is_under_way_is_completed_and_the_upload_goes_on_in_the_new_pod(
    cluster: Cluster, tmp_path: Path, app_image: Path
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "loadBalancer"}) as deployed:
        reference = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, reference)
        digest = deployed.crane("digest", reference)
        before = pods(deployed)
        deployed.stack.pulumi("config", "set", "auth", "basic")
        user = f"{deployed.outputs['username']}:{deployed.outputs['password']}"
        environment = {
            **os.environ,
            "LOGIN": b64encode(user.encode()).decode(),
            "DIGEST": hashlib.sha256(b"x" * 1000000 * SECONDS).hexdigest(),
        }
        command = [sys.executable, "-c", SLOW_PUSH, deployed.host, str(deployed.ca_file), str(SECONDS)]
        with (
            ThreadPoolExecutor() as pool,
            subprocess.Popen(
                network.client(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            ) as push,
        ):
            assert push.stdout
            assert push.stdin
            assert push.stdout.readline() == "under way\n"
            up = pool.submit(deployed.stack.up)
            wait_until(lambda: True in pods(deployed).values(), "the pod was told to end", timeout=60)

            def answers() -> bool:
                return deployed.run_crane(deployed.login, "digest", reference, check=False).returncode == 0

            wait_until(answers, "the new pod serves", timeout=GAP)
            assert True in pods(deployed).values(), "the old pod still completes the transfer"
            assert push.stdout.readline() == "202\n", "the transfer was completed by the old pod"
            up.result()
            wait_until(lambda: not pods(deployed).keys() & before.keys(), "the old pod is gone", timeout=30)
            push.stdin.write("\n")
            push.stdin.flush()
            assert push.stdout.readline() == "201\n", "the new pod has what the old one acknowledged"
            assert push.wait(30) == 0
        assert deployed.crane("digest", reference) == digest
