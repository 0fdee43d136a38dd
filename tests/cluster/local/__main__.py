"""`python3 -m tests.cluster.local COMMAND`: a real Kubernetes cluster on one Debian machine."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from . import building, cluster, network, nodes, shell
from .building import BuildError
from .machine import ClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (BuildError, ClusterError) as error:
        building.announce(f"error: {error}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster.local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help="start the cluster, or complete the running one")
    command.add_argument("--nodes", default=",".join(nodes.DEFAULT), help="names, separated by commas (%(default)s)")
    command.set_defaults(run=lambda options: cluster.up(options.nodes.split(",")))

    command = commands.add_parser("node", help="let one more node join the running cluster")
    command.add_argument("name", help=f"one of {', '.join(nodes.TABLE)}")
    command.add_argument("--remove", action="store_true", help="remove it instead")
    command.set_defaults(run=lambda options: (cluster.remove if options.remove else cluster.add)(options.name))

    command = commands.add_parser("down", help="remove the cluster")
    command.set_defaults(run=lambda _: cluster.down())

    command = commands.add_parser("env", help="print the environment of a shell on the cluster, as export lines")
    command.add_argument("--start", action="store_true", help="start the cluster if it does not run")
    command.set_defaults(run=_env)

    command = commands.add_parser("run", help="run a program as a client in the cluster's network")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...")
    command.set_defaults(run=_run)

    command = commands.add_parser("status", help="print one line per component and node")
    command.set_defaults(run=lambda _: print("\n".join(cluster.status())))
    return parser


def _env(options: argparse.Namespace) -> None:
    if options.start:
        cluster.up()
    cluster.require()
    sys.stdout.write(shell.exports(shell.environment()))


def _run(options: argparse.Namespace) -> int:
    cluster.require()
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        raise ClusterError("there is no program to run: `run -- PROGRAM ARGUMENTS...`")
    return subprocess.run(network.client(*words), env=os.environ | shell.environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
