"""The agent's process: settings from the environment, a look at the node every two seconds, removal on SIGTERM."""

import signal

if __name__ == "__main__":  # what is imported next takes long, and a signal that comes meanwhile waits as well
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from . import connect
from .agent import Agent, AgentSettings
from .faults import Fault, Left, Reason, Stopped
from .host import HostCommand, commands_in
from .node import POD_UID, Node
from .report import Reports

TICK = 2.0
"""Seconds between two looks at the node."""
SOON = 0.5
"""The same while the registry has not been reached: it may be starting, as at the first `up` of a stack."""
SOON_FOR = 30.0
"""Seconds from the agent's start on for which it looks that often."""
CHECK_EVERY = 30.0
"""Seconds between two connections to the registry once the node is ready."""
CHECK_LOST_EVERY = 5.0
"""The same while the registry is not reached: `up` waits until the agent says that it is again."""
CLEAN_UP_FOR = 40.0
"""Seconds for which the removal is tried. The pod's terminationGracePeriodSeconds is longer."""

_AFRESH = "AGENT_STARTED_AFRESH"
"""The variable in the environment that says that this is the second start, see `start_afresh`."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def log(line: str) -> None:
    """Write one line to the container's log."""
    print(line, flush=True)


def pause(seconds: float) -> None:
    """Wait. Raises Stopped when the pod has to end.

    Signals are blocked and taken only here, so that nothing else the agent does is cut off by one.
    """
    if signal.sigtimedwait(_SIGNALS, seconds):
        signal.raise_signal(signal.SIGTERM)  # it is blocked as well, so the next call finds it and raises Stopped again
        raise Stopped


def main(
    environment: Mapping[str, str] = os.environ,
    node: Node | None = None,
    run: HostCommand | None = None,
    check: connect.Check = connect.check,
) -> int:
    """Run until SIGTERM, clean up, and return 0.

    The parameters are the parts that the agent is put together from; a test passes others. By default the agent works
    on the node whose processes are in /proc, and runs programs in that node's file system.
    """
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    settings = AgentSettings(
        host=environment["REGISTRY_HOST"],
        owner=environment["OWNER"],
        pod=environment[POD_UID],
        node_name=environment["NODE_NAME"],
        restart_allowed=environment.get("RUNTIME_RESTART", "allow") != "deny",
    )
    node = node or Node()
    agent = Agent(settings, node, run or commands_in(node.proc / "1/root"), pause, log, check)
    reports = Reports(
        agent,
        Path(environment.get("READY_FILE", "/run/trust/ready")),
        Path(environment.get("TERMINATION_LOG", "/dev/termination-log")),
        log,
    )
    try:
        _look_again_and_again(agent, reports, Path(environment.get("CA_FILE", "/app/ca/ca.crt")))
    except Stopped:
        return _clean_up(agent)
    return 0


def _clean_up(agent: Agent) -> int:
    """Take everything off the node; try again until it is gone or the time is over. Returns the exit code."""
    deadline, said = time.monotonic() + CLEAN_UP_FOR, ""
    while True:
        try:
            log("cleaned" if agent.remove() else "kept")
            return 0
        except Left as left:
            if str(left) != said:
                said = str(left)
                log(f"not cleaned yet: {said}")
        if time.monotonic() > deadline:
            log(f"not cleaned: {said}")
            return 1
        time.sleep(1)


def _look_again_and_again(agent: Agent, reports: Reports, ca_file: Path) -> None:
    began = checked = time.monotonic()
    while True:
        try:
            ca = _read(ca_file)
            if agent.tick(ca):
                reports.ready()
            every = CHECK_EVERY if reports.reachable else CHECK_LOST_EVERY
            if agent.connected and time.monotonic() - checked > every:
                checked = time.monotonic()
                reports.connection(ca)
        except Fault as fault:
            reports.fault(fault)
        pause(SOON if not agent.connected and time.monotonic() - began < SOON_FOR else TICK)


def _read(ca_file: Path) -> str:
    try:
        return ca_file.read_text()
    except OSError as error:
        sentence = f"{ca_file} cannot be read ({error}); mount the CA's ConfigMap there."
        raise Fault(Reason.CA_INVALID, sentence, path=str(ca_file), error=str(error)) from error


def start_afresh() -> None:
    """Start this program again, once: now it finds its modules as bytecode. What is blocked stays so.

    The images of Python hold none, and what compiling leaves behind in a process stays there: several megabytes on
    every node. Nothing happens if this is the second start, or if Python may not write bytecode.
    """
    if _AFRESH not in os.environ and not sys.dont_write_bytecode:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, _AFRESH: "1"})


if __name__ == "__main__":
    start_afresh()
    sys.exit(main())
