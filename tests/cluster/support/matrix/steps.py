"""One cell of the matrix: a runtime that does not trust, then does, then does not, and is as it was before."""

import shlex
from collections.abc import Callable

from ..commands import wait_until
from ..node_state import CONFIG_TREES
from .layouts import CONFIG, VERSIONS, Cell
from .machine import HOST, IMAGE, RuntimeMachine
from .table import Row

UNTRUSTED = "x509: certificate signed by unknown authority"
STATE = "/var/lib/private-registry-trust"
_UNITS = (
    "agent.service",
    "docker.socket",
    "docker.service",
    "containerd.service",
    "k3s.service",
    "podman.service",
    "kubelet.service",
)
_CONFIGURATION = (
    *(f"/{tree}" for tree in CONFIG_TREES),
    "/root/.config",
    "/var/lib/rancher/k3s/agent/etc",
    "/var/snap/microk8s/8511",
)
_TREES = (*_CONFIGURATION, STATE)
"""What the agent leaves as it was."""

KUBELET = """\
[Service]
ExecStart=@/bin/sh /usr/bin/kubelet -c "while sleep 1000; do :; done" kubelet --container-runtime-endpoint=unix://{socket}
"""
"""A process with the kubelet's name and argument, by which the agent finds the runtime; the kubelet itself runs on the
nodes of the cluster."""

_CONTAINERD = """\
[Service]
Environment=PATH={folder}:/usr/sbin:/usr/bin:/sbin:/bin
ExecStartPre=/bin/sh -c "{check}"
ExecStart=
ExecStart={command}
RestartSec=1
"""
"""A drop-in for Debian's own unit."""

_PARENT = """\
[Service]
Environment=PATH={folder}:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/sh -c "rm -rf {wipes}; {command} & wait"
"""
"""As K3s and RKE2 do it: containerd is the child of a process that makes its files anew at each start."""


class Runtime:
    """The runtime of one cell on the machine, and what the agent did to it."""

    def __init__(
        self,
        machine: RuntimeMachine,
        host: str,
        unit: str,
        pull: Callable[[], str],
        before_agent: str = "",
        wipes: bool = False,
    ) -> None:
        """Describe it.

        Args:
            machine: Where it runs.
            host: The registry's host.
            unit: Its systemd unit.
            pull: Pulls the image from `host` and returns the error, or nothing.
            before_agent: Python code that runs in the agent's process before it.
            wipes: Its unit removes what the agent wrote at each start.
        """
        self.machine, self.host, self.unit, self._pull = machine, host, unit, pull
        self.wipes, self._before_agent = wipes, before_agent
        self.before = machine.trees(*_TREES)
        self._starts = machine.starts(unit)

    @property
    def restarts(self) -> int:
        """Since the runtime was started for this cell."""
        return self.machine.starts(self.unit) - self._starts

    def start_agent(self, pod: str = "pod-1") -> dict[str, object]:
        """Start the agent; returns the first outcome that it reports."""
        self.machine.start_agent(self.host, pod=pod, before=self._before_agent)
        return self.machine.agent_status()

    def pull(self) -> str:
        """Pull the image; returns the error, or nothing."""
        return self._pull()

    def snapshot(self) -> dict[str, str]:
        """All configuration and what the agent remembers, with the identity of each file."""
        return self.machine.trees(*_TREES) | {
            f"{path} #": f"{path.stat().st_ino} {path.stat().st_mtime_ns}"
            for tree in _TREES
            for path in (self.machine.root / tree[1:]).rglob("*")
        }

    def changed(self) -> list[str]:
        """Files that were added or changed, but for the agent's memory."""
        now = self.machine.trees(*_TREES)
        changed = [p for p, what in now.items() if self.before.get(p) != what and what.startswith("-")]
        return sorted(path for path in changed if path.endswith(".crt") or not path.startswith(STATE))


def walk(runtime: Runtime, row: Callable[[str, str, str, str], Row]) -> Row:
    """Take a runtime through the agent's life; returns what the table says of it.

    Raises:
        AssertionError: something is not as it has to be in every cell, whatever the table says.
    """
    machine = runtime.machine
    machine.agent_log()
    status = runtime.start_agent()
    if status["reason"] != "READY":
        return _refused(runtime, status, row)
    assert runtime.pull() == ""
    restarts, files, roots = runtime.restarts, runtime.changed(), status["roots"]
    assert isinstance(roots, list)

    if runtime.wipes:
        machine.run("systemctl", "restart", runtime.unit)
        restarts += 1
        wait_until(lambda: runtime.pull() == "", "the agent brings back what was wiped", timeout=20)

    # Killed and started again: nothing changes.
    applied = runtime.snapshot()
    kill_agent(machine)
    assert runtime.start_agent()["reason"] == "READY"
    assert runtime.snapshot() == applied
    assert runtime.restarts == restarts

    stop_agent(runtime)
    error = runtime.pull()
    # containerd 1.x that was told about a file for this one host still has that in memory.
    assert UNTRUSTED in error or f"{STATE}/pr-42.crt: no such file" in error
    if restarts - runtime.wipes:  # what the running process has in memory needs no restart a second time
        assert runtime.start_agent(pod="pod-2")["reason"] == "READY"
        assert runtime.pull() == ""
        stop_agent(runtime)
    assert runtime.restarts == restarts
    return row(_shown(roots[0], runtime), _shown("; ".join(files), runtime), str(restarts - runtime.wipes), "pulled")


def _refused(runtime: Runtime, status: dict[str, object], row: Callable[[str, str, str, str], Row]) -> Row:
    reason = status["reason"]
    assert isinstance(reason, str)
    restarts = runtime.restarts
    kill_agent(runtime.machine)
    assert runtime.start_agent()["reason"] == reason
    assert runtime.restarts == restarts, "no loop of restarts"
    stop_agent(runtime)
    return row("", "", str(restarts), reason)


def stop_agent(runtime: Runtime) -> None:
    """End the agent as its pod is ended; all is as it was before it came."""
    machine = runtime.machine
    machine.run("systemctl", "stop", "agent.service")
    log = machine.agent_log()
    assert log.splitlines()[-1] in ("cleaned", "kept"), log
    assert "Traceback" not in log, log
    assert machine.trees(*_TREES) == runtime.before, log


def kill_agent(machine: RuntimeMachine) -> None:
    """End the agent at once."""
    machine.run("systemctl", "kill", "--signal=KILL", "agent.service")
    wait_until(
        lambda: machine.run("systemctl", "is-active", "agent.service", check=False).returncode,
        "the agent has ended",
        timeout=10,
        interval=0.02,
    )


def _shown(text: str, runtime: Runtime) -> str:
    return text.replace(runtime.host, "<host>").replace("pr-42", "<owner>")


def containerd(machine: RuntimeMachine, cell: Cell, *, check: str = "true") -> Runtime:
    """Start the containerd of a cell on its configuration.

    Args:
        machine: Where it starts.
        cell: What it is.
        check: A shell command; when it fails, the unit does not start.
    """
    layout, folder = cell.layout, VERSIONS[cell.version]
    clean(machine)
    for path, text in layout.files.items():
        machine.write(path, text)
    if layout.generated:
        machine.write(CONFIG, machine.run(f"{folder}/containerd", "config", "default").stdout)
    for path in layout.folders:
        (machine.root / path[1:]).mkdir(parents=True)
    for path, target in layout.links.items():
        (machine.root / path[1:]).symlink_to(target)
    command = shlex.join([f"{folder}/containerd", *layout.arguments])
    if layout.wipes:
        unit = "k3s.service"
        machine.unit(unit, _PARENT.format(folder=folder, command=command, wipes=layout.wipes))
    else:
        unit = "containerd.service"
        machine.unit(f"{unit}.d/cell.conf", _CONTAINERD.format(folder=folder, command=command, check=check))
        if layout.socket == "/run/containerd/containerd.sock":
            machine.unit("kubelet.service", KUBELET.format(socket=layout.socket))
    crictl = ("crictl", f"--runtime-endpoint=unix://{layout.socket}", f"--image-endpoint=unix://{layout.socket}")
    host = layout.host or HOST

    def serves() -> bool:
        done = machine.run(*crictl, "version", check=False)
        return done.returncode == 0 and cell.version in done.stdout or "Unimplemented" in done.stderr

    def pull() -> str:
        machine.run(*crictl, "rmi", f"{host}/{IMAGE}", check=False)
        done = machine.run(*crictl, "pull", f"{host}/{IMAGE}", check=False)
        return done.stderr if done.returncode else ""

    wait_until(serves, f"containerd {cell.version} answers on {layout.socket}", timeout=30, interval=0.1)
    return Runtime(machine, host, unit, pull, wipes=bool(layout.wipes))


def clean(machine: RuntimeMachine) -> None:
    """Leave nothing of an earlier cell."""
    machine.remove_units(*_UNITS)
    script = """
        for mount in $(grep -oE " /(run|var)/[^ ]*(containerd|containers|docker|k3s)[^ ]* " /proc/mounts); do
            umount -l $mount
        done
        rm -rf $1 /run/private-registry-trust /run/containerd /run/k3s
        rm -rf /var/snap /var/lib/containerd /var/lib/containers /var/lib/docker /var/lib/rancher
    """
    machine.run("sh", "-c", script, "clean", " ".join(_TREES))
