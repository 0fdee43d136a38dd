"""The agent's process: settings from the environment, a look every two seconds, SIGTERM takes the trust away again."""

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from .agent import Agent, Settings
from .discover import Node
from .faults import Fault, Reason, Stopped
from .restart import systemctl_in

TICK = 2.0
"""Seconds between two looks at the node."""
CHECK_EVERY = 30.0
"""Seconds between two connections to the registry once the node is ready."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def log(line: str) -> None:
    """One line in the container's log."""
    print(line, flush=True)


def pause(seconds: float) -> None:
    """Wait; raises Stopped when the pod is told to end. Signals are taken only here, so nothing else is cut off."""
    if signal.sigtimedwait(_SIGNALS, seconds):
        signal.raise_signal(signal.SIGTERM)  # blocked, hence kept for the next call
        raise Stopped


def main() -> int:
    """Run until SIGTERM; exits 0 then."""
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    settings = Settings(
        host=os.environ["REGISTRY_HOST"],
        owner=os.environ["OWNER"],
        pod=os.environ["POD_UID"],
        node=os.environ["NODE_NAME"],
        restart_allowed=os.environ.get("RUNTIME_RESTART", "allow") != "deny",
    )
    node = Node()
    agent = Agent(settings, node, systemctl_in(node.proc / "1/root"), pause, log)
    reports = Reports(
        agent,
        Path(os.environ.get("READY_FILE", "/run/trust/ready")),
        Path(os.environ.get("TERMINATION_LOG", "/dev/termination-log")),
    )
    ca_file = Path(os.environ.get("CA_FILE", "/app/ca/ca.crt"))
    checked = time.monotonic()
    try:
        while True:
            try:
                ca = _read(ca_file)
                if agent.tick(ca):
                    reports.ready()
                if agent.connected and time.monotonic() - checked > CHECK_EVERY:
                    checked = time.monotonic()
                    reports.connection(ca)
            except Fault as fault:
                reports.fault(fault)
            pause(TICK)
    except Stopped:
        try:
            log("cleaned" if agent.remove() else "kept")
        except OSError as error:
            log(f"not cleaned: {error}")
            return 1
        return 0


def _read(ca_file: Path) -> str:
    try:
        return ca_file.read_text()
    except OSError as error:
        raise Fault(
            Reason.CA_INVALID, f"{ca_file} cannot be read ({error}); mount the CA's ConfigMap there."
        ) from error


class Reports:
    """Where the outcome is told: log, termination log, status file, and the file that the startup probe looks for."""

    def __init__(self, agent: Agent, ready_file: Path, termination_log: Path) -> None:
        self._agent = agent
        self._ready_file = ready_file
        self._termination_log = termination_log
        self._last = ""
        self._reachable = True
        self._ready_file.unlink(missing_ok=True)

    def ready(self) -> None:
        """The node is configured, and has reached the registry."""
        status = self._agent.status
        self._tell("READY", f"{status.runtime} {status.version} reads the CA from {status.roots[0]}")
        self._ready_file.touch()

    def fault(self, fault: Fault) -> None:
        """The node is not configured; the agent goes on trying."""
        self._ready_file.unlink(missing_ok=True)
        self._tell(fault.reason, fault.sentence)

    def connection(self, ca: str) -> None:
        """Look at the registry again; a node that loses it stays configured."""
        settings = self._agent.settings
        try:
            self._agent.check(settings.host, ca, settings.node)
            if not self._reachable:
                log("the registry answers again")
            self._reachable = True
        except Fault as fault:
            if self._reachable:
                log(f"{fault} (the node stays configured)")
            self._reachable = False

    def _tell(self, reason: str, sentence: str) -> None:
        told = json.dumps({"reason": reason, "sentence": sentence, **asdict(self._agent.status)}, indent=1)
        if told == self._last:
            return
        self._last = told
        log(f"{reason}: {sentence}")
        temporary = self._ready_file.with_name("status.json.new")
        temporary.write_text(told)
        temporary.replace(self._ready_file.with_name("status.json"))
        if self._termination_log.exists():
            self._termination_log.write_text(f"{reason}: {sentence}\n"[:4096])


if __name__ == "__main__":
    sys.exit(main())
