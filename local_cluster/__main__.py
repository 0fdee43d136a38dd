"""`.venv/bin/python -m local_cluster COMMAND`: a real Kubernetes cluster on one Debian machine."""

import argparse
import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence

from . import building, cluster, demo, elsewhere, images, network, nodes, programs, shell
from .errors import BuildError, ClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (BuildError, ClusterError) as error:
        building.announce(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        building.announce("interrupted: the next `up` or `down` removes what is half made")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=".venv/bin/python -m local_cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("programs", help="build the programs that are missing, and print their folder")
    command.add_argument("groups", nargs="*", default=programs.DEFAULT, help=f"some of {', '.join(programs.GROUPS)}")
    command.add_argument("--extra", action="store_true", help="the groups that only `make test-all` needs, too")
    command.add_argument("--built", action="store_true", help="build nothing, but fail if any is missing")
    command.set_defaults(run=_programs)

    command = commands.add_parser("images", help="build the images that are missing, and print their archives")
    command.set_defaults(run=_images)

    command = commands.add_parser("up", help="start the cluster, or complete the running one")
    command.add_argument("--nodes", default=",".join(nodes.DEFAULT), help="names, separated by commas (%(default)s)")
    command.set_defaults(run=_up)

    command = commands.add_parser("node", help="let one more node join the running cluster")
    command.add_argument("name", help=f"one of {', '.join(nodes.TABLE)}")
    command.add_argument("--remove", action="store_true", help="remove it instead")
    command.set_defaults(run=_node)

    command = commands.add_parser("down", help="remove the cluster")
    command.set_defaults(run=_down)

    command = commands.add_parser("env", help="print the environment of a shell on the cluster, as export lines")
    command.add_argument("--start", action="store_true", help="start the cluster if it does not run")
    command.add_argument("--without-pulumi", action="store_true", help="for a shell that does not run Pulumi")
    command.set_defaults(run=_env)

    command = commands.add_parser("run", help="run a program as a client of the cluster")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...")
    command.set_defaults(run=_run)

    command = commands.add_parser("hint", help="print how to go on after a stack is up")
    command.add_argument("stack", help="its name")
    command.set_defaults(run=_hint)

    command = commands.add_parser("demo", help="push an image to the registry of a stack, and run it on every node")
    command.add_argument("stack", help="its name")
    command.set_defaults(run=_demo)

    command = commands.add_parser("status", help="print one line per component and node")
    command.set_defaults(run=_status)
    return parser


def _programs(options: argparse.Namespace) -> int:
    groups = [*options.groups, *(programs.EXTRA if options.extra else ())]
    if options.built:
        return 0 if programs.are_built(groups) else 1
    print(programs.ensure(groups))
    return 0


def _images(_: argparse.Namespace) -> None:
    print(*images.ensure(), sep="\n")


def _up(options: argparse.Namespace) -> None:
    cluster.up(options.nodes.split(","))


def _node(options: argparse.Namespace) -> None:
    if options.remove:
        cluster.remove(options.name)
    else:
        cluster.add(options.name)


def _down(_: argparse.Namespace) -> None:
    cluster.down()


def _env(options: argparse.Namespace) -> None:
    if elsewhere.is_named():
        sys.stdout.write(shell.exports(elsewhere.environment(pulumi=not options.without_pulumi)))
        return
    if options.start:
        cluster.up()
    cluster.require()
    sys.stdout.write(shell.exports(shell.environment()))


def _run(options: argparse.Namespace) -> int:
    words = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not words:
        raise ClusterError("there is no program to run: `run -- PROGRAM ARGUMENTS...`")
    if elsewhere.is_named():
        return subprocess.run(words, env=shell.applied(elsewhere.environment()), check=False).returncode
    cluster.require()
    return subprocess.run(network.client(*words), env=shell.applied(shell.environment()), check=False).returncode


def _hint(options: argparse.Namespace) -> None:
    query = ["pulumi", "stack", "output", "--stack", options.stack, "--json"]
    outputs = json.loads(subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True).stdout)
    url, username = outputs["registryUrl"], outputs.get("username")
    lines = f'eval "$(make -s shell-env{elsewhere.arguments()})"\n{demo.push_lines(options.stack, url, username)}'
    lines += f"kubectl run app --image={url}/team/app:1"
    print(f"\nThe registry: {url}\n\nPush to it, and let a pod pull:\n{textwrap.indent(lines, '  ')}")


def _demo(options: argparse.Namespace) -> None:
    demo.run(options.stack)


def _status(_: argparse.Namespace) -> None:
    print(*cluster.status(), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
