"""What tests that disturb a node do there, and how they see in which state it is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local_cluster import cluster as local_cluster
from local_cluster import nodes

from .cluster import Cluster, is_ready
from .commands import wait_until
from .diagnosis import agent_on, diagnose
from .matrix.steps import STATE
from .node_state import config_trees
from .stacks import Deployed

NODE = "node-d"
"""The node that joins, to be disturbed."""


def settled(cluster: Cluster, node: str) -> bool:
    """Whether every stack on the cluster has a ready agent on a node. A developer's own stack may be there, too."""
    label = ("--all-namespaces", "-l", "app.kubernetes.io/name=trust")
    pods = cluster.get("pods", f"--field-selector=spec.nodeName={node}", *label)["items"]
    return sum(map(is_ready, pods)) == len(cluster.get("daemonsets", *label)["items"])


def state(node: str) -> dict[str, str]:
    """The container runtimes' configuration on a node, and the names of all notes about what stacks have there."""
    notes = path_on(node, STATE).glob("*")
    return {**config_trees(node), **{str(note.relative_to(nodes.node_root(node))): "" for note in notes}}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Paths that differ between two states of a node."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def path_on(node: str, path: str) -> Path:
    """The path on this machine of a file on a node."""
    return nodes.node_root(node) / path.lstrip("/")


def on(node: str, *command: str) -> str:
    """What a command that succeeds on a node prints."""
    done = nodes.exec_in_node(node, command)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def our_file(deployed: Deployed, node: str) -> Path:
    """The file that the agent of a stack keeps on a node."""
    [file] = deployed.hosts_directory(node).glob("*.crt")
    return file


def replace_agent(deployed: Deployed, node: str) -> str:
    """Delete the agent's pod of a node, wait for the next one's container, and return its name."""
    old = agent_on(deployed, node)
    deployed.cluster.kubectl("delete", "pod", "-n", deployed.namespace, old, timeout=120)
    found = ""

    def runs() -> bool:
        nonlocal found
        for pod in deployed.agents():
            statuses = pod["status"].get("initContainerStatuses", [])
            if pod["spec"].get("nodeName") == node and any("running" in status["state"] for status in statuses):
                found = pod["metadata"]["name"]
        return found not in ("", old)

    wait_until(runs, f"the next agent runs on {node}", timeout=60)
    return found


def wait_reason(deployed: Deployed, node: str, reason: str, *, timeout: float = 60) -> None:
    """Wait until the doctor gives this reason for the node, and no fault of any other one."""
    text = ""

    def named() -> bool:
        nonlocal text
        text = diagnose(deployed.cluster, deployed.stack).text
        lines = {line.split()[0]: line for line in text.splitlines()[1:] if line}
        others = [line for name, line in lines.items() if name != node]
        return f"  {reason}  " in lines.get(node, "") and all(line.endswith("  proved") for line in others)

    try:
        wait_until(named, f"the doctor says {reason} of {node}", timeout=timeout, interval=1)
    except AssertionError as error:
        raise AssertionError(f"{error}; the doctor's last words:\n{text}") from None


@contextmanager
def joined(cluster: Cluster) -> Iterator[str]:
    """A node that joins for tests that disturb it.

    It is tainted, because no registry may run, and have its volume, on a node that goes down.
    """
    local_cluster.add(NODE)
    try:
        cluster.kubectl("taint", "--overwrite", "node", NODE, "example.com/faults=1:NoSchedule")
        wait_until(lambda: settled(cluster, NODE), f"the agents of other stacks are ready on {NODE}", timeout=120)
        yield NODE
    finally:
        local_cluster.remove(NODE)
