"""Whether the node's runtime would pull without the agent. Started as `python3 -m agent.without`, in the agent's pod.

`pulumi up` asks this before it takes the agents away for good. The agent's file leaves the node for the time of one
pull, under the lock of all agents, and so do the folders that were made for it, since a runtime that finds one looks
into no other. If this program is killed meanwhile, the agent itself puts the file back.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import cri, discover
from .faults import Fault
from .node import Node
from .state import OWNERS, State

Pull = Callable[[str, str, str, str], bool]
"""The type of `cri.pull`, so that a test can put another function in its place."""

_TOLD = (
    "was told by ca_file in its configuration to read the agent's file, and without that it refuses every pull from "
    "the registry until it is restarted: move the mirrors of its configuration to certs.d/<host>/hosts.toml, set "
    "config_path there, and restart it first"
)
"""Why a runtime cannot be asked that reads one file instead of a folder."""


def without(node: Node, owner: str, wanted: Mapping[str, str], pull: Pull = cri.pull) -> dict[str, Any]:
    """Pull with the owner's file, and then without it and the folders that the agent has made.

    Args:
        node: The node.
        owner: Whose file it is.
        wanted: The `image`, and perhaps `username` and `password`.
        pull: Has the runtime pull.

    Returns:
        `with` and `without`: whether the pull came about; `changes`: the configuration files that hold a change of an
        agent, which goes when the last agent goes; `error`: why the node could not be asked, empty if it could.
    """
    state = State(node.tree)
    answer: dict[str, Any] = {"with": False, "without": False, "changes": [], "error": ""}
    try:
        runtime = discover.runtime(node)
        tree = node.view(runtime.process[0])
        with state.lock(seconds=20) as held, node.tree.opened(runtime.socket) as socket:
            ownership = state.ownership(owner) if held else None
            if ownership is None:
                return {**answer, "error": "its agent is not ready, or is at work" if held else "another agent is busy"}

            def pulled() -> bool:
                return pull(socket, wanted["image"], wanted.get("username", ""), wanted.get("password", ""))

            if f"{OWNERS}/{owner}.crt" in ownership.files:
                return {**answer, "error": f"{runtime.name} {_TOLD}"}
            answer["changes"] = sorted(state.changes(damaged=True))
            answer["with"] = pulled()
            kept = {path: tree.read(path) for path in ownership.files}
            folders = [path for path in ownership.folders if tree.exists(path)]
            try:
                for path in kept:
                    tree.remove(path)
                for path in sorted(folders, key=len, reverse=True):
                    tree.remove_folder(path)
                answer["without"] = pulled()
            finally:
                for path in folders:
                    tree.make_folders(path)
                for path, content in kept.items():
                    if content is not None:
                        tree.write(path, content)
    except (Fault, OSError) as error:
        answer["error"] = str(error)
    return answer


if __name__ == "__main__":
    print(json.dumps(without(Node(), os.environ["OWNER"], json.loads(sys.stdin.readline()))))
