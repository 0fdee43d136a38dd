"""`make bench`: how long a stack takes to come and go, what pushes, pulls and agents cost, and what many nodes do.

It takes less than twenty minutes on two idle cores, and the first one some minutes more, in which it builds kwok. It
prints `results.md`, and writes it, and table and plot in `docs/`. See `--help` for less of it, such as
`make bench BENCH='--scale 0.01'`, which writes nothing, and of more, such as `make bench BENCH='--rounds 3'`.
"""

import argparse
import os
from datetime import UTC, datetime

from local_cluster import cluster as local_cluster
from local_cluster import programs
from tests import docs
from tests.cluster.support.cluster import running_cluster
from tests.cluster.support.stacks import Stack

from . import nodes, report, scale, throughput, timeline

STORAGES = {"volume": {"storage": "volume"}, "memory": {"storage": "memory"}}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the program on the local cluster.")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the blobs, stacks and simulated nodes (1)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each thing is measured (1)")
    parser.add_argument("--only", choices=["throughput", "timeline", "nodes", "scale"], help="leave the others out")
    return parser.parse_args()


def main() -> None:
    """Start the local cluster if need be, measure, and leave the cluster running."""
    options, (load, *_) = _options(), os.getloadavg()
    if options.only in (None, "scale"):
        programs.ensure(programs.MEASURED)
    if not os.environ.get("PRIVATE_REGISTRY_KEEP_CLUSTER"):
        local_cluster.up()
    cluster = running_cluster()
    date, facts = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", report.facts(cluster, load)
    measured = list[throughput.Throughput]()
    courses = dict[str, list[timeline.Course]]()
    costs, joins, scales = list[nodes.Cost](), list[nodes.Join](), list[scale.Scale]()

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    # The first stack on a node may restart the node's container runtime. This is that one.
    with Stack(environment=cluster.environment) as first:
        first.up()
        if wanted("timeline"):
            for storage, settings in STORAGES.items():
                for course in timeline.measure(cluster, settings, options.rounds):
                    print(f"{storage}: {course}", flush=True)
                    courses.setdefault(storage, []).append(course)
        if wanted("throughput"):
            for each in throughput.measure(cluster, options.scale, options.rounds):
                print(each, flush=True)
                measured.append(each)
        if wanted("nodes"):
            counts = sorted({1, max(1, round(20 * options.scale))})
            for found in nodes.measure(
                cluster, first.outputs()["namespace"], counts, 20 * options.scale, options.rounds
            ):
                print(found, flush=True)
                costs.append(found) if isinstance(found, nodes.Cost) else joins.append(found)
        if wanted("scale"):
            count = max(1, round(scale.MOST * options.scale))
            for each in scale.measure(cluster, first.outputs()["namespace"], count):
                print(each, flush=True)
                scales.append(each)
        text = report.written(date, facts, measured, courses, costs, joins, scales)
        print(text)
        if options.only is None and options.scale == 1:
            report.RESULTS.write_text(text)
            report.PLOT.write_text(report.plot(report.typical(courses["volume"])))
            docs.write()


if __name__ == "__main__":
    main()
