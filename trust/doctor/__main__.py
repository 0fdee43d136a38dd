"""Prints one line for each node: its runtime, the folder that the runtime reads, and the verdict with its fix."""

import argparse
import sys
from collections.abc import Iterable

from .judge import NodeReport, all_proved, judge
from .read import DoctorError, facts, facts_of_namespace
from .stack import storage_fault
from .verdict import Code, Verdict


def lines(
    reports: Iterable[NodeReport],
    shared: Verdict | None,
    stack: str,
    here: str,
    storage: Verdict | None = None,
    unasked: int = 0,
) -> list[str]:
    """What is printed.

    Args:
        reports: What is said of each node.
        shared: What is broken for all nodes.
        stack: The stack's name.
        here: What keeps this machine, and no node, from the registry.
        storage: What keeps the registry from taking what is pushed.
        unasked: How many agents were not asked.
    """
    rows = [("all nodes", "", "", _words(shared))] if shared else []
    rows += [("registry", "", "", _words(storage))] if storage else []
    rows += [(r.node, r.runtime, r.root, _words(r.verdict) + ("" if r.counted else "  (not counted)")) for r in reports]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    printed = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    silent = (
        f"There was no time to ask {unasked} of the agents, so of their nodes it is said what their pods show. If "
        "kubectl logs is slow as well, look why the API server does not reach the kubelets."
    )
    told = [f"From this machine: {here}"] if here else []
    return [f"Stack {stack}", *printed, *([silent] if unasked else []), *told]


def _words(verdict: Verdict) -> str:
    if verdict.code == Code.PROVED:
        return "proved"
    return f"{verdict.code}  {verdict.link}: {verdict.sentence or 'see all nodes'}"


def main() -> int:
    """Print the diagnosis. Returns 0 if every schedulable Linux node is proved and pushes are taken, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m trust.doctor", description=__doc__)
    parser.add_argument("--stack", default="", help="name of the stack, by default the selected one")
    parser.add_argument(
        "--namespace", default="", help="the stack's namespace instead: nothing of Pulumi is asked then"
    )
    parser.add_argument(
        "--context", default="", help="context of the kubeconfig, by default the current one (with --namespace)"
    )
    parser.add_argument("--if-deployed", action="store_true", help="print nothing if the stack has no namespace yet")
    options = parser.parse_args()
    if options.namespace and options.stack:
        parser.error("--stack and --namespace name the same thing: give one of them")
    if options.context and not options.namespace:
        parser.error("--context belongs to --namespace; the context of a stack is in its state")
    try:
        found = facts_of_namespace(options.namespace, options.context) if options.namespace else facts(options.stack)
    except DoctorError as error:
        print(error, file=sys.stderr)
        return 1
    if options.if_deployed and found.namespace is None:
        return 1
    shared, reports = judge(found)
    proved = all_proved(shared, reports)
    # A fault that nodes have as well is said already, so this machine is mentioned only if all nodes are proved.
    storage = None if shared else storage_fault(found)
    print(*lines(reports, shared, found.declared.stack, found.here if proved else "", storage, found.unasked), sep="\n")
    return 0 if proved and not storage else 1


if __name__ == "__main__":
    sys.exit(main())
