"""Root file systems of Debian releases: what the nodes boot, some images are made of, and clients run on.

Made by mmdebstrap from the archive that this machine's own apt uses, with signatures verified. Not by debootstrap: that
can neither leave out documentation (a third of a node) nor extract packages without installing them (a Python image
needs no package manager). A tree is never written after it was made: nodes are overlays on it.
"""

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from . import building
from .errors import BuildError
from .paths import ROOTFS

NODE_PACKAGES = (
    "systemd-sysv",
    "dbus",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "ca-certificates",
    "conntrack",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "procps",
    "util-linux",
)

CLIENT_PACKAGES = (
    "buildah",
    "ca-certificates",
    "curl",
    "docker-buildx",
    "docker-cli",
    "docker.io",
    "jq",
    "podman",
    "python3",
    "skopeo",
    "sudo",
)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """How one tree is made."""

    suite: str
    """Debian release, by its code name."""
    variant: str
    """mmdebstrap's variant: `minbase` installs a system, `extract` only unpacks the packages."""
    packages: tuple[str, ...]
    drop: tuple[str, ...] = ()
    """Patterns (`Path.glob`) of what is removed from the tree."""


TREES = {
    "bookworm": Tree(suite="bookworm", variant="minbase", packages=NODE_PACKAGES),
    "trixie": Tree(suite="trixie", variant="minbase", packages=NODE_PACKAGES),
    "clients": Tree(suite="trixie", variant="minbase", packages=CLIENT_PACKAGES),
    "etcd": Tree(suite="trixie", variant="extract", packages=("etcd-server",)),
    "nginx": Tree(
        suite="trixie",
        variant="extract",
        packages=("base-files", "nginx"),
        drop=("usr/lib/*/gconv", "usr/lib/*/perl*", "usr/lib/python3*", "usr/share/*", "var/cache/*", "var/lib/*"),
    ),
    "python": Tree(
        suite="trixie",
        variant="extract",
        packages=("base-files", "busybox-static", "python3"),
        drop=(
            "usr/lib/*/gconv",
            "usr/lib/python3.*/pydoc_data",
            "usr/lib/python3.*/test",
            "usr/share/*",
            "var/cache/*",
            "var/lib/*",
        ),
    ),
}
"""`bookworm` brings containerd 1.6, `trixie` containerd 1.7, `python` Python 3.13 and a static busybox, `nginx` nginx
1.26, `clients` the registry's clients that Debian has."""

KEYRINGS = ("debian-archive-keyring",)
"""The package with the keys that the archive is signed with; Debian has it, other distributions may not."""

NEVER_READ = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")


def ensure(name: str) -> Path:
    """Return the tree `name` of `TREES`, made first if need be (about a minute).

    Raises:
        BuildError: This machine can't make it; the message says why.
    """
    tree = TREES[name]
    key = hashlib.sha256(json.dumps([asdict(tree), NEVER_READ]).encode()).hexdigest()[:12]
    target = ROOTFS / f"{name}-{key}"
    if target.is_dir():
        return target
    with building.lock(ROOTFS / "lock"):
        if not target.is_dir():
            with building.complete_or_absent(target) as partial:
                _make(name, tree, partial)
    return target


def _make(name: str, tree: Tree, target: Path) -> None:
    if os.geteuid() != 0:
        raise BuildError("only root can make root file systems: use sudo, or set KUBECONFIG to use your own cluster")
    install("mmdebstrap")
    options = [f"--variant={tree.variant}", "--mode=root", "--format=directory", f"--include={','.join(tree.packages)}"]
    if tree.variant != "extract":  # the variant `extract` does not run dpkg
        options += [f"--dpkgopt=path-exclude={pattern}" for pattern in NEVER_READ]
    command = ["mmdebstrap", "--quiet", *options, tree.suite, str(target), debian_mirror()]
    building.run(f"root file system {name}: Debian {tree.suite}", command, env=os.environ | _apt_proxy())
    # mmdebstrap lends the tree this machine's name and resolver for the installation; a node has its own.
    for pattern in ("etc/hostname", "etc/resolv.conf", *tree.drop):
        for path in target.glob(pattern):
            building.remove(path)


def install(*packages: str) -> None:
    """Install Debian packages on this machine unless they are there.

    Raises:
        BuildError: This is no Debian machine, or apt could not install them.
    """
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        message = "the local cluster needs Debian, and there is no dpkg here: set KUBECONFIG to use your own cluster"
        raise BuildError(message) from None
    missing = [package for package in packages if f"{package} installed" not in found]
    if not missing:
        return
    _update()
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    building.run(f"apt: {', '.join(missing)}", command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def unfit() -> list[str]:
    """Return why no Debian can be made on this machine, as sentences with the way out; none if it can."""
    if not shutil.which("dpkg"):
        return ["It needs Debian, and there is no dpkg here: go to a Debian machine, or use a cluster of your own."]
    release = platform.freedesktop_os_release()
    if release["ID"] == "debian" or os.environ.get("DEBIAN_MIRROR"):
        return []
    return [
        f"Its nodes are made from a Debian archive, and this is {release.get('NAME', release['ID'])}: give the address "
        "of one, such as make up DEBIAN_MIRROR=https://HOST/debian."
    ]


@functools.cache
def debian_mirror() -> str:
    """Return the address of the Debian archive: DEBIAN_MIRROR, or what this machine's apt sources name.

    Raises:
        BuildError: They name none.
    """
    given = os.environ.get("DEBIAN_MIRROR")
    if given:
        return given
    targets = _index_targets()
    if not targets:  # container images come without package lists
        _update()
        targets = _index_targets()
    for label, component, address in targets:
        if (label, component) == ("Debian", "main"):
            return address
    raise BuildError("apt's sources name no Debian archive: add one, or give its address in DEBIAN_MIRROR")


def _index_targets() -> list[list[str]]:
    """Return label, component and address of each package list that apt has."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL)|$(COMPONENT)|$(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("|") for line in done.stdout.splitlines()]


def _update() -> None:
    building.run("apt: package lists", ["apt-get", "update", "--quiet"])


def _apt_proxy() -> dict[str, str]:
    """Return apt's own proxies as the environment variables that another apt understands."""
    proxies: dict[str, str] = {}
    for scheme in ("http", "https"):
        command = ["apt-config", "--format", "%v", "dump", f"Acquire::{scheme}::Proxy"]
        value = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if value:
            proxies[f"{scheme}_proxy"] = value
    return proxies
