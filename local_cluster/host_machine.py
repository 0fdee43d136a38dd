"""Checks and prepares the machine that the local cluster runs on.

Missing packages are installed if apt can do it, but deliberately none that starts a service: etcd's is only unpacked.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from . import rootfs
from .errors import ClusterError
from .paths import CLUSTER

PACKAGES = ("ca-certificates", "curl", "iproute2", "kmod", "skopeo", "systemd-container", "util-linux")

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
"""Bits of linux/capability.h that network namespaces, mounts and systemd-nspawn need."""

OWN_CLUSTER = "or set KUBECONFIG to use a cluster of your own"

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


def check() -> None:
    """Check that a cluster can run on this machine, and install the Debian packages that are missing.

    Raises:
        ClusterError: It can't; the message names the first reason.
        BuildError: This is no Debian machine, or apt failed.
    """
    if sys.platform != "linux":
        raise ClusterError(
            f"the local cluster needs Linux, this is {sys.platform}: go to a Debian machine, {OWN_CLUSTER}"
        )
    if os.geteuid() != 0:
        raise ClusterError(f"the local cluster needs root, this is user {os.geteuid()}: use sudo, {OWN_CLUSTER}")
    for name, bit in CAPABILITIES.items():
        if not has_capability(bit):
            raise ClusterError(f"root has no {name} here, which nodes need: leave the container, {OWN_CLUSTER}")
    rootfs.install(*PACKAGES)
    if "overlay" not in Path("/proc/filesystems").read_text():
        loaded = subprocess.run(["modprobe", "overlay"], capture_output=True, text=True, check=False)
        if loaded.returncode != 0:
            reason = loaded.stderr.strip()
            raise ClusterError(f"the kernel has no overlay file system ({reason}): boot one that has, {OWN_CLUSTER}")


def has_capability(bit: int) -> bool:
    """Tell whether this process has the capability with this number in linux/capability.h."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> bit & 1)


def mounts() -> list[Path]:
    """Return every path at which something is mounted.

    `Path.is_mount` would overlook mounted files, and mounted folders of the same file system.
    """
    return [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]


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
