"""The proof image is a valid OCI image whose digest never changes by itself."""

import gzip
import hashlib
import io
import json
import os
import platform
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from registry.names import ARCHITECTURES
from registry.pod.proof_image import Content, Image, build, state


@pytest.fixture(scope="module")
def image() -> Image:
    return build("registry-dev")


def _by_digest(image: Image) -> dict[str, Content]:
    return {content.digest: content for content in (*image.blobs, *image.manifests)}


def test_the_digest_is_the_same_on_every_machine(image: Image) -> None:
    # Nodes keep the image by digest, so a change here rolls every DaemonSet: it must be meant.
    assert image.index.digest == "sha256:0db6d87b5e259689322af79207167c3eaea3639a2fce47efeb69222331538cce"


def test_it_is_for_the_architectures_that_nodes_are_chosen_by(image: Image) -> None:
    platforms = [entry["platform"] for entry in json.loads(image.index.data)["manifests"]]
    assert platforms == [{"architecture": each, "os": "linux"} for each in ARCHITECTURES]


def test_every_reference_resolves_with_the_right_size_and_type(image: Image) -> None:
    contents = _by_digest(image)
    for entry in json.loads(image.index.data)["manifests"]:
        manifest = contents[entry["digest"]]
        assert (entry["size"], entry["mediaType"]) == (len(manifest.data), manifest.media_type)
        parsed = json.loads(manifest.data)
        for part in (parsed["config"], *parsed["layers"]):
            blob = contents[part["digest"]]
            assert (part["size"], part["mediaType"]) == (len(blob.data), blob.media_type)
        layer, config = contents[parsed["layers"][0]["digest"]], contents[parsed["config"]["digest"]]
        diff_id = "sha256:" + hashlib.sha256(gzip.decompress(layer.data)).hexdigest()
        assert json.loads(config.data)["rootfs"]["diff_ids"] == [diff_id]


def test_it_serves_both_architectures_in_few_bytes(image: Image) -> None:
    platforms = {m["platform"]["architecture"] for m in json.loads(image.index.data)["manifests"]}
    assert platforms == {"amd64", "arm64"}
    assert sum(len(content.data) for content in _by_digest(image).values()) < 32_768


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the image holds amd64 and arm64 programs")
def test_the_program_of_this_machine_waits_and_ends_on_a_signal(image: Image, tmp_path: Path) -> None:
    wanted = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    contents = _by_digest(image)
    entry = next(m for m in json.loads(image.index.data)["manifests"] if m["platform"]["architecture"] == wanted)
    layer = contents[json.loads(contents[entry["digest"]].data)["layers"][0]["digest"]]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer.data))) as archive:
        file = archive.extractfile("proof")
        assert file
        program = tmp_path / "proof"
        program.write_bytes(file.read())
    program.chmod(0o755)
    process = subprocess.Popen([program])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
    finally:
        os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM


MIB = 2**20
DETAIL = '500 {"errors":[{"code":"UNKNOWN","detail":{"Op":"mkdir","Path":"/var/lib/registry/docker","Err":%d}}]}'


@pytest.mark.parametrize(
    ("refusal", "size", "left", "reason", "part"),
    [
        ("", 100 * MIB, 50 * MIB, "READY", "50 of 100 MiB are left"),
        ("", 1000 * MIB, 16 * MIB, "READY", ""),
        ("", 1000 * MIB, 16 * MIB - 1, "STORAGE_FULL", "15 of 1000 MiB are left"),
        ("", 32 * MIB, 3 * MIB, "READY", ""),
        ("", 32 * MIB, 2 * MIB - 1, "STORAGE_FULL", "run make gc"),
        (DETAIL % 28, 10**12, 10**11, "STORAGE_FULL", "storageSize"),  # there are no inodes left
        ("500 write x: no space left on device", 10**12, 10**11, "STORAGE_FULL", ""),
        (DETAIL % 122, 10**12, 10**11, "STORAGE_FULL", ""),
        (DETAIL % 13, 10**12, 10**11, "STORAGE_NOT_WRITABLE", "chown -R"),
        (DETAIL % 30, 10**12, 10**11, "STORAGE_NOT_WRITABLE", '"Err":30'),
        (DETAIL % 5, 10**12, 10**11, "STORAGE_FAILS", '"Err":5'),
        ("503 unavailable", 10**12, 10**11, "STORAGE_FAILS", "503 unavailable"),
    ],
)
def test_what_is_said_of_the_storage(refusal: str, size: int, left: int, reason: str, part: str) -> None:
    found, sentence = state(refusal, size, left)
    assert found == reason
    assert part in sentence
    assert sentence.endswith(".")
