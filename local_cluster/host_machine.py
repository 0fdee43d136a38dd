"""Checks and prepares the machine that the local cluster runs on.

Missing packages are installed if apt can do it, but deliberately none that starts a service: etcd's is only unpacked.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import cgroups, programs, rootfs
from .errors import ClusterError
from .paths import CLUSTER, LOCAL, LOCAL_VARIABLE

PACKAGES = ("ca-certificates", "curl", "iproute2", "kmod", "skopeo", "systemd-container", "util-linux")

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
"""Bits of linux/capability.h that network namespaces, mounts and systemd-nspawn need."""

OWN_CLUSTER = "or use a cluster of your own (make up CONTEXT=NAME, or KUBECONFIG)"

KERNEL_SETTINGS = {
    "fs/inotify/max_user_instances": 1024,  # every node has its own systemd, kubelet and containerd, all of one user
    "fs/inotify/max_user_watches": 524288,
    "kernel/keys/root_maxbytes": 25000000,  # each kubelet sets this one and all below at its start
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
}
"""Settings below /proc/sys that a cluster changes for the whole machine.

We raise a setting to its number if it is lower; with None we only save it, so that it can be restored."""

_SAVED_SETTINGS = CLUSTER / "kernel-settings.json"


DISK_GIB = {LOCAL_VARIABLE: 5, "GOCACHE": 9, "GOMODCACHE": 6}
"""What has to be free for nodes and tests, and to build the programs; by the variable that moves the folder."""
MEMORY_GIB = 8


def check() -> None:
    """Check in a moment that a cluster can run on this machine, and install the Debian packages that are missing.

    Raises:
        ClusterError: It can't; the message has a sentence for each reason, with the way out.
        BuildError: apt failed.
    """
    reasons = unfit(built=programs.are_built(programs.DEFAULT))
    if reasons:
        raise ClusterError("\n  ".join(["the local cluster cannot run on this machine:", *reasons]))
    rootfs.install(*PACKAGES, *rootfs.KEYRINGS)
    if "overlay" not in Path("/proc/filesystems").read_text():
        loaded = subprocess.run(["modprobe", "overlay"], capture_output=True, text=True, check=False)
        if loaded.returncode != 0:
            reason = loaded.stderr.strip()
            raise ClusterError(f"the kernel has no overlay file system ({reason}): boot one that has, {OWN_CLUSTER}")


def unfit(*, built: bool) -> list[str]:
    """Return why no cluster can run on this machine: a sentence for each reason, none if it can. Nothing is changed.

    Args:
        built: Whether the programs of the cluster are built already.
    """
    if sys.platform != "linux":
        return [f"It needs Linux, this is {sys.platform}: go to a Debian machine, {OWN_CLUSTER}."]
    reasons: list[str] = []
    if os.geteuid() != 0:
        reasons.append(f"It needs root, this is user {os.geteuid()}: use sudo, {OWN_CLUSTER}.")
    else:
        missing = [name for name, bit in CAPABILITIES.items() if not has_capability(bit)]
        if missing:
            reasons.append(
                f"Root has no {', '.join(missing)} here, which nodes need: leave the container, {OWN_CLUSTER}."
            )
    reasons += rootfs.unfit()
    reasons += _short_of_disk(built=built)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if memory < MEMORY_GIB * 0.9:  # the kernel keeps some of it for itself
        reasons.append(f"It needs {MEMORY_GIB} GiB of memory, and there are {memory:.1f}: take a larger machine.")
    if not cgroups.hierarchies():
        reasons.append(f"No cgroup hierarchy is mounted under {cgroups.ROOT}, so no node can be started: mount it.")
    return reasons


def _short_of_disk(*, built: bool) -> list[str]:
    """Return a sentence for each file system that has too little for what it would get."""
    folders = {LOCAL_VARIABLE: LOCAL} if built else {LOCAL_VARIABLE: LOCAL, **programs.go_caches()}
    systems: dict[int, list[str]] = {}
    for name, folder in folders.items():
        systems.setdefault(_existing(folder).stat().st_dev, []).append(name)
    reasons: list[str] = []
    for names in systems.values():
        needed = sum(DISK_GIB[name] for name in names)
        free = shutil.disk_usage(_existing(folders[names[0]])).free / 2**30
        if free < needed:
            use = "for nodes and tests" if built else "to build its programs"
            where = " and ".join(str(folders[name]) for name in names)
            # Go's caches move with the folder of the local cluster, unless the user has put them where they are.
            theirs = {"GOCACHE": ("GOCACHE",), "GOMODCACHE": ("GOMODCACHE", "GOPATH")}
            chosen = {name for name, variables in theirs.items() if any(map(os.environ.get, variables))}
            moves = dict.fromkeys(name if name in chosen else LOCAL_VARIABLE for name in names)
            reasons.append(
                f"It needs {needed} GiB of disk {use}, and {where} {'has' if len(names) == 1 else 'have'} {free:.0f}: "
                f"free some, or set {' and '.join(moves)} to a folder with more."
            )
    return reasons


def _existing(path: Path) -> Path:
    """Return the path, or the first folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def has_capability(bit: int) -> bool:
    """Tell whether this process has the capability with this number in linux/capability.h."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> bit & 1)


def mounts() -> list[Path]:
    """Return every path at which something is mounted.

    `Path.is_mount` would overlook mounted files, and mounted folders of the same file system.
    """
    return mount_points(Path("/proc/self/mounts").read_text())


def mount_points(table: str) -> list[Path]:
    """Return the paths in the text of /proc/self/mounts, in which white space and backslashes are octal numbers."""
    fields = (line.split(" ")[1] for line in table.splitlines())
    return [Path(re.sub(r"\\([0-7]{3})", lambda number: chr(int(number[1], 8)), field)) for field in fields]


def etcd() -> Path:
    """Return the etcd server: Debian 13's, since the API server serves watches well only with 3.5.13 or newer."""
    return rootfs.ensure("etcd") / "usr" / "bin" / "etcd"


def set_kernel_settings() -> None:
    """Save the settings that a cluster changes, and raise those that are too low for several nodes."""
    saved = {name: int(_setting(name).read_text()) for name in KERNEL_SETTINGS if _setting(name).exists()}
    _SAVED_SETTINGS.write_text(json.dumps(saved))
    for name, value in saved.items():
        least = KERNEL_SETTINGS[name]
        if least is not None and value < least:
            _setting(name).write_text(str(least))


def restore_kernel_settings() -> None:
    """Put the settings back that `set_kernel_settings` saved, if it did."""
    if _SAVED_SETTINGS.exists():
        for name, value in json.loads(_SAVED_SETTINGS.read_text()).items():
            _setting(name).write_text(str(value))


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name
