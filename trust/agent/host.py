"""Restart the container runtime through the node's own systemd, and wait until CRI answers again."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import discover
from .discover import Identity, Node, Runtime
from .faults import Fault, Reason, Stopped
from .files import Tree

ANSWERS_WITHIN = 60.0
"""Seconds until the new process must serve CRI."""
STABLE_FOR = 3.0
"""Seconds that it must go on doing so: a runtime that dislikes its configuration often dies a moment later."""

UNDO_AFTER = 300
"""Seconds until the node's systemd takes a change back by itself: longer than an agent needs to do that."""

_SYSTEMCTL_TIMEOUT = 10.0
_UNDO = "private-registry-trust-undo"

Systemctl = Callable[..., tuple[int, str]]
"""Runs systemctl, or another `program`, with the given arguments on the node; returns its exit code and output."""


def systemctl_in(root: Path) -> Systemctl:
    """A systemctl that runs the node's program against the node's systemd, both found below `root`."""

    def enter() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the agent blocks signals to take them in its own time
        os.chroot(root)
        os.chdir("/")

    def run(*arguments: str, program: str = "systemctl") -> tuple[int, str]:
        try:
            done = subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_SYSTEMCTL_TIMEOUT,
                env={"PATH": "/usr/bin:/bin:/run/current-system/sw/bin", "SYSTEMD_IGNORE_CHROOT": "1"},
                preexec_fn=enter,
            )
        except subprocess.TimeoutExpired:
            return 0, ""  # systemd goes on by itself; what comes of it is seen from the outside
        return done.returncode, done.stdout.strip()

    return run


def unit(node: Node, runtime: Runtime, systemctl: Systemctl) -> str:
    """The systemd unit whose main process is the runtime. Raises Fault RESTART_NOT_ALLOWED if there is none."""
    pid = runtime.process[0]
    names = re.findall(r"/([^/\n]+\.service)$", node.text(pid, "cgroup"), re.MULTILINE)
    try:
        for name in dict.fromkeys(names):
            code, main_pid = systemctl("show", "--property=MainPID", "--value", name)
            if code == 0 and main_pid == str(pid):
                return name
    except OSError as error:
        names = [f"no systemctl ({error})"]
    raise Fault(
        Reason.RESTART_NOT_ALLOWED,
        f"{runtime.name} (process {pid}) needs a restart to read its changed configuration, but is not the main "
        f"process of a systemd unit (found: {', '.join(names) or 'none'}); set config_path in the configuration that "
        "its distribution generates.",
    )


def check_config(node: Node, tree: Tree, runtime: Runtime, systemctl: Systemctl) -> None:
    """Ask containerd's own program whether it could start with the files that are there now.

    One that runs need not: somebody may have changed its files since. Then it must not be restarted, since putting back
    what we changed would not help. Without a file it starts with its defaults, though this command of 1.6 and 1.7 then
    fails. Raises Fault CONFIG_INVALID.
    """
    program = node.link(runtime.process[0], "exe")
    if tree.read(runtime.config) is None:
        return
    try:
        code, output = systemctl("--config", runtime.config, "config", "dump", program=program)
    except OSError:  # replaced by an upgrade, or in a file system of its own
        return
    if code:
        raise Fault(
            Reason.CONFIG_INVALID,
            f"containerd would not come back from the restart that it needs: {program} does not accept "
            f"{runtime.config} as it is now ({output.splitlines()[-1] if output else code}); repair it.",
        )


def restart(
    node: Node, old: Identity, name: str, systemctl: Systemctl, pause: Callable[[float], None]
) -> Runtime | str:
    """Restart unit `name`, whose main process was `old`; return the runtime that then answers, or what went wrong."""
    systemctl("reset-failed", name)  # or the start limit of an earlier failure could refuse this start
    code, output = systemctl("restart", name)
    if code:
        return f"systemctl restart {name} failed: {output.splitlines()[0] if output else code}"
    found: Runtime | None = None
    waited, since, problem = 0.0, 0.0, "nothing answered"
    while waited < ANSWERS_WITHIN:
        try:
            now = discover.runtime(node)
        except Fault as fault:
            found, problem = None, fault.sentence
        else:
            if now.process == old:
                problem = f"process {old[0]} still runs"
            elif found and found.process == now.process:
                if waited - since >= STABLE_FOR:
                    return now
            else:
                found, since = now, waited
        try:
            pause(0.25)
        except Stopped:
            if found:  # answers: good enough for a pod that has to end
                return found
            raise
        waited += 0.25
    return f"{name} did not serve CRI for {STABLE_FOR:g} s within {ANSWERS_WITHIN:g} s of its restart: {problem}"


def arm(systemctl: Systemctl, name: str, file: str, written: str, backup: str | None) -> str:
    """Have systemd put a file back and restart unit `name` in a while, whatever becomes of this agent.

    If it is killed while the runtime is down, nobody could start another one. `written` is the SHA-256 of the changed
    file: it is put back only as long as it is that one. `backup` is a copy of the original, None if there was none.
    Returns what went wrong, if anything did.
    """
    unit, path = shlex.quote(name), shlex.quote(file)
    script = (
        f"if echo {written}'  '{path} | sha256sum --check --status; "
        f"then {f'cat {shlex.quote(backup)} >' if backup else 'rm'} {path}; "
        f"systemctl reset-failed {unit}; exec systemctl restart {unit}; else exec systemctl start {unit}; fi"
    )
    disarm(systemctl)
    options = (f"--on-active={UNDO_AFTER}", f"--unit={_UNDO}", "--collect")
    try:
        code, output = systemctl(*options, "/bin/sh", "-c", script, program="systemd-run")
    except OSError as error:
        return str(error)
    return (output or str(code)) if code else ""


def disarm(systemctl: Systemctl) -> None:
    """Take back what `arm` did; nothing happens if it did nothing."""
    systemctl("stop", f"{_UNDO}.timer")
