"""A registry for clients, and a machine of its own for each: a fresh Debian in the cluster's network, gone in the end.

Clients write to /etc, to the home folder and to the system's store of CAs, and some are daemons. None of that reaches
the machine that runs the tests: the file system is an overlay in memory over a Debian of its own, and whatever was
started ends with it.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from local_cluster import machine, network, programs, rootfs
from local_cluster.paths import BIN, REPOSITORY

from .cluster import Cluster
from .commands import run, wait_until
from .stacks import Deployed, Stack

EXPOSURES = (
    "ingress",
    pytest.param("loadBalancer", marks=pytest.mark.slow),
    pytest.param("nodePort", marks=pytest.mark.slow),
)
"""Values of the setting `exposure`; the two behind the first are TLS by the registry itself, the last with a port."""

SHARED = Path("/work")
"""Where the machine sees the folder that it shares with the test."""

_START = """
shared=$1 netns=$2; shift 2
cd "$state/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mkdir -p work opt
mount --bind "$shared" work
# Images are overlays themselves, and there is none on an overlay.
for data in buildkit containerd containers docker; do
    mkdir -p "$state/$data" "var/lib/$data"
    mount --bind "$state/$data" "var/lib/$data"
done
cp "/etc/netns/$netns/"* etc
for folder; do
    mkdir -p "opt/${folder%%=*}"
    mount --bind "${folder#*=}" "opt/${folder%%=*}"
done
mkdir old
pivot_root . old
cd /
umount -l old
echo ready
exec tini -- sleep infinity
"""


@contextmanager
def registry_for_clients(
    cluster: Cluster,
    folder: Path,
    exposure: str,
    settings: Mapping[str, str] | None = None,
    program: Path = REPOSITORY,
) -> Iterator[Deployed]:
    """A stack that is up, for tests that leave the nodes alone; destroyed in the end.

    Args:
        cluster: Where it runs.
        folder: Where its CA goes.
        exposure: The setting of this name.
        settings: Further ones.
        program: The folder of the program.
    """
    own = {"exposure": exposure, **(settings or {})}
    with Stack(environment=cluster.environment, settings=own, program=program) as stack:
        stack.up()
        yield Deployed.of(cluster, stack, folder)


class ClientMachine:
    """A Debian with its own clients: docker, podman, buildah, skopeo, curl; ours are in /opt/cluster.

    As a context manager it is ended with all that runs on it.
    """

    def __init__(self, shared: Path, *groups: str) -> None:
        """Describe the machine; entering the context starts it.

        Args:
            shared: A folder of the test; it is /work on the machine.
            groups: Groups of programs that it needs besides, see `programs.GROUPS`; they are in /opt/<group>.
        """
        self.shared = shared
        self._folders = {"cluster": BIN.resolve(), **{group: programs.ensure((group,)) for group in groups}}
        if "clients" in groups:
            self._folders["go"] = programs.go_root()
        self.variables = {
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PATH": ":".join([*(f"/opt/{name}" for name in self._folders), "/opt/go/bin", "/usr/sbin:/usr/bin"]),
        }
        """The environment of what runs on it."""

    def __enter__(self) -> Self:
        """Start the machine."""
        self._state = Path(tempfile.mkdtemp())
        command = machine.on_overlay(
            [rootfs.ensure("clients")],
            self._state,
            _START,
            str(self.shared),
            network.NAMESPACE,
            *(f"{name}={folder}" for name, folder in self._folders.items()),
            unshare=["--pid", "--fork", "--kill-child"],
        )
        self._process = subprocess.Popen(
            network.inside(*command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            msg = f"the clients' machine did not start: {self._process.communicate()[1]}"
            raise AssertionError(msg)
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._init = int(children.read_text().split()[0])
        return self

    def __exit__(self, *_: object) -> None:
        """End the machine. Everything that runs on it ends with its process 1."""
        self._process.kill()
        self._process.communicate()
        init = Path(f"/proc/{self._init}")
        wait_until(lambda: not init.exists(), "the clients' machine has ended", timeout=20)
        self._state.rmdir()

    def sh(
        self, script: str, variables: Mapping[str, str] | None = None, *, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script on it, in the home folder; the first command that fails ends it. See `run`."""
        command = machine.enter(self._init, "sh", "-euc", f"cd\n{script}", namespaces=("mount", "pid", "net"))
        return run(
            command,
            {**self.variables, **(variables or {})},
            check=check,
            timeout=timeout,
        )
