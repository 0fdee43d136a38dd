"""Writes container images as archives in the format of `docker save`, which containerd, Docker and skopeo read.

The same content gives the same bytes on every machine: entries are sorted, owned by root and of the year 1970.

Sources: docker image specification 1.2 (archive), OCI image specification 1.1 (config).
"""

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

EPOCH = "1970-01-01T00:00:00Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The images' word for what the kernel calls the machine."""

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a container of the image runs unless its pod says otherwise."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = (DEFAULT_PATH,)
    user: str = ""
    architecture: str = ""
    """The kind of processor that its programs are for; empty: this machine's."""


def write(archive: Path, root: Path, *, names: Sequence[str], config: Config) -> None:
    """Write an image of one layer.

    Args:
        archive: The file to write.
        root: Folder with the files of the layer. Devices, sockets and compiled Python are left out.
        names: Full names of the image, `host/path:tag`.
        config: How it runs.
    """
    with tempfile.TemporaryFile(dir=archive.parent) as layer:
        with tarfile.open(fileobj=layer, mode="w") as tar:
            for path in sorted(root.rglob("*")):
                if "__pycache__" not in path.parts:
                    _add(tar, path, str(path.relative_to(root)))
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        size = layer.tell()
        layer.seek(0)
        config_json = _encode(_image_config(config, digest))
        config_name = f"{hashlib.sha256(config_json).hexdigest()}.json"
        manifest = [{"Config": config_name, "RepoTags": list(names), "Layers": [f"{digest}.tar"]}]
        with tarfile.open(archive, mode="w") as tar:
            _add_bytes(tar, "manifest.json", _encode(manifest))
            _add_bytes(tar, config_name, config_json)
            _add_stream(tar, f"{digest}.tar", layer, size)


def _image_config(config: Config, layer: str) -> object:
    return {
        "created": EPOCH,
        "architecture": config.architecture or ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.command),
            "Env": list(config.environment),
            "User": config.user,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": EPOCH, "created_by": "private-registry"}],
    }


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = path.lstat().st_mode & 0o7777
    if path.is_symlink():
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        tar.addfile(entry)
    elif path.is_dir():
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    elif path.is_file():
        entry.size = path.stat().st_size
        with path.open("rb") as content:
            tar.addfile(entry, content)


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    _add_stream(tar, name, io.BytesIO(content), len(content))


def _add_stream(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    tar.addfile(entry, content)


def _encode(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
