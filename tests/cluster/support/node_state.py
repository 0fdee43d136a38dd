"""What a node's container runtimes are configured by and how often they were started, read from the node itself."""

import hashlib
import stat
import tomllib
from pathlib import Path

from local_cluster import nodes

CONFIG_TREES = ("etc/containerd", "etc/docker", "etc/containers")
"""The folders that container runtimes are configured by."""


def tree_hashes(root: Path) -> dict[str, str]:
    """Every path below `root` with what it is: its type, permissions and content. Empty when there is no `root`."""
    found: dict[str, str] = {}
    for path in [root, *sorted(root.rglob("*"))] if root.exists() else []:
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISREG(mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(mode):
            content = str(path.readlink()).encode()
        found[str(path.relative_to(root))] = f"{stat.filemode(mode)} {hashlib.sha256(content).hexdigest()}"
    return found


def config_trees(node: str) -> dict[str, str]:
    """Everything below the folders that a node's container runtimes are configured by; see `tree_hashes`."""
    root = nodes.node_root(node)
    return {f"{tree}/{path}": what for tree in CONFIG_TREES for path, what in tree_hashes(root / tree).items()}


def restarts(node: str) -> int:
    """How often systemd has started containerd since the node's boot."""
    entries = nodes.exec_in_node(
        node, ["journalctl", "--boot", "--unit=containerd", "--output=cat", "--grep=^Started "]
    )
    return len(entries.stdout.splitlines())


def needs_restart(node: str) -> bool:
    """Whether the node's containerd, as its file says now, reads no folder of certificates until it is restarted.

    False on a node where another stack is up that needed the same restart before.
    """
    if nodes.TABLE[node].config != "generated":
        return False
    config = tomllib.loads((nodes.node_root(node) / "etc/containerd/config.toml").read_text())
    return not config["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["config_path"]
