"""Runs the doctor, reads its diagnosis, and finds the agent that it is about."""

import re
import sys
from dataclasses import dataclass

from .cluster import Cluster
from .commands import wait_until
from .stacks import Deployed, Stack

_FAULT = re.compile(r"  ([A-Z][A-Z_]+)  ([A-Za-z]+): ")
SIGNAL_AGENT = """
import os, signal, sys
from agent.node import Node
node = Node()
here = node.link(os.getpid(), "ns/mnt")
agents = [pid for pid in node.pids() if node.arguments(pid)[:3] == ["python3", "-m", "agent"]
          and node.link(pid, "ns/mnt") == here]
[pid] = agents
os.kill(pid, int(sys.argv[1]))
"""
"""A program for `python3 -c SIGNAL_AGENT NUMBER` in the agent's container: sends a signal to the agent's process."""


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor printed and how it ended."""

    text: str
    proved: bool

    @property
    def faults(self) -> set[tuple[str, str]]:
        """Every code with the link that is named beside it."""
        return set(_FAULT.findall(self.text))


def diagnose(cluster: Cluster, stack: Stack) -> Diagnosis:
    """Ask the doctor."""
    done = cluster.run(sys.executable, "-m", "trust.doctor", "--stack", stack.name, check=False)
    assert done.stdout, done.stderr
    return Diagnosis(done.stdout, proved=done.returncode == 0)


def wait_diagnosis(cluster: Cluster, stack: Stack, *faults: tuple[str, str], timeout: float = 60) -> Diagnosis:
    """The doctor's diagnosis, once it names exactly these faults; none: once all is proved."""
    last = Diagnosis("", proved=False)

    def named() -> bool:
        nonlocal last
        last = diagnose(cluster, stack)
        return last.faults == set(faults) and last.proved == (not faults)

    try:
        wait_until(named, f"the doctor says {faults or 'that all is proved'}", timeout=timeout, interval=1)
    except AssertionError as error:
        raise AssertionError(f"{error}; its last words:\n{last.text}") from None
    return last


def agent_on(deployed: Deployed, node: str) -> str:
    """Name of the agent's pod on a node."""
    pods = (pod for pod in deployed.agents() if "deletionTimestamp" not in pod["metadata"])
    return next(pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == node)
