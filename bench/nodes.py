"""What an agent costs a node, with one stack and with many, and how soon a node that joins has pulled."""

import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import local_cluster.cluster as local_cluster
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import wait_until
from tests.cluster.support.faults import NODE
from tests.cluster.support.stacks import Stack

_AT_ONCE = 4
_SETTINGS = {"storage": "memory", "storageSize": "50Mi"}
_READY = '{.status.conditions[?(@.type=="Ready")].status}'
_RUNNING = '{.status.initContainerStatuses[?(@.name=="agent")].state.running.startedAt}'


@dataclass(frozen=True)
class Cost:
    """What one agent takes of its node while nothing happens: the median of all agents."""

    stacks: int
    """How many stacks the cluster has, each of which has an agent on every node."""
    agents: int
    """How many agents were measured."""
    megabytes: float
    """Resident memory."""
    millicores: float
    """Processor time, in thousandths of a core."""
    wakeups: float
    """How often it runs in a minute."""

    def __str__(self) -> str:
        return (
            f"{self.stacks} stacks, {self.agents} agents: {self.megabytes:.1f} MB, {self.millicores:.2f} millicores, "
            f"{self.wakeups:.0f} wake-ups a minute"
        )


@dataclass(frozen=True)
class Join:
    """What happens on a node that joins, in seconds after its kubelet was Ready."""

    agent: float
    """The agent's container has started."""
    proved: float
    """The proof runs, whose image the kubelet has pulled from the registry."""

    def __str__(self) -> str:
        return f"agent started after {self.agent:.1f} s, first pull done after {self.proved:.1f} s"


def agents() -> list[Path]:
    """The folders below /proc of all agents on this machine, which is every node's."""

    def is_agent(process: Path) -> bool:
        try:
            return (process / "cmdline").read_bytes().rstrip(b"\0").endswith(b"\0-m\0agent")
        except OSError:
            return False  # it has just ended

    return sorted(process for process in Path("/proc").glob("[0-9]*") if is_agent(process))


def _used(process: Path) -> tuple[float, int]:
    """The seconds for which a process has run, and how often it has gone to sleep."""
    seconds, sleeps = 0.0, 0
    for thread in process.glob("task/*"):
        seconds += int((thread / "schedstat").read_text().split()[0]) / 1e9
        status = (thread / "status").read_text()
        sleeps += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return seconds, sleeps


def _resident(process: Path) -> float:
    """Megabytes."""
    return int((process / "status").read_text().partition("\nVmRSS:")[2].split()[0]) * 1024 / 1e6


def idle_cost(stacks: int, seconds: float) -> Cost:
    """What the agents take that run now, looked at for some seconds, after they have been left alone for as long."""
    time.sleep(seconds)
    found = agents()
    before, began = [_used(each) for each in found], time.monotonic()
    time.sleep(seconds)
    after, took = [_used(each) for each in found], time.monotonic() - began
    ran = [now - then for (now, _), (then, _) in zip(after, before, strict=True)]
    slept = [now - then for (_, now), (_, then) in zip(after, before, strict=True)]
    return Cost(
        stacks=stacks,
        agents=len(found),
        megabytes=statistics.median(map(_resident, found)),
        millicores=statistics.median(ran) / took * 1000,
        wakeups=statistics.median(slept) / took * 60,
    )


@contextmanager
def many(cluster: Cluster, count: int) -> Generator[None]:
    """Stacks that are up, some of them made and destroyed at once."""
    stacks = [Stack(environment=cluster.environment, settings=_SETTINGS) for _ in range(count)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            list(pool.map(Stack.__enter__, stacks))
            list(pool.map(Stack.up, stacks))
            yield
        finally:
            list(pool.map(Stack.__exit__, stacks))


class _Watch:
    """When something was first so of objects that are new; kubectl prints them as they change."""

    def __init__(self, cluster: Cluster, *arguments: str, text: str) -> None:
        # The pod of a node that was removed is there for a while.
        self._old = {each["metadata"]["uid"] for each in cluster.get(*arguments)["items"]}
        fields = f'jsonpath={{.metadata.uid}}|{text}{{"\\n"}}'
        command = ["kubectl", "get", *arguments, "--watch", "-o", fields]
        self._process = subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True)
        self._lines: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout  # noqa: S101 - it is piped
        for line in self._process.stdout:
            self._lines.append((time.monotonic(), line.rstrip("\n")))

    def first(self, holds: Callable[[Sequence[str]], bool]) -> float:
        """The moment of the first line whose fields are so; 0 if there is none."""
        for moment, line in self._lines:
            uid, *fields = line.split("|")
            if uid not in self._old and holds(fields):
                return moment
        return 0.0

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()


def join(cluster: Cluster, namespace: str) -> Join:
    """Let a node join, and watch it and the pod of a stack there; the node is removed again."""
    pods = ("pods", "-n", namespace, "-l", "app.kubernetes.io/name=trust")
    node = _Watch(cluster, "nodes", text=f"{{.metadata.name}}|{_READY}")
    pod = _Watch(cluster, *pods, text=f"{{.spec.nodeName}}|{_RUNNING}|{_READY}")

    def proved() -> float:
        return pod.first(lambda fields: fields[0] == NODE and fields[2] == "True")

    try:
        local_cluster.add(NODE)
        wait_until(proved, f"{NODE} is proved", timeout=120)
        ready = node.first(lambda fields: fields == [NODE, "True"])
        started = pod.first(lambda fields: fields[0] == NODE and bool(fields[1]))
        return Join(started - ready, proved() - ready)
    finally:
        node.close()
        pod.close()
        local_cluster.remove(NODE)


def measure(
    cluster: Cluster, namespace: str, counts: Sequence[int], seconds: float, rounds: int
) -> Iterator[Cost | Join]:
    """Measure with one stack, which is up, and with more beside it.

    Args:
        cluster: The cluster.
        namespace: Namespace of the stack that is up.
        counts: How many stacks there are to be, the one included.
        seconds: How long idle agents are looked at.
        rounds: How often a node joins.
    """
    for count in counts:
        with many(cluster, count - 1):
            yield idle_cost(count, seconds)
    for _ in range(rounds):
        yield join(cluster, namespace)
