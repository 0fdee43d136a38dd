"""Runs in the agent's container, by exec: what the node is like at this moment, as one JSON object.

The agent's own status tells what it last saw; this looks again, also when the agent has been stopped. It is sent as
text, and reuses the agent's modules that the pod has.
"""

# pyright: basic, reportMissingImports=false
# The package `agent` is the pod's.

import contextlib
import hashlib
import json
import os
from pathlib import Path

from agent.connect import check, fingerprints
from agent.discover import Node, runtime
from agent.faults import Fault
from agent.state import State


def agent_state(node: Node) -> str:
    """The state letter of the agent's process as proc(5) has it; empty if there is none."""
    here = node.link(os.getpid(), "ns/mnt")
    for pid in node.pids():
        if node.arguments(pid)[:3] == ["python3", "-m", "agent"] and node.link(pid, "ns/mnt") == here:
            return node.text(pid, "stat").rpartition(")")[2].split()[0]
    return ""


def files(node: Node) -> dict[str, bool]:
    """Every file that this owner has on the node, and whether it holds what was written."""
    tree = node.tree
    marker = State(tree).markers().get(os.environ["OWNER"])
    with contextlib.suppress(Fault):
        tree = node.view(runtime(node).process[0])
    wanted = marker.files if marker else {}
    return {path: hashlib.sha256(tree.read(path) or b"").hexdigest() == digest for path, digest in wanted.items()}


def connection(ca: str) -> list[str]:
    """Reason and sentence of what keeps this node from the registry now; empty if nothing does."""
    try:
        check(os.environ["REGISTRY_HOST"], ca, os.environ["NODE_NAME"])
    except Fault as fault:
        return [fault.reason, fault.sentence]
    return []


def main() -> None:
    """Print the object."""
    node = Node()
    ca = Path(os.environ["CA_FILE"]).read_text()
    status = Path(os.environ["READY_FILE"]).with_name("status.json")
    print(
        json.dumps(
            {
                "process": agent_state(node),
                "status": json.loads(status.read_text()) if status.exists() else {},
                "files": files(node),
                "ca": list(fingerprints(ca)),
                "connection": connection(ca),
            }
        )
    )


main()
