"""The container images that the nodes hold before their first pod, under their public names.

They are made of the programs built here, of Debian's static busybox, and of Debian's Python and nginx, also where their
name ends in `-alpine` or `-alpine-slim`. Paths and commands are those of the public images, where something relies on
them.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import building, image_archive, programs, rootfs
from .image_archive import Config
from .paths import IMAGES

_BUSYBOX = "python"
"""Name of the Debian tree that busybox is taken from."""
ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\nnobody:x:65534:\n",
}
"""Files of /etc in the images that have a shell."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """What is in an image."""

    names: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Path in the image -> path in the folder of programs."""
    folders: tuple[str, ...] = ()
    """Empty folders that the program expects."""
    tree: str = ""
    """Name of the Debian tree that it is made from; see `rootfs.TREES`."""
    busybox: bool = False
    """With busybox, and a link to it for each of its commands that isn't there."""
    config: Config


TABLE = {
    "busybox": Image(
        names=("docker.io/library/busybox:1", "docker.io/library/busybox:latest"),
        busybox=True,
        config=Config(command=("sh",)),
    ),
    "local-path-provisioner": Image(
        names=("docker.io/rancher/local-path-provisioner:v0.0.30",),
        files={"usr/bin/local-path-provisioner": "local-path-provisioner"},
        config=Config(command=("local-path-provisioner",)),
    ),
    "metallb-controller": Image(
        names=("quay.io/metallb/controller:v0.15.2",),
        files={"controller": "metallb/controller"},
        config=Config(entrypoint=("/controller",)),
    ),
    "metallb-speaker": Image(
        names=("quay.io/metallb/speaker:v0.15.2",),
        files={"speaker": "metallb/speaker"},
        config=Config(entrypoint=("/speaker",)),
    ),
    "nginx": Image(
        names=("docker.io/library/nginx:stable-alpine-slim",),
        tree="nginx",
        busybox=True,
        config=Config(command=("nginx", "-g", "daemon off;"), environment=(image_archive.DEFAULT_PATH,)),
    ),
    "pause": Image(
        # What containerd asks for by itself: 1.6; Debian's 1.7; 2.0 and 2.1; 2.2; 2.3 and 2.4.
        names=tuple(f"registry.k8s.io/pause:{tag}" for tag in ("3.6", "3.8", "3.10", "3.10.1", "3.10.2")),
        files={"pause": "pause"},
        config=Config(entrypoint=("/pause",), user="65535:65535"),
    ),
    "python": Image(
        names=("docker.io/library/python:3.13-alpine",),
        tree="python",
        busybox=True,
        config=Config(command=("python3",), environment=(image_archive.DEFAULT_PATH, "LANG=C.UTF-8")),
    ),
    "registry": Image(
        names=("docker.io/library/registry:3",),
        files={"bin/registry": "registry"},
        folders=("var/lib/registry",),
        busybox=True,
        config=Config(entrypoint=("registry",), command=("serve", "/etc/distribution/config.yml")),
    ),
    "traefik": Image(
        names=("docker.io/library/traefik:v3.6",),
        files={"usr/local/bin/traefik": "traefik"},
        config=Config(entrypoint=("traefik",)),
    ),
}


def ensure() -> list[Path]:
    """Return an archive for each image of `TABLE`, made first if need be (some seconds, once the programs are built).

    The name of an archive changes with its content.

    Raises:
        building.BuildError: A program or a Debian tree can't be made here; the message says why.
    """
    binaries = programs.ensure()
    trees = {name: rootfs.ensure(name) for name in {_BUSYBOX, *(image.tree for image in TABLE.values())} - {""}}
    archives: list[Path] = []
    with building.lock(IMAGES / "lock"):
        for name, image in TABLE.items():
            archive = IMAGES / f"{name}-{_key(image, binaries, trees)}.tar"
            if not archive.exists():
                building.announce(f"image {', '.join(image.names)}")
                for old in IMAGES.glob(f"{name}-????????????.tar"):
                    old.unlink()
                with building.complete_or_absent(archive) as partial:
                    _make(partial, image, binaries, trees)
            archives.append(archive)
    return archives


def _key(image: Image, binaries: Path, trees: Mapping[str, Path]) -> str:
    """Return the hash of all that the archive is made from."""
    writers = [Path(module).read_text() for module in (__file__, image_archive.__file__)]
    contents = [_file_digest(binaries / file) for file in image.files.values()]
    used = [trees[name].name for name in (image.tree, _BUSYBOX if image.busybox else "") if name]
    return hashlib.sha256(json.dumps([asdict(image), contents, used, writers]).encode()).hexdigest()[:12]


def _file_digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _make(archive: Path, image: Image, binaries: Path, trees: Mapping[str, Path]) -> None:
    """Put the image's files together, mostly by hard links, and write the archive."""
    with tempfile.TemporaryDirectory(dir=IMAGES, prefix=".root-") as folder:
        root = Path(folder)
        if image.tree:
            # Its devices stay behind: a container gets its own.
            shutil.copytree(trees[image.tree], root, symlinks=True, dirs_exist_ok=True, copy_function=_link)
        if image.tree == "python":
            (root / "usr" / "bin" / "python").symlink_to("python3")
        for target, source in image.files.items():
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            _link(binaries / source, root / target)
        if image.busybox:
            _add_busybox(root, trees[_BUSYBOX] / "usr" / "bin" / "busybox")
        for path in image.folders:
            (root / path).mkdir(parents=True, exist_ok=True)
        (root / "tmp").mkdir(exist_ok=True)
        (root / "tmp").chmod(0o1777)
        image_archive.write(archive, root, names=image.names, config=image.config)


def _link(source: str | Path, target: str | Path) -> None:
    if Path(source).is_file():
        os.link(source, target, follow_symlinks=False)


def _add_busybox(root: Path, busybox: Path) -> None:
    binary = root / "bin" / "busybox"
    binary.parent.mkdir(exist_ok=True)
    if not binary.exists():
        _link(busybox, binary)
    commands = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    for command in commands:
        path = root / command
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() and not path.is_symlink():
            path.symlink_to("/bin/busybox")
    (root / "etc").mkdir(exist_ok=True)
    for name, content in ACCOUNTS.items():
        (root / "etc" / name).unlink(missing_ok=True)  # else a hard link into the tree would be written to
        (root / "etc" / name).write_text(content)
