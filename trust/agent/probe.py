"""What the node is like at this moment, as one JSON object. The doctor runs this in the agent's container.

The agent's status file says what the agent saw last. This looks again, also when the agent has been stopped. Started as
`python3 -m agent.probe`, with the environment of the agent.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import discover
from .certificates import fingerprints
from .client import runtime_client
from .connect import check
from .faults import Fault
from .node import Node
from .outcome import Outcome
from .report import STATUS
from .state import State


def agent_state(node: Node) -> str:
    """The state letter of the agent's process, see proc(5). It is empty if there is no such process."""
    here = node.link(os.getpid(), "ns/mnt")
    for pid in node.pids():
        if node.arguments(pid) == ["python3", "-m", "agent"] and node.link(pid, "ns/mnt") == here:
            return node.text(pid, "stat").rpartition(")")[2].split()[0]
    return ""


def files(node: Node, owner: str) -> dict[str, bool]:
    """Every file that an owner has on the node, and whether it still holds what was written."""
    tree = node.tree
    ownership = State(tree).ownerships().get(owner)
    with contextlib.suppress(Fault):
        tree = node.view(discover.runtime(node).process[0])
    wanted = ownership.files if ownership else {}
    return {path: hashlib.sha256(tree.read(path) or b"").hexdigest() == digest for path, digest in wanted.items()}


def connection(host: str, ca: str, node_name: str, node: Node) -> dict[str, Any] | None:
    """The outcome that says what keeps this node from the registry now; None if nothing does."""
    runtime = None
    with contextlib.suppress(Fault):
        runtime = discover.runtime(node)
    try:
        check(host, ca, runtime_client(node, runtime, node_name, host, ca))
    except Fault as fault:
        return asdict(Outcome.of(fault))
    return None


def main(environment: Mapping[str, str] = os.environ, node: Node | None = None) -> None:
    """Print the object; `trust.doctor.facts.Probe` documents its fields."""
    node = node or Node()
    ca = Path(environment["CA_FILE"]).read_text()
    status = Path(environment["READY_FILE"]).with_name(STATUS)
    print(
        json.dumps(
            {
                "process": agent_state(node),
                "status": json.loads(status.read_text()) if status.exists() else {},
                "files": files(node, environment["OWNER"]),
                "ca": list(fingerprints(ca)),
                "connection": connection(environment["REGISTRY_HOST"], ca, environment["NODE_NAME"], node),
            }
        )
    )


if __name__ == "__main__":
    main()
