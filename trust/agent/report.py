"""Where the agent reports: its log, the pod's termination message, the status file, and the startup probe's file."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from .agent import Agent
from .faults import Fault
from .outcome import READY, Outcome

STATUS = "status.json"
"""Name of the status file, which lies beside the startup probe's file."""


class Reports:
    """Reports each outcome once, when it differs from the one before."""

    def __init__(self, agent: Agent, ready_file: Path, termination_log: Path, log: Callable[[str], None]) -> None:
        self._agent = agent
        self._ready_file = ready_file
        self._termination_log = termination_log
        self._log = log
        self._last = ""
        self.reachable = True
        """Whether the last word on the registry was not that it is lost."""
        self._ready_file.unlink(missing_ok=True)

    def ready(self) -> None:
        """Report that the node is configured and has reached the registry."""
        status = self._agent.status
        runtime = f"{status.runtime} {status.version}"
        if status.roots:
            sentence = f"{runtime} reads the CA from {status.roots[0]}."
        else:
            sentence = f"{runtime} trusts the registry with the node's own CAs; nothing is written."
        # `up` waits for the second part when there is another CA.
        self._report(Outcome(READY, sentence, {"trusted": status.ca}))
        if not self._ready_file.exists():  # to touch it at every look would keep the node's disk busy
            self._ready_file.touch()

    def fault(self, fault: Fault) -> None:
        """Report that the node is not configured. The agent goes on trying."""
        self._ready_file.unlink(missing_ok=True)
        self._report(Outcome.of(fault))

    def connection(self, ca: str) -> None:
        """Check the connection again and log it when it is lost or comes back. The node stays configured meanwhile."""
        try:
            self._agent.check_connection(ca)
            if not self.reachable:
                self._log(Outcome(READY, "The registry answers again.").line())
            self.reachable = True
        except Fault as fault:
            if self.reachable:
                self._log(Outcome.of(fault).line())
                self._log("the node stays configured")
            self.reachable = False

    def _report(self, outcome: Outcome) -> None:
        status = json.dumps({**asdict(outcome), **asdict(self._agent.status)}, indent=1)
        if status == self._last:
            return
        self._last = status
        self._log(outcome.line())
        self.reachable = True  # what was said of the connection is not the last word any more
        temporary = self._ready_file.with_name(f"{STATUS}.new")
        temporary.write_text(status)
        temporary.replace(self._ready_file.with_name(STATUS))
        if self._termination_log.exists():
            self._termination_log.write_text(f"{outcome.message()}\n")
