"""Builds the commands that boot, isolate and enter machines, for the cluster's nodes and for the tests.

There are three kinds of machines, and this module is the one place for what they share:

- A node of the cluster (`nodes.py`) boots a real systemd by systemd-nspawn. Its files are on a disk, so that it can be
  restarted, and it is on the cluster's network.
- The machine of the runtime matrix (`tests/cluster/support/matrix`) boots a real systemd by systemd-nspawn as well. Its
  files are in memory, and it has a network of its own.
- The machine of a client (`tests/cluster/support/clients.py`) runs single commands and no systemd. Its files are in
  memory, and it is on the cluster's network.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from . import cgroups

MASKED_UNITS = (
    # These four would change the kernel of the machine that everything runs on.
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    # A machine that lives for minutes has no use for these.
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-networkd.service",
    "systemd-pstore.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
)
"""Units that no machine's systemd may start."""

ENVIRONMENT = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "yes"}
"""What systemd-nspawn needs in its environment, so that kubelets and container runtimes can write to /proc and /sys."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are found on a machine."""

NAMESPACES = ("mount", "uts", "ipc", "net", "pid", "cgroup")
"""The namespaces that a systemd-nspawn machine does not share with the host."""

_JOIN = 'until [ "$1" = -- ]; do echo $$ > "$1" || exit; shift; done; shift; exec "$@"'

_OVERLAY = """
trees=$1 state=$2; shift 2
mount -t tmpfs tmpfs "$state"
mkdir "$state/upper" "$state/work" "$state/root"
mount -t overlay overlay -o "lowerdir=$trees,upperdir=$state/upper,workdir=$state/work" "$state/root"
"""


def nspawn(name: str, root: Path, *options: str, init: Sequence[str] = ()) -> list[str]:
    """Return the command that boots the systemd of a file system as a machine that container runtimes can run on.

    Args:
        name: The machine's name; also the host name that it starts with.
        root: The root of its file system.
        options: Further options of systemd-nspawn(1): its network, and what is mounted into it.
        init: Arguments of its systemd.
    """
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={root}",
        f"--machine={name}",
        "--settings=no",
        "--register=no",  # the host may have no systemd of its own, with which a machine could be registered
        "--keep-unit",
        "--console=read-only",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--capability=all",
        "--system-call-filter=@mount @keyring @privileged @raw-io bpf perf_event_open",
        *options,
        # Since version 256, systemd runs on control groups of version 1 only with this word. Older ones ignore it.
        "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",
        *init,
    ]


def in_control_groups(name: str, *command: str) -> list[str]:
    """Make the control groups of a machine, and return the command that runs `command` inside them.

    Raises:
        ClusterError: The host has no control groups.
    """
    joins = [str(path) for path in cgroups.create(name)]
    return ["sh", "-c", _JOIN, "sh", *joins, "--", *command]


def on_overlay(
    trees: Sequence[Path], state: Path, script: str, *arguments: str, unshare: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs a shell script beside a file system in memory that ends with the script.

    The script runs in a mount namespace of its own and stops at the first command that fails. It finds the root of the
    file system in `$state/root`, and may put more into the folder `$state`, which is in memory, too.

    Args:
        trees: Read-only root file systems that the new one is laid over; what is in the first one wins.
        state: An empty folder of the host, which stays empty for everybody else.
        script: The shell script.
        arguments: Its arguments.
        unshare: Options of unshare(1) for further namespaces.
    """
    words = [":".join(map(str, trees)), str(state), *arguments]
    return ["unshare", "--mount", "--propagation=private", *unshare, "sh", "-euc", _OVERLAY + script, "boot", *words]


def enter(init: int, *command: str, namespaces: Sequence[str] = NAMESPACES) -> list[str]:
    """Return the command that runs `command` on a machine.

    Args:
        init: Id of the machine's process 1, as the host sees it.
        command: Program and arguments; the program is looked for in the machine's file system.
        namespaces: Those of `NAMESPACES` that the machine has.
    """
    return ["nsenter", f"--target={init}", *(f"--{namespace}" for namespace in namespaces), "--", *command]


def init_process(name: str) -> int | None:
    """Return the id, as the host sees it, of the process 1 of a systemd-nspawn machine; None if there is none yet."""
    for pid in cgroups.processes(name):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # the process has ended since it was listed
            continue
        # The line has one id per nested PID namespace: two for the machine's process 1, three for that of a container.
        if any(re.fullmatch(r"NSpid:\s+\d+\s+1", line) for line in status.splitlines()):
            return pid
    return None
