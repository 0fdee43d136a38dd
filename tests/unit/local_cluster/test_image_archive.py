"""Archives of images: the same content gives the same bytes."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from local_cluster import image_archive
from local_cluster.image_archive import Config

NAME = "docker.io/library/example:1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "program").write_bytes(b"\x7fELF")
    (folder / "bin" / "program").chmod(0o755)
    (folder / "bin" / "link").symlink_to("program")
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    (folder / "lib" / "__pycache__").mkdir(parents=True)
    (folder / "lib" / "__pycache__" / "module.pyc").write_bytes(b"")
    os.mkfifo(folder / "queue")
    return folder


def write(archive: Path, root: Path, config: Config | None = None) -> bytes:
    image_archive.write(archive, root, names=[NAME, f"{NAME}-alias"], config=config or Config())
    return archive.read_bytes()


def read(archive: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Return manifest, config and layer of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(files["manifest.json"])
    (layer,) = manifest["Layers"]
    return manifest, json.loads(files[manifest["Config"]]), files[layer]


def test_the_same_content_gives_the_same_archive(tmp_path: Path, root: Path) -> None:
    first = write(tmp_path / "first.tar", root)
    for path in (root / "bin" / "program", root / "bin", root):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    assert write(tmp_path / "second.tar", root) == first


def test_other_content_gives_another_archive(tmp_path: Path, root: Path) -> None:
    first = write(tmp_path / "first.tar", root)
    (root / "bin" / "program").write_bytes(b"\x7fELG")
    assert write(tmp_path / "second.tar", root) != first


def test_an_archive_names_its_image_and_the_digests_of_its_parts(tmp_path: Path, root: Path) -> None:
    manifest, config, layer = read(write(tmp_path / "archive.tar", root))
    assert manifest["RepoTags"] == [NAME, f"{NAME}-alias"]
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    encoded = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    assert manifest["Config"] == f"{hashlib.sha256(encoded).hexdigest()}.json"


def test_a_config_says_how_the_container_runs(tmp_path: Path, root: Path) -> None:
    wanted = Config(entrypoint=("/program",), command=("--serve",), environment=("A=1",), user="65535:65535")
    _, config, _ = read(write(tmp_path / "archive.tar", root, wanted))
    assert config["config"] == {"Entrypoint": ["/program"], "Cmd": ["--serve"], "Env": ["A=1"], "User": "65535:65535"}
    assert (config["os"], config["created"]) == ("linux", "1970-01-01T00:00:00Z")


def test_a_layer_keeps_modes_and_links_and_forgets_owners_and_times(tmp_path: Path, root: Path) -> None:
    os.chown(root / "bin" / "program", 1234, 1234) if os.geteuid() == 0 else None
    _, _, layer = read(write(tmp_path / "archive.tar", root))
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        entries = {entry.name: entry for entry in tar}
    assert list(entries) == ["bin", "bin/link", "bin/program", "lib", "tmp"]
    assert {(e.uid, e.gid, e.uname, e.gname, e.mtime) for e in entries.values()} == {(0, 0, "", "", 0)}
    assert entries["bin/program"].mode == 0o755
    assert entries["tmp"].mode == 0o1777
    assert entries["bin/link"].linkname == "program"
