"""One systemd machine without a cluster, on which real container runtimes start on any configuration in seconds.

A systemd-nspawn machine with its own network, processes and files: nothing that runs there reaches the machine that
runs the tests, and all of it is gone at the end. Its systemd is a real one, so the agent restarts runtimes as it does
on a node. The registry and its name are on the machine's own loopback.
"""

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from local_cluster import cgroups, image_archive, machine, programs, rootfs
from local_cluster.paths import REPOSITORY

from ..commands import CommandError, run, wait_until
from ..node_state import tree_hashes

HOST = "registry-pr-42.10-99-0-200.nip.io"
HOST_WITH_PORT = "registry.example:5000"
ADDRESS = "10.99.0.200"
"""Address of both hosts, on the machine's loopback device. It is not 127.0.0.1, from which Docker would accept an
unverified certificate."""
IMAGE = "team/app:1"

_START = """
mkdir "$state/pod"
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd  # where systemd-nspawn leaves things
for unit in $MASKED; do ln -sf /dev/null "$state/root/etc/systemd/system/$unit"; done
rm -rf "$state/root/etc/systemd/system/"*.target.wants "$state/root/etc/containerd" "$state/root/etc/machine-id"
echo 0123456789abcdef0123456789abcdef > "$state/root/etc/machine-id"
exec "$@"
"""

_REGISTRY = """\
[Service]
ExecStart=/opt/base/registry serve /run/registry/%i.json
"""

_AGENT = """\
[Service]
RootDirectory=/opt/pod
MountAPIVFS=yes
BindReadOnlyPaths=/opt/agent:/app /etc/hosts
BindPaths=/run/pod
WorkingDirectory=/app
Environment=PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app REGISTRY_HOST={host} OWNER=pr-42 POD_UID={pod} NODE_NAME=matrix
Environment=CA_FILE=/run/pod/ca.crt READY_FILE=/run/pod/ready
ExecStart=/usr/bin/python3 {command}
StandardOutput=append:/run/pod/log
StandardError=inherit
"""

_MAIN = """\
{before}
from agent.__main__ import main
raise SystemExit(main())
"""


class RuntimeMachine:
    """A booted machine. As a context manager it is ended with all that runs on it."""

    def __init__(self, folder: Path, *, trees: Sequence[str] = ("trixie",), groups: Sequence[str] = ()) -> None:
        """Describe the machine; entering the context boots it.

        Args:
            folder: An empty folder of the test, for keys and certificates.
            trees: Root file systems, see `rootfs.TREES`; what the first one has wins.
            groups: Groups of programs that it needs besides, see `programs.GROUPS`.
        """
        self.name = f"matrix-{secrets.token_hex(3)}"
        self._folder = folder
        self._lower = [rootfs.ensure(tree) for tree in trees]
        self._binds = {
            "base": programs.ensure(),
            "bookworm": rootfs.ensure("bookworm"),
            "agent/agent": REPOSITORY / "trust" / "agent",
        }
        if groups:
            self._binds["extra"] = programs.ensure(groups)

    def __enter__(self) -> Self:
        """Boot the machine, and start a registry on it that has an image."""
        self._state = Path(tempfile.mkdtemp())
        boot = machine.nspawn(
            self.name,
            self._state / "root",
            "--private-network",
            "--tmpfs=/var",  # not on the overlay: containerd's and Docker's snapshots are overlays themselves
            f"--overlay={rootfs.ensure('python')}:{self._state / 'pod'}:/opt/pod",
            *(f"--bind-ro={source}:/opt/{target}" for target, source in self._binds.items()),
            init=["--unit=basic.target"],
        )
        on_overlay = machine.on_overlay(self._lower, self._state, _START, *boot)
        self._console = self._folder / "console"
        with self._console.open("w") as console:
            self._process = subprocess.Popen(
                machine.in_control_groups(self.name, *on_overlay),
                env={
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "MASKED": " ".join(machine.MASKED_UNITS),
                    **machine.ENVIRONMENT,
                },
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            wait_until(self._booted, f"{self.name} has booted; its console is {self._console}", timeout=60)
            self._start_registry()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the machine. Everything that runs on it ends with its process 1."""
        cgroups.kill(self.name)
        self._process.wait()
        cgroups.remove(self.name)
        self._state.rmdir()

    @property
    def root(self) -> Path:
        """Its file system, seen from outside."""
        return Path(f"/proc/{self._init}/root")

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program on it, see `commands.run`."""
        environment = {
            "PATH": f"/opt/base:{machine.PATH}",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "SSL_CERT_FILE": "/run/pod/ca.crt",
        }
        return run(machine.enter(self._init, *command), environment, check=check, timeout=timeout)

    def write(self, path: str, text: str) -> None:
        """Put a file on it."""
        file = self.root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def unit(self, name: str, text: str) -> None:
        """Put a systemd unit, or a drop-in of one, on it and start it."""
        self.write(f"/run/systemd/system/{name}", text)
        self.run("systemctl", "daemon-reload")
        unit = name.partition(".d/")[0]
        self.run("systemctl", "reset-failed", unit, check=False)
        self.run("systemctl", "start", "--no-block", unit)

    def remove_units(self, *names: str) -> None:
        """Stop units, with every process of theirs, and forget what this test said about them."""
        known = self.run("systemctl", "list-units", "--all", "--plain", "--no-legend", *names).stdout.split("\n")
        for name in [line.split()[0] for line in known if line]:
            self.run("systemctl", "stop", name, check=False)
            self.run("systemctl", "kill", "--signal=KILL", name, check=False)
        for name in names:
            (self.root / "run/systemd/system" / name).unlink(missing_ok=True)
            shutil.rmtree(self.root / "run/systemd/system" / f"{name}.d", ignore_errors=True)
        self.run("systemctl", "daemon-reload")

    def starts(self, unit: str) -> int:
        """How often systemd has started a unit since the boot, whether it came up or not."""
        command = ("journalctl", "--output=json", "--output-fields=INVOCATION_ID", "_PID=1", f"UNIT={unit}")
        entries = [json.loads(line) for line in self.run(*command).stdout.splitlines()]
        return len({entry["INVOCATION_ID"] for entry in entries if "INVOCATION_ID" in entry})

    def trees(self, *folders: str) -> dict[str, str]:
        """Everything below folders of it, see `tree_hashes`."""
        found = {folder: tree_hashes(self.root / folder[1:]) for folder in folders}
        return {f"{folder}/{path}": what for folder, tree in found.items() for path, what in tree.items()}

    # The agent

    def start_agent(self, host: str = HOST, *, pod: str = "pod-1", before: str = "") -> None:
        """Start the agent as its pod does: with the root of the pod's image, and the machine's processes in view.

        Args:
            host: The registry.
            pod: Uid of the pod.
            before: Python code that runs in the agent's process before it.
        """
        for name in ("ready", "status.json"):
            (self.root / "run/pod" / name).unlink(missing_ok=True)
        command = "-m agent"
        if before:
            self.write("/run/pod/main.py", _MAIN.format(before=before))
            command = "/run/pod/main.py"
        self.unit("agent.service", _AGENT.format(host=host, pod=pod, command=command))

    def agent_status(self, *, timeout: float = 120) -> dict[str, object]:
        """The first outcome that the agent reports after its start."""
        status = self.root / "run/pod/status.json"
        wait_until(status.exists, "the agent reports an outcome", timeout=timeout, interval=0.05)
        return json.loads(status.read_text())

    def agent_log(self) -> str:
        """What the agents have said since the last call."""
        log = self.root / "run/pod/log"
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return text

    # Boot

    def _booted(self) -> bool:
        if self._process.poll() is not None:
            msg = f"{self.name} did not boot: {self._console.read_text()[-2000:]}"
            raise CommandError(msg)
        init = machine.init_process(self.name)
        if init is None:
            return False
        self._init = init
        return self.run("systemctl", "is-active", "basic.target", check=False).stdout.strip() == "active"

    def _start_registry(self) -> None:
        names = ",".join(f"DNS:{host.partition(':')[0]}" for host in (HOST, HOST_WITH_PORT))
        certificate(self._folder, "registry", names)
        self.write("/run/pod/ca.crt", (self._folder / "ca.crt").read_text())
        self.write("/etc/hosts", f"{ADDRESS} {names.replace('DNS:', '').replace(',', ' ')}\n")
        self.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        self.write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        for name in ("registry.crt", "registry.key"):
            self.write(f"/run/registry/{name}", (self._folder / name).read_text())
        for host in (HOST, HOST_WITH_PORT):
            port = host.partition(":")[2] or "443"
            tls = {"certificate": "/run/registry/registry.crt", "key": "/run/registry/registry.key"}
            configuration = {
                "version": 0.1,
                "storage": {"filesystem": {"rootdirectory": "/run/registry/data"}},
                "http": {"addr": f"{ADDRESS}:{port}", "tls": tls},
            }
            self.write(f"/run/registry/{port}.json", json.dumps(configuration))
            self.write("/run/systemd/system/registry@.service", _REGISTRY)
            self.unit(f"registry@{port}.service", _REGISTRY)
        content = self._folder / "image"
        content.mkdir()
        (content / "file").write_text(secrets.token_hex())
        archive = self.root / "run/app.tar"
        image_archive.write(archive, content, names=[f"example.com/{IMAGE}"], config=image_archive.Config())
        push = ("crane", "push", "/run/app.tar", f"{HOST}/{IMAGE}")
        wait_until(lambda: self.run(*push, check=False).returncode == 0, "the registry takes an image", timeout=20)


def certificate(folder: Path, name: str, alternative_names: str) -> None:
    """Make `ca.crt` and, issued by it, NAME.crt with NAME.key."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-subj", "/CN=matrix CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
    openssl("req", "-new", *key, "-subj", "/CN=registry", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / "extensions").write_text(f"subjectAltName = {alternative_names}\n")
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-days", "1", "-extfile", "extensions")
    openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *sign)
