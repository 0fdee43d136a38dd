"""What is written of the measurements: `results.md` with its tables, and the plot of an `up` in `docs/`."""

import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rich.bar import Bar
from rich.table import Table

from local_cluster import programs, rootfs
from local_cluster.paths import REPOSITORY
from registry import names
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import run
from tests.cluster.support.pictures import picture, terminal

from . import scale, timeline
from .client import CONNECTIONS
from .nodes import Cost, Join
from .scale import Scale
from .throughput import Throughput
from .timeline import Course, Step

RESULTS, PLOT = REPOSITORY / "bench" / "results.md", REPOSITORY / "docs" / "up.svg"
_SHORTEST = 0.2
"""Seconds that a step takes at least which the plot shows."""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(cluster: Cluster, load: float) -> Mapping[str, str]:
    """The machine and the versions of what is measured; `load` is the load average before anything was done."""
    memory = re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[0]
    model = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    nodes = [node["status"]["nodeInfo"] for node in cluster.get("nodes")["items"]]
    nginx = run(["chroot", rootfs.ensure("nginx"), "/usr/sbin/nginx", "-v"], os.environ).stderr
    commit = run(["git", "describe", "--always", "--dirty"], os.environ, cwd=REPOSITORY).stdout.strip()
    return {
        "machine": f"{os.cpu_count()} cores ({(model or ['unknown'])[0]}), {int(memory) / 2**20:.0f} GiB of memory",
        "load before": f"{load:.1f} processes, the average of a minute",
        "kernel": platform.release(),
        "program": f"{names.VERSION}, {commit}",
        "nodes": ", ".join(f"{each['kubeletVersion']} {each['containerRuntimeVersion']}" for each in nodes),
        "Pulumi": cluster.run("pulumi", "version").stdout.strip(),
        "registry": run([programs.ensure() / "registry", "--version"], os.environ).stdout.split()[-1],
        "nginx": nginx.rpartition("/")[2].strip(),
        "Python": platform.python_version(),
    }


def throughput_table(measured: Sequence[Throughput]) -> str:
    """A row for each way and load: the throughput of both directions, and beside that of the registry alone."""

    def cells(each: Throughput) -> list[str]:
        return [f"{each.rate(each.here):,.0f} MB/s", f"{each.rate(each.alone):,.0f} MB/s", f"{each.ratio:.2f}"]

    pairs = zip(measured[::2], measured[1::2], strict=True)
    rows = [[f"{push.way}, {push.load.name}", *cells(push), *cells(pull)] for push, pull in pairs]
    return _table(["way in, blobs", "push", "alone", "ratio", "pull", "alone", "ratio"], rows)


def timeline_table(courses: Mapping[str, Sequence[Course]]) -> str:
    """A row for each thing that was done, a column for each storage; then the differences that have a goal."""

    def median(of: Sequence[Course], what: str, less: str = "") -> str:
        values = [each.seconds[what] - (each.seconds[less] if less else 0) for each in of]
        return f"{statistics.median(values):.1f} s"

    done = [timeline.UP, timeline.APPLY, timeline.AGAIN, timeline.PREVIEW, timeline.DESTROY, timeline.EMPTY]
    rows = [[what, *(median(of, what) for of in courses.values())] for what in done]
    for what, less in ((timeline.UP, timeline.APPLY), (timeline.DESTROY, timeline.EMPTY)):
        rows.append([f"{what} less {less}", *(median(of, what, less) for of in courses.values())])
    return _table(["", *(f"storage: {storage}" for storage in courses)], rows)


def agents_table(costs: Sequence[Cost]) -> str:
    """A row for each number of stacks."""
    head = ["stacks on the cluster", "agents measured", "resident", "processor time", "wake-ups a minute"]
    rows = [
        [
            str(of.stacks),
            str(of.agents),
            f"{of.megabytes:.1f} MB",
            f"{of.millicores:.2f} millicores",
            f"{of.wakeups:.0f}",
        ]
        for of in costs
    ]
    return _table(head, rows)


def scale_table(measured: Sequence[Scale]) -> str:
    """A row for each thing that was measured, a column for each number of nodes."""

    def row(what: str, of: Callable[[Scale], float | None], text: str) -> list[str]:
        return [what, *(text.format(found) if (found := of(each)) is not None else "" for each in measured)]

    def size(kind: str) -> list[str]:
        return row(
            f"bytes of {scale.SIZES[kind]}, before compression", lambda each: each.further.sizes.get(kind, 0), "{:,.0f}"
        )

    done = (scale.FIRST, scale.SECOND, scale.ROTATION, scale.DESTROY)
    rows = [
        *(row(what, lambda each, what=what: each.seconds.get(what), "{:.1f} s") for what in done),
        row("from its DaemonSet to the end of the first `up`", lambda each: each.wait.moment, "{:.1f} s"),
        row("requests of the program meanwhile", lambda each: each.wait.own / each.wait.moment, "{:.1f} a second"),
        row("requests of all meanwhile", lambda each: each.wait.every / each.wait.moment, "{:.0f} a second"),
        row("requests of all at rest", lambda each: each.rest.every / each.rest.moment, "{:.0f} a second"),
        row("API server meanwhile", lambda each: each.wait.processor / each.wait.moment, "{:.2f} cores"),
        row("API server at rest", lambda each: each.rest.processor / each.rest.moment, "{:.2f} cores"),
        row("first look at the nodes, with all logs", lambda each: each.first.seconds, "{:.2f} s"),
        row("its requests", lambda each: each.first.requests, "{:,.0f}"),
        row("API server for it", lambda each: each.first.processor, "{:.2f} processor seconds"),
        row("a further look", lambda each: each.further.seconds, "{:.2f} s"),
        row("its requests", lambda each: each.further.requests, "{:,.0f}"),
        row("API server for it", lambda each: each.further.processor, "{:.3f} processor seconds"),
        *map(size, scale.SIZES),
    ]
    return _table(["", *(f"{each.nodes:,} nodes" for each in measured)], rows)


def plot(course: Course) -> str:
    """An SVG with the steps of an `up` that take some time, and below them what kubectl took for the same objects."""
    end = max(course.seconds[timeline.UP], course.seconds[timeline.APPLY])
    rows = [step for step in course.steps if step.end - step.begin >= _SHORTEST]
    rows.append(Step("kubectl apply of the same objects, all nodes proved", 0, course.seconds[timeline.APPLY]))
    grid = Table.grid(padding=(0, 1))
    for step in rows:
        bar = Bar(end, step.begin, step.end, width=60, color="green" if step is rows[-1] else "blue")
        grid.add_row(step.name, bar, f"{step.begin:.1f} to {step.end:.1f} s")
    console = terminal(140)
    console.print(grid)
    return picture(console, "pulumi up, second by second", "up")


def written(
    date: str,
    known: Mapping[str, str],
    measured: Sequence[Throughput],
    courses: Mapping[str, Sequence[Course]],
    costs: Sequence[Cost],
    joins: Sequence[Join],
    scales: Sequence[Scale],
) -> str:
    """The text of `results.md`."""
    rounds = (len(measured[0].here) if measured else 0, len(next(iter(courses.values()), ())))
    return f"""\
# Measurements

Written by `make bench` on {date}. Seconds depend on the machine; ratios compare what was measured in turn in one run.

{_table(["", ""], known.items())}

## Throughput

Ratio: throughput divided by that of the registry alone, which is a process that does TLS itself and is reached at the
loopback address; the median of the rounds ({rounds[0]}), in each of which both were measured one after the other.
*nginx as a process* is reached there as well, so it is what nginx costs; the ways in add the network of the cluster,
and `ingress` adds Traefik. All keep images in memory, and `auth` is `push`. The client (`bench/client.py`) moves
{CONNECTIONS} blobs at once over as many TLS connections, and reads and writes no files; it shares the cores with what
it measures.

{throughput_table(measured) if measured else "Not measured."}

## From nothing to trusted and back

The median of the rounds ({rounds[1]}) with `exposure: ingress`, while another stack is up, so that no container runtime
is restarted. kubectl gets the objects with the values that `up` has found out before, such as the address and the
certificate; so it does less.

{timeline_table(courses) if courses else "Not measured."}

The course of an `up` is drawn in [docs/up.svg](../docs/up.svg).

## Nodes

What one idle agent takes: the median of all agents of the cluster. It talks to no Kubernetes API.

{agents_table(costs) if costs else "Not measured."}

A node that joins, in seconds after its kubelet was Ready: {"; ".join(map(str, joins)) or "not measured"}.

## Many nodes

The real nodes alone, and with nodes that kwok simulates beside them: it keeps them Ready with as many leases as
kubelets renew, says at once of their pods that they run, and gives their agents' logs. So this measures API server,
controllers and program, and no pulls. Everything shares the cores of the one machine; requests of all include those of
kwok and of the measurement. What follows from it for more nodes is in [docs/scale.md](../docs/scale.md).

{scale_table(scales) if scales else "Not measured."}
"""


def typical(courses: Sequence[Course]) -> Course:
    """The round whose `up` took the median of all."""
    ordered = sorted(courses, key=lambda each: each.seconds[timeline.UP])
    return ordered[(len(ordered) - 1) // 2]
