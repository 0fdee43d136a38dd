"""The registry's storage, without a cluster: it is full, it is collected, and its registry is killed."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_cluster import programs

from .support import messages
from .support.commands import wait_until
from .support.front import Front, front

pytestmark = pytest.mark.cluster  # not the cluster itself, but what it is built from

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ANY = {"Accept": f"{MANIFEST}, {INDEX}"}
PUSHES = 20


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def image(*layers: bytes) -> tuple[bytes, bytes]:
    """The manifest of an image with these layers, and its configuration."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    described = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(layer), "size": len(layer)}
        for layer in layers
    ]
    head = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": len(config)}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": head, "layers": described}).encode(), config


def put_manifest(made: Front, repository: str, name: str, manifest: bytes, kind: str = MANIFEST) -> tuple[int, bytes]:
    """Push a manifest under a tag or a digest; status and text of the answer."""
    path = f"/v2/{repository}/manifests/{name}"
    status, _, body = made.ask("PUT", path, body=manifest, headers={"Content-Type": kind})
    return status, body


def push(made: Front, repository: str, tag: str, *layers: bytes) -> str:
    """Push an image under a tag, or by its digest if there is none; its digest."""
    manifest, config = image(*layers)
    for each in (config, *layers):
        made.push_blob(repository, each)
    assert put_manifest(made, repository, tag or digest_of(manifest), manifest)[0] == 201
    return digest_of(manifest)


def missing(made: Front, repository: str, name: str) -> list[str]:
    """What a client would not get of an image: its manifest, children and blobs, each read and compared."""
    status, headers, body = made.ask("GET", f"/v2/{repository}/manifests/{name}", headers=ANY)
    if status != 200:
        return [f"{repository}@{name}"]
    assert headers["Docker-Content-Digest"] == digest_of(body)
    content = json.loads(body)
    gone = [each for child in content.get("manifests", []) for each in missing(made, repository, child["digest"])]
    for each in (*content.get("layers", []), *([content["config"]] if "config" in content else [])):
        status, _, blob = made.ask("GET", f"/v2/{repository}/blobs/{each['digest']}")
        if status != 200 or digest_of(blob) != each["digest"]:
            gone.append(f"{repository}@{each['digest']}")
    return gone


def collect(made: Front) -> str:
    """Free space as `make gc` does; what is printed."""
    made.stop_pushes(60)
    for verb in ("settle", "collect"):
        process = made.start_gc(verb)
        printed = process.communicate(timeout=60)[0]
        assert process.returncode == 0, printed
    (made.folder / "run" / "stopped").unlink()
    return printed


def stored(made: Front) -> set[str]:
    """The digests of all blobs that take space."""
    return {f"sha256:{path.parent.name}" for path in (made.folder / "data").glob("docker/registry/v2/blobs/*/*/*/data")}


@contextmanager
def small_storage(folder: Path, size: str) -> Generator[None]:
    """Have the images in a file system of its own that is soon full."""
    data = folder / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", data], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", data], check=True)


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Path]:
    """A folder with twenty layers of random bytes."""
    folder = tmp_path / "layers"
    folder.mkdir()
    for number in range(PUSHES):
        (folder / f"{number}.tar").write_bytes(os.urandom(2**21))
    yield folder
    shutil.rmtree(folder)


def crane(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run crane, which uses plain HTTP for localhost."""
    command = [programs.ensure() / "crane", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_what_was_acknowledged_is_there_after_the_registry_was_killed_during_twenty_pushes(
    tmp_path: Path, layers: Path
) -> None:
    with front(tmp_path) as made, ThreadPoolExecutor(PUSHES) as pool:
        place = f"localhost:{made.plain_port}/test"
        reference = {n: f"{place}/app-{n % 3}:{n}" for n in range(PUSHES)}

        def push_one(number: int) -> subprocess.CompletedProcess[str]:
            return crane("append", "--insecure", "-f", layers / f"{number}.tar", "-t", reference[number])

        pushes = [pool.submit(push_one, number) for number in range(PUSHES)]
        uploads = tmp_path / "data" / "docker" / "registry" / "v2" / "repositories"
        wait_until(lambda: list(uploads.glob("*/*/_uploads/*/data")), "layers are on their way", timeout=30, interval=0)
        made.behind.kill()
        made.behind.start()
        done = [each.result() for each in pushes]
        failed = [number for number, each in enumerate(done) if each.returncode]
        assert "502" in "".join(each.stderr for each in done), "no push was hit"
        for number in set(range(PUSHES)) - set(failed):
            digest = done[number].stdout.strip().rpartition("@")[2]
            assert missing(made, f"test/app-{number % 3}", str(number)) == []
            assert crane("digest", reference[number]).stdout.strip() == digest
        for number in failed:
            assert push_one(number).returncode == 0, "the same push works when it is repeated"
            assert missing(made, f"test/app-{number % 3}", str(number)) == []


def uploads_under_way(made: Front) -> int:
    """How many requests of uploads the registry serves."""
    found = re.findall(
        r'^registry_http_in_flight_requests\{handler="blob_upload.*"\} (\d+)', made.metrics(), re.MULTILINE
    )
    assert found
    return sum(map(int, found))


def test_a_full_storage_refuses_pushes_with_a_sentence_and_serves_pulls_until_space_is_freed(tmp_path: Path) -> None:
    with small_storage(tmp_path, "40m"), front(tmp_path) as made, made.proof_image() as log:
        place = f"localhost:{made.plain_port}/test"
        wait_until(lambda: "pushed private-registry/proof" in log.read_text(), "the proof image is there", timeout=20)
        assert "40 MiB are left" in log.read_text()
        push(made, "test/small", "1", os.urandom(2**20))
        (tmp_path / "big.tar").write_bytes(os.urandom(60 * 2**20))
        too_big = ("append", "--insecure", "-f", tmp_path / "big.tar", "-t", f"{place}/big:1")
        refused = crane(*too_big)
        assert refused.returncode != 0
        assert messages.NO_SPACE in refused.stderr
        wait_until(lambda: '"STORAGE_FULL"' in log.read_text(), "it is said", timeout=20)
        refused = crane(*too_big)
        assert refused.returncode != 0
        assert messages.STORAGE_FULL in refused.stderr
        status, _, body = made.ask("POST", "/v2/test/small/blobs/uploads/")
        assert (status, json.loads(body)["errors"][0]["code"]) == (507, "DENIED")
        assert missing(made, "test/small", "1") == []
        assert made.ask("GET", "/")[0] == 200, "the pod stays ready"
        assert (tmp_path / "ready").exists()
        assert made.ask("DELETE", "/v2/test/small/manifests/none")[0] == 404, "what is deleted needs no space"
        # What a request still has open is freed when that ends.
        wait_until(lambda: uploads_under_way(made) == 0, "no upload is under way", timeout=60)
        assert int(re.findall(r"freed (\d+) MiB", collect(made))[0]) > 30
        wait_until(lambda: log.read_text().count('"READY"') == 2, "it is said that it recovered", timeout=20)
        assert log.read_text().count("pushed private-registry/proof") == 1, "it was there all the time"
        push(made, "test/small", "2", os.urandom(2**20))
        assert missing(made, "test/small", "1") == missing(made, "test/small", "2") == []


def test_what_no_manifest_needs_goes_and_the_children_of_an_index_stay(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        children = [push(made, "test/multi", "", os.urandom(1000)) for _ in range(2)]
        described = [{"mediaType": MANIFEST, "digest": child, "size": 1} for child in children]
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described}).encode()
        assert put_manifest(made, "test/multi", "1", index, INDEX)[0] == 201
        deleted = push(made, "test/app", "deleted", os.urandom(1000), b"in both")
        push(made, "test/app", "kept", b"in both")
        before = push(made, "test/app", "moved", os.urandom(1000))
        push(made, "test/app", "moved", os.urandom(1000))
        assert made.ask("DELETE", f"/v2/test/app/manifests/{deleted}")[0] == 202
        given_up = made.ask("POST", "/v2/test/app/blobs/uploads/")[1]["Location"]
        held = len(stored(made))
        collect(made)
        assert len(stored(made)) == held - 2, "the deleted manifest and its own layer"
        assert missing(made, "test/multi", "1") == []
        for name in ("kept", "moved", before):
            assert missing(made, "test/app", name) == []
        assert made.ask("PUT", f"{given_up}&digest={digest_of(b'')}")[0] == 404


def test_while_space_is_freed_pushes_are_told_to_come_back_and_pulls_go_on(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        push(made, "test/app", "1", b"layer")
        upload = made.ask("POST", "/v2/test/app/blobs/uploads/")[1]["Location"]
        made.stop_pushes(60)
        requests = [
            ("POST", "/v2/test/app/blobs/uploads/"),
            ("PATCH", upload),
            ("PUT", f"{upload}&digest={digest_of(b'')}"),
            ("PUT", "/v2/test/app/manifests/2"),
            ("DELETE", "/v2/test/app/manifests/1"),
            ("POST", "/v2/test/app/blobs/uploads/?mount=x&from=y"),
        ]
        for method, path in requests:
            for plain in (False, True):
                status, headers, body = made.ask(method, path, body=b"x", plain=plain)
                assert (status, headers["Retry-After"]) == (503, "30"), (method, path, status)
                assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"
                assert json.loads(body)["errors"][0]["code"] == "UNAVAILABLE"
        assert missing(made, "test/app", "1") == []
        assert made.ask("GET", "/v2/")[0] == 200
        assert made.ask("GET", "/stopped")[0] == made.ask("GET", "/full")[0] == 404
        (tmp_path / "run" / "stopped").unlink()
        assert made.ask("POST", "/v2/test/app/blobs/uploads/")[0] == 202


def test_pushes_come_back_by_themselves_when_nobody_prolongs_that_they_are_stopped(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        made.stop_pushes(3)
        assert made.ask("POST", "/v2/test/app/blobs/uploads/")[0] == 503

        def allowed() -> bool:
            return made.ask("POST", "/v2/test/app/blobs/uploads/")[0] == 202

        wait_until(allowed, "pushes are allowed again", timeout=20)
        assert "nobody has prolonged" in made.log()


def test_a_push_that_was_under_way_gets_an_error_and_works_when_it_is_repeated(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        layer = os.urandom(2**20)
        manifest, config = image(layer)
        made.push_blob("test/app", config)
        upload = made.ask("POST", "/v2/test/app/blobs/uploads/")[1]["Location"]
        connection = made.connect()
        connection.putrequest("PATCH", upload)
        connection.putheader("Content-Length", str(len(layer)))
        connection.endheaders(layer[: 2**19])
        data = tmp_path / "data"

        def arrived() -> int:
            return sum(path.stat().st_size for path in data.rglob("_uploads/*/data"))

        wait_until(lambda: arrived() >= 2**18, "the layer is on its way", timeout=20)
        collect(made)
        connection.send(layer[2**19 :])
        answer = connection.getresponse()
        location = answer.headers["Location"]
        status, _, body = made.ask("PUT", f"{location}&digest={digest_of(layer)}")
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, "BLOB_UPLOAD_UNKNOWN")
        connection.close()
        status, body = put_manifest(made, "test/app", "1", manifest)
        assert (status, json.loads(body)["errors"][0]["code"]) == (400, "MANIFEST_BLOB_UNKNOWN"), "none without blobs"
        assert push(made, "test/app", "1", layer) == digest_of(manifest)
        assert missing(made, "test/app", "1") == []


def test_a_manifest_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        manifest, config = image(b"layer")
        for each in (config, b"layer"):
            made.push_blob("test/app", each)
        connection = made.connect()
        connection.putrequest("PUT", "/v2/test/app/manifests/1")
        connection.putheader("Content-Type", MANIFEST)
        connection.putheader("Content-Length", str(len(manifest)))
        connection.endheaders(manifest[:10])

        def on_its_way() -> bool:
            return 'in_flight_requests{handler="manifest"} 1' in made.metrics()

        wait_until(on_its_way, "the registry has got the beginning", timeout=20)
        made.stop_pushes(60)
        waiting = made.start_gc("settle")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(3)
        connection.send(manifest[10:])
        assert connection.getresponse().status == 201
        connection.close()
        assert waiting.wait(10) == 0
        collect(made)
        assert missing(made, "test/app", "1") == []


def test_nothing_is_collected_unless_pushes_are_stopped_for_long_enough(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        made.push_blob("test/app", b"nobody needs this")
        for seconds in (0, 20):
            if seconds:
                made.stop_pushes(seconds)
            process = made.start_gc("collect")
            assert "pushes are not stopped" in process.communicate(timeout=20)[0]
            assert process.returncode == 1
        assert stored(made) == {digest_of(b"nobody needs this")}


def test_a_collection_that_nobody_watches_any_longer_ends_before_pushes_are_allowed(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        made.push_blob("test/app", b"nobody needs this")
        os.mkfifo(tmp_path / "pipe.yml")  # as if it had much to do: it waits for its configuration
        made.stop_pushes(33)
        process = made.start_gc("collect", tmp_path / "pipe.yml")
        printed = process.communicate(timeout=20)[0]
        assert "nobody keeps pushes stopped" in printed
        assert process.returncode == 1
        assert time.time() < float((tmp_path / "run" / "stopped").read_text()), "pushes are still stopped"
        assert not commands_with(str(tmp_path / "pipe.yml"))
        assert stored(made) == {digest_of(b"nobody needs this")}


def commands_with(word: str) -> list[str]:
    """The processes that have a word in their command."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path.parent.name] if word.encode() in path.read_bytes() else []
    return found
