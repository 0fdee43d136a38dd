"""The node's own programs: systemd, which restarts the container runtime, and the runtime's check of its files."""

import contextlib
import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import discover, vendors
from .faults import Fault, Reason, Stopped
from .files import temporary_of
from .node import Identity, Node, Runtime

ANSWERS_WITHIN = 60.0
"""Seconds within which a restarted runtime must serve CRI."""
STABLE_FOR = 3.0
"""Seconds for which it must go on serving: a runtime that dislikes its configuration often dies a moment later."""
UNDO_AFTER = 300
"""Seconds after which the node's systemd takes a change back by itself. A living agent is done long before: it restarts
the runtime at most twice, and each time waits for ANSWERS_WITHIN and a few commands."""

TIMED_OUT = 124
"""The exit code that stands for a program which did not end in time, as timeout(1) has it."""

_COMMAND_TIMEOUT = 10.0
_UNDO = "private-registry-trust-undo"

HostCommand = Callable[..., tuple[int, str]]
"""Runs a program of the node, `run(program, *arguments)`, and returns its exit code and output.

Raises OSError if the program cannot be started."""


def commands_in(root: Path) -> HostCommand:
    """A way to run the node's programs in the node's file system, which is found at `root`.

    A program that does not end within _COMMAND_TIMEOUT is killed, and its code is TIMED_OUT.
    """

    def enter() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the agent blocks signals, and a child would inherit that
        os.chroot(root)
        os.chdir("/")

    def run(program: str, *arguments: str) -> tuple[int, str]:
        import subprocess  # few agents ever run a program

        try:
            done = subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_COMMAND_TIMEOUT,
                env={"PATH": "/usr/bin:/bin:/run/current-system/sw/bin", "SYSTEMD_IGNORE_CHROOT": "1"},
                preexec_fn=enter,
            )
        except subprocess.TimeoutExpired:
            return TIMED_OUT, f"no end within {_COMMAND_TIMEOUT:g} s"
        return done.returncode, done.stdout.strip()

    return run


class HostError(Exception):
    """A program of the node did not do its job; the message says which and why."""


@dataclass(frozen=True)
class Host:
    """The node as a place where programs run and services are restarted."""

    node: Node
    run: HostCommand
    pause: Callable[[float], None]
    """Waits some seconds. Raises Stopped if the pod has to end."""
    clock: Callable[[], float]
    """A time in seconds that never jumps."""

    def unit(self, runtime: Runtime) -> str:
        """The systemd unit whose main process is the runtime. Raises Fault RESTART_NOT_ALLOWED if there is none."""
        pid = runtime.process[0]
        names = re.findall(r"/([^/\n]+\.service)$", self.node.text(pid, "cgroup"), re.MULTILINE)
        try:
            for name in dict.fromkeys(names):
                if self._shown("MainPID", name) == [str(pid)]:
                    return name
        except HostError as error:
            raise Fault(
                Reason.RESTART_NOT_ALLOWED,
                f"{runtime.name} (process {pid}) needs a restart to read its changed configuration, and which systemd "
                f"unit runs it cannot be found out ({error}); repair that, or set config_path in the configuration "
                "that its distribution generates.",
                runtime=f"{runtime.name} {runtime.version}",
                error=str(error),
            ) from error
        raise Fault(
            Reason.RESTART_NOT_ALLOWED,
            f"{runtime.name} (process {pid}) needs a restart to read its changed configuration, but is not the main "
            f"process of a systemd unit (found: {', '.join(names) or 'none'}); set config_path in "
            f"{vendors.source_of_config(runtime.arguments[0])}.",
            runtime=f"{runtime.name} {runtime.version}",
        )

    def check(self, runtime: Runtime, config: str) -> None:
        """Ask containerd's own program whether it could start with the configuration file that is there now.

        That containerd runs does not prove it, since somebody may have changed the file meanwhile. Then it must not be
        restarted, because it would not start even after our own change is taken back. `config` must exist: without a
        file, containerd starts with its defaults, but this command of 1.6 and 1.7 fails.
        Raises Fault CONFIG_INVALID.
        """
        program = self.node.link(runtime.process[0], "exe")
        try:
            code, output = self.run(program, "--config", config, "config", "dump")
        except OSError:  # an upgrade has replaced the program, or it is in a file system of its own
            return
        if code:
            why = output.splitlines()[-1] if output else str(code)
            raise Fault(
                Reason.CONFIG_INVALID,
                f"containerd would not come back from the restart that it needs: {program} does not accept {config} as "
                f"it is now ({why}); repair it.",
                path=config,
                error=why,
            )

    def restart(self, old: Identity, unit: str) -> Runtime:
        """Restart a unit whose main process was `old`, and return the runtime that then serves CRI.

        Raises HostError if none does, and Stopped.
        """
        deadline = self.clock() + ANSWERS_WITHIN
        try:
            self.run("systemctl", "reset-failed", unit)  # else earlier failures could refuse this start; may have none
            code, output = self.run("systemctl", "restart", unit)
        except OSError as error:
            raise HostError(f"systemctl: {error}") from error
        if code not in (0, TIMED_OUT):  # after a time-out systemd goes on with the job, and we look at its result
            raise HostError(f"systemctl restart {unit} failed: {output.splitlines()[0] if output else code}")
        found: Runtime | None = None
        since, problem = 0.0, "nothing answered"
        while self.clock() < deadline:
            try:
                now = discover.runtime(self.node)
            except Fault as fault:
                found, problem = None, fault.sentence
            else:
                if now.process == old:
                    problem = f"process {old[0]} still runs"
                elif found and found.process == now.process:
                    if self.clock() - since >= STABLE_FOR:
                        return now
                else:
                    found, since = now, self.clock()
            try:
                self.pause(0.25)
            except Stopped:
                if found:  # it answers, which is good enough for a pod that has to end
                    return found
                raise
        raise HostError(
            f"{unit} did not serve CRI for {STABLE_FOR:g} s within {ANSWERS_WITHIN:g} s of its restart: {problem}"
        )

    def arm(self, unit: str, file: str, written: str, backup: str | None) -> None:
        """Have systemd put a file back and restart a unit after UNDO_AFTER seconds, unless `disarm` is called before.

        If the agent is killed while the runtime is down, nothing could start another agent. `file` is a path without
        links, and `written` the SHA-256 of the changed file, which is put back only as long as nobody else has changed
        it. `backup` is the path of a copy of the original, None if there was no file. The copy takes the file's place
        in one step; if that fails, for example for want of space, nothing is changed. Raises HostError.
        """
        import shlex  # few agents ever restart a runtime

        name, path, new = shlex.quote(unit), shlex.quote(file), shlex.quote(temporary_of(file))
        back = f"rm {path}"
        if backup is not None:  # the new file gets mode and owner from the old one, and its content from the copy
            back = f"cp -p {path} {new} && cat {shlex.quote(backup)} > {new} && sync {new} && mv -f {new} {path}"
        script = (
            f"if echo {written}'  '{path} | sha256sum --check --status; then "
            f"if {back}; then systemctl reset-failed {name}; exec systemctl restart {name}; else rm -f {new}; fi; "
            f"else exec systemctl start {name}; fi"
        )
        self.disarm()
        command = (f"--on-active={UNDO_AFTER}", f"--unit={_UNDO}", "/bin/sh", "-c", script)
        try:
            code, output = self.run("systemd-run", "--collect", *command)
            if code and "--collect" in output:  # systemd before 236 does not know it; `disarm` forgets what has failed
                code, output = self.run("systemd-run", *command)
        except OSError as error:
            raise HostError(str(error)) from error
        if code:
            raise HostError(output or str(code))

    def disarm(self) -> None:
        """Stop the timer that `arm` started, if there is one.

        Raises HostError unless systemd says that the timer is gone, and that what it starts does not run.
        """
        units = (f"{_UNDO}.timer", f"{_UNDO}.service")
        try:
            self.run("systemctl", "stop", units[0])  # it fails if there is no timer; what counts is the answer below
        except OSError:
            return  # a node without systemctl has no timer
        states = set(self._shown("ActiveState", *units))
        if not states or states - {"inactive", "failed"}:
            raise HostError(f"{units[0]} could not be stopped ({', '.join(sorted(states)) or 'it says nothing'})")
        if "failed" in states:
            with contextlib.suppress(OSError):
                self.run("systemctl", "reset-failed", *units)

    def _shown(self, name: str, *units: str) -> list[str]:
        """A property of units, as systemctl shows it; `--value` is unknown to systemd before 230.

        Raises HostError if it fails.
        """
        try:
            code, output = self.run("systemctl", "show", f"--property={name}", *units)
        except OSError as error:
            raise HostError(f"no systemctl ({error})") from error
        if code:
            raise HostError(f"systemctl show failed: {output or code}")
        return re.findall(rf"^{name}=(.*)$", output, re.MULTILINE)
