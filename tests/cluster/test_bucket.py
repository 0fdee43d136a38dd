"""Images in a bucket of a real server: several pods serve them, and nothing is lost when one goes or is replaced."""

import hashlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local_cluster import image_archive, network
from registry.pod import nginx, proof_image

from .support.buckets import BUCKET, BucketServer, bucket_server, command_line, registries
from .support.cluster import Cluster, is_ready
from .support.commands import wait_until
from .support.freed_space import GC, append, gc, layer, repeated, whole
from .support.stacks import Deployed, Stack, deployed_stack, docker_config

pytestmark = pytest.mark.cluster

PUSHES = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[BucketServer]:
    """A server of buckets in the cluster's network."""
    assert cluster.nodes
    with bucket_server(tmp_path_factory.mktemp("buckets")) as running:
        yield running


@pytest.fixture(scope="module")
def stack(cluster: Cluster, server: BucketServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack that keeps its images in the bucket, with two pods."""
    with deployed_stack(cluster, tmp_path_factory.mktemp("deployed"), {**server.settings, "replicas": "2"}) as deployed:
        yield deployed


def pods(deployed: Deployed) -> list[dict[str, Any]]:
    """The registry's pods."""
    labels = "app.kubernetes.io/name=registry"
    return deployed.cluster.get("pods", "-n", deployed.namespace, "-l", labels)["items"]


def own_image(folder: Path, size: int = 0) -> Path:
    """The archive of a new image that nobody can run, with a layer of random bytes."""
    root = folder / secrets.token_hex(8)
    root.mkdir(parents=True)
    (root / "unique").write_bytes(os.urandom(size + 16))
    archive = folder / f"{root.name}.tar"
    config = image_archive.Config(command=("/unique",))
    image_archive.write(archive, root, names=["example.com/app:1"], config=config)
    return archive


def test_an_upload_that_one_registry_began_goes_on_in_another_one_in_pieces_of_any_size(tmp_path: Path) -> None:
    sizes = (3_000_000, 7_000_000, 2_000_000, 12_000_000)  # a part of a bucket's object has 5 MiB at least
    pieces = [os.urandom(size) for size in sizes]
    digest = "sha256:" + hashlib.sha256(b"".join(pieces)).hexdigest()
    with (
        bucket_server(tmp_path, in_cluster=False) as server,
        registries(server, tmp_path, 2) as ports,
    ):

        def send(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request(method, path, body, {"Content-Length": str(len(body)), **headers})
            return connection.getresponse()

        begun = send(ports[0], "POST", "/v2/test/app/blobs/uploads/")
        location, done = begun.headers["Location"], 0
        for number, piece in enumerate(pieces):
            extent = {"Content-Range": f"{done}-{done + len(piece) - 1}"}
            sent = send(ports[(number + 1) % 2], "PATCH", location, piece, **extent)
            assert sent.status == 202, sent.read()
            location, done = sent.headers["Location"], done + len(piece)
        ended = send(ports[1], "PUT", f"{location}&digest={digest}")
        assert ended.status == 201, ended.read()
        for port in ports:
            found = send(port, "GET", f"/v2/test/app/blobs/{digest}")
            assert found.status == 200, "neither sends anybody to the bucket"
            assert hashlib.sha256(found.read()).hexdigest() == digest.removeprefix("sha256:")
        assert [name for name in server.objects("registry-pr-42") if digest.removeprefix("sha256:") in name]


def test_pods_that_push_the_proof_image_at_once_all_have_it_and_need_not_push_it_again(tmp_path: Path) -> None:
    image = proof_image.build("registry-pr-42")
    with (
        bucket_server(tmp_path, in_cluster=False) as server,
        registries(server, tmp_path, 2) as ports,
        ThreadPoolExecutor() as pool,
    ):
        pushers = [proof_image.ProofPusher(f"127.0.0.1:{port}") for port in ports]
        assert [pusher.has(image) for pusher in pushers] == [False, False]

        def has_pushed(pusher: proof_image.ProofPusher) -> bool:
            try:
                pusher.push(image)
            except OSError:
                return False
            return True

        # This server answers 409 to an upload whose folder another request has just found empty and removed, so a push
        # is tried again, as the pod does.
        for _ in range(5):
            list(pool.map(lambda pusher: wait_until(lambda: has_pushed(pusher), "it pushed", timeout=20), pushers))
            assert [pusher.has(image) for pusher in pushers] == [True, True]


def test_a_wrong_key_is_told_in_the_words_of_the_server(tmp_path: Path) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "very-wrong"}
    with (
        bucket_server(tmp_path, in_cluster=False) as server,
        registries(server, tmp_path, 1, wrong) as ports,
    ):
        refusal = proof_image.ProofPusher(f"127.0.0.1:{ports[0]}").refusal()
        reason, sentence = proof_image.state(refusal, 0, 0)
    assert reason == "STORAGE_FAILS"
    assert "SignatureDoesNotMatch" in sentence
    assert "very-wrong" not in sentence


@pytest.mark.slow
def test_kubelets_pull_from_several_pods_what_lies_in_the_bucket_below_the_namespace(
    cluster: Cluster, server: BucketServer, stack: Deployed, app_image: Path, namespace: str
) -> None:
    reference = f"{stack.host}/test/app:1"
    stack.crane("push", app_image, reference)
    stack.start_pods(namespace, reference, cluster.nodes)
    stack.assert_running(namespace, cluster.nodes, timeout=90)
    running = pods(stack)
    assert [is_ready(pod) for pod in running] == [True, True]
    budget = cluster.get("poddisruptionbudget", "-n", stack.namespace, "registry")
    wait_until(
        lambda: (
            cluster.get("poddisruptionbudget", "-n", stack.namespace, "registry")["status"]["disruptionsAllowed"] == 1
        ),
        f"one of the pods may be evicted: {budget['status']}",
        timeout=30,
    )
    # No pull is sent to the bucket, which nodes and laptops need not reach.
    manifest = json.loads(stack.crane("manifest", reference))
    layer = f"https://{stack.host}/v2/test/app/blobs/{manifest['layers'][0]['digest']}"
    ask = ["curl", "--silent", "--cacert", stack.ca_file, "--output", "/dev/null", "--write-out", "%{http_code}", layer]
    assert cluster.run(*ask).stdout == "200"
    blob = manifest["layers"][0]["digest"].removeprefix("sha256:")
    assert f"docker/registry/v2/blobs/sha256/{blob[:2]}/{blob}/data" in server.objects(stack.namespace)
    seen = {"state": stack.stack.state(), "pods": json.dumps(running)}
    for pod in running:
        name = pod["metadata"]["name"]
        seen[name] = cluster.kubectl("logs", "-n", stack.namespace, name, "--all-containers")
    for place, text in seen.items():
        assert server.secret_key not in text, place
        assert server.access_key not in text, place


@pytest.mark.slow
def test_of_20_pushes_at_once_all_that_were_acknowledged_are_there_although_a_pod_was_killed(
    cluster: Cluster, stack: Deployed, tmp_path: Path
) -> None:
    images = {f"{stack.host}/test/many-{number}:1": own_image(tmp_path, 16 * 2**20) for number in range(PUSHES)}
    tries: dict[str, int] = {}

    def push(reference: str) -> str:
        """Push as a client does that tries again; the digest that was acknowledged."""
        for number in range(1, 6):
            tries[reference] = number
            done = stack.run_crane(stack.login, "push", images[reference], reference, check=False)
            if done.returncode == 0:
                return done.stdout.strip().partition("@")[2]
        raise AssertionError(done.stderr)

    with ThreadPoolExecutor(PUSHES) as pool:
        pushes = {reference: pool.submit(push, reference) for reference in images}
        wait_until(lambda: any(each.done() for each in pushes.values()), "a push was acknowledged", timeout=120)
        open_still = [reference for reference, each in pushes.items() if not each.done()]
        assert open_still, "the pod has to be killed while there are pushes"
        killed = pods(stack)[0]["metadata"]["name"]
        cluster.kubectl("delete", "pod", "-n", stack.namespace, killed, "--grace-period=0", "--force")
        acknowledged = {reference: each.result() for reference, each in pushes.items()}
    print(f"killed during {len(open_still)} pushes; tries of each: {sorted(tries.values())}")
    for reference, digest in acknowledged.items():
        assert stack.crane("digest", reference).strip() == digest
        stack.crane("validate", "--remote", reference)  # every layer has its digest
    wait_until(lambda: [is_ready(pod) for pod in pods(stack)] == [True, True], "two pods are ready again", timeout=120)


class Loop:
    """Something that clients do again and again while a stack is changed."""

    def __init__(self) -> None:
        """Nothing was done yet."""
        self.done = 0
        self.failures: list[str] = []
        self.over = threading.Event()

    def run(self, deployed: Deployed, login: Path, *commands: list[str | Path]) -> None:
        """Run commands of crane once."""
        for command in commands:
            answer = deployed.run_crane(login, *command, check=False)
            if answer.returncode:
                self.failures.append(f"{time.monotonic():.1f}: {command}: {answer.stderr}")
        self.done += 1


@pytest.mark.slow
def test_an_up_that_replaces_the_pods_fails_no_pull_and_no_push(
    cluster: Cluster, stack: Deployed, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    reference = f"{stack.host}/loop/app:1"
    stack.crane("push", app_image, reference)
    # The outputs change with the setting `auth`, and the login stays the same.
    login = docker_config(tmp_path / "login", {stack.host: (stack.outputs["username"], stack.outputs["password"])})
    pushes, pulls, kubelets = Loop(), Loop(), Loop()

    def push() -> None:
        while not pushes.over.is_set():
            image = own_image(tmp_path / "pushed", 2**20)
            pushes.run(stack, login, ["push", image, f"{stack.host}/loop/own:{pushes.done}"])

    def pull() -> None:
        while not pulls.over.is_set():
            pulls.run(stack, login, ["pull", reference, tmp_path / "pulled.tar"])

    def pull_by_kubelets() -> None:
        while not kubelets.over.is_set():
            name = f"loop-{kubelets.done}"
            stack.start_pods(namespace, reference, cluster.nodes, name=name)
            stack.assert_running(namespace, cluster.nodes, name=name, timeout=90)
            cluster.kubectl("delete", "pods", "-n", namespace, *(f"{name}-{node}" for node in cluster.nodes))
            kubelets.done += 1

    loops = (pushes, pulls, kubelets)
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(each) for each in (push, pull, pull_by_kubelets)]
        try:
            for auth in ("none", "push"):
                before = {pod["metadata"]["uid"] for pod in pods(stack)}
                done = [loop.done for loop in loops]
                stack.stack.pulumi("config", "set", "auth", auth)
                stack.stack.up()
                assert not before & {pod["metadata"]["uid"] for pod in pods(stack) if is_ready(pod)}
                # The old pods end some time after `up`, and the loops go on until then.
                wait_until(lambda: len(pods(stack)) == 2, "the old pods are gone", timeout=120)
                wait_until(
                    lambda done=done: all(loop.done > before + 1 for loop, before in zip(loops, done, strict=True)),
                    "every loop went on",
                    timeout=90,
                )
        finally:
            for loop in loops:
                loop.over.set()
        for each in running:
            each.result()
    print(f"{pushes.done} pushes, {pulls.done} pulls, {kubelets.done} pulls of every kubelet")
    failures = pushes.failures + pulls.failures
    assert not failures, "\n".join(failures)
    for number in range(pushes.done):
        stack.crane("digest", f"{stack.host}/loop/own:{number}")


def stored(deployed: Deployed, reference: str) -> set[str]:
    """The names of the bucket's objects that hold an image's manifest and its parts."""
    manifest = json.loads(deployed.crane("manifest", reference))
    digest = deployed.crane("digest", reference).strip()
    digests = [digest, manifest["config"]["digest"], *(each["digest"] for each in manifest["layers"])]
    hashes = [each.removeprefix("sha256:") for each in digests]
    return {f"docker/registry/v2/blobs/sha256/{each[:2]}/{each}/data" for each in hashes}


def blobs(server: BucketServer, deployed: Deployed) -> set[str]:
    """The names of all objects that hold a manifest or a part of an image."""
    return {name for name in server.objects(deployed.namespace) if name.startswith("docker/registry/v2/blobs/")}


def answers_to_a_push(deployed: Deployed) -> set[tuple[str, str]]:
    """Status and Retry-After with which each of the registry's pods answers who begins to push without a login."""
    told = "%{http_code} %header{retry-after}"
    ask = ["curl", "--silent", "--output", "/dev/null", "--write-out", told, "--request", "POST"]
    hosts = [f"http://{pod['status']['podIP']}:{nginx.PLAIN_PORT}" for pod in pods(deployed)]
    lines = [deployed.cluster.run(*ask, f"{host}/v2/gc/app/blobs/uploads/").stdout for host in hosts]
    return {(status, after) for status, _, after in (line.partition(" ") for line in lines)}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gc_stops_pushes_in_every_pod_and_takes_out_of_the_bucket_what_no_image_needs_while_pulls_go_on(
    cluster: Cluster, server: BucketServer, stack: Deployed, tmp_path: Path
) -> None:
    host = stack.host
    images = {name: f"{host}/gc/{name}:1" for name in ("child-one", "child-two", "deleted", "moved", "kept")}
    for number, image in enumerate(images.values()):
        pushed = append(stack, image.partition("/")[2], layer(tmp_path, 10**6 + number))
        assert pushed.returncode == 0, pushed.stderr
    objects = {name: stored(stack, image) for name, image in images.items()}
    children = [images["child-one"], images["child-two"]]
    stack.crane("index", "append", "-m", children[0], "-m", children[1], "-t", f"{host}/gc/index:1")
    untagged = stack.crane("digest", images["moved"]).strip()
    stack.crane("copy", images["kept"], images["moved"])
    for name in ("child-one", "child-two", "deleted"):
        stack.crane("delete", f"{host}/gc/{name}@{stack.crane('digest', images[name]).strip()}")
    before = blobs(server, stack)
    assert set().union(*objects.values()) <= before, "a deletion alone frees nothing"
    assert answers_to_a_push(stack) == {("401", "")}

    def pull() -> subprocess.CompletedProcess[str]:
        return stack.run_crane(stack.login, "validate", "--remote", f"{host}/gc/index:1", check=False)

    command = network.client(*GC, stack.stack.name)
    environment = {**os.environ, **cluster.environment}
    with (
        repeated(pull) as pulls,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as free,
    ):
        assert free.stdout
        first = free.stdout.readline()
        assert first.startswith("Pushes are stopped in "), first + free.stdout.read()
        free.send_signal(signal.SIGSTOP)
        try:
            assert all(pod["metadata"]["name"] in first for pod in pods(stack))
            assert answers_to_a_push(stack) == {("503", "30")}
        finally:
            free.send_signal(signal.SIGCONT)
        printed = free.stdout.read()
        assert free.wait() == 0, printed
        assert answers_to_a_push(stack) == {("401", "")}
    assert pulls == []
    assert "Pushes are allowed again" in printed
    assert "MiB" not in printed, "nobody knows how much is free in a bucket"
    assert blobs(server, stack) == before - objects["deleted"]
    assert whole(stack, "gc/index:1")
    assert whole(stack, f"gc/moved@{untagged}"), "it has no tag, and stays unless that is asked for"

    gc(stack, "--untagged")
    left = blobs(server, stack)
    assert not objects["moved"] & left
    assert objects["child-one"] | objects["child-two"] | objects["kept"] <= left
    for reference in ("gc/index:1", "gc/kept:1", "gc/moved:1"):
        assert whole(stack, reference), reference
    assert append(stack, "gc/after:1", layer(tmp_path, 10**6)).returncode == 0
    assert whole(stack, "gc/after:1")


@pytest.mark.slow
def test_stacks_in_one_bucket_do_not_see_each_other_and_destroy_keeps_the_images_and_says_how_to_remove_them(
    cluster: Cluster, server: BucketServer, stack: Deployed, app_image: Path, tmp_path: Path
) -> None:
    stack.crane("push", app_image, f"{stack.host}/test/theirs:1")
    digest = stack.crane("digest", f"{stack.host}/test/theirs:1").strip()
    with deployed_stack(cluster, tmp_path, server.settings) as other:
        other.crane("push", own_image(tmp_path), f"{other.host}/test/ours:1")
        assert "test/theirs" not in other.crane("catalog", other.host).split()
        assert "test/ours" not in stack.crane("catalog", stack.host).split()
        for name in ("test/theirs", "test/ours"):
            missing = other.run_crane(other.login, "manifest", f"{other.host}/{name}@{digest}", check=False)
            assert "MANIFEST_UNKNOWN" in missing.stderr or "NAME_UNKNOWN" in missing.stderr
        removal = other.outputs["removeImages"]
        said = other.stack.destroy().stdout
    assert not cluster.get("namespaces", f"--field-selector=metadata.name={other.namespace}")["items"]
    assert server.objects(other.namespace), "the images are kept"
    assert f"KeptImages destroy-keeps-images-in-{BUCKET} " in said
    before = server.objects(stack.namespace)
    path = f"{command_line()}:{cluster.environment['PATH']}"
    variables = [f"{name}={value}" for name, value in {**server.environment, "PATH": path}.items()]
    cluster.run("env", *variables, "sh", "-c", removal)
    assert server.objects(other.namespace) == []
    assert server.objects(stack.namespace) == before, "those of the other stack are still there"


@pytest.mark.slow
def test_a_key_in_plain_text_is_refused_before_anything_is_made(cluster: Cluster) -> None:
    settings = {"storage": "s3", "s3Bucket": BUCKET, "s3Region": "us-east-1", "s3AccessKey": "x", "s3SecretKey": "x"}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        stack.pulumi("config", "set", "s3SecretKey", "--plaintext", "very-hidden")
        refused = stack.up(check=False)
        assert refused.returncode != 0
        assert "private-registry:s3SecretKey is in plain text" in refused.stdout
        assert "pulumi config set --secret s3SecretKey" in refused.stdout
        assert "very-hidden" not in refused.stdout + refused.stderr
        assert "kubernetes:" not in stack.state()
