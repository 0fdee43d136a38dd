"""Where the local cluster keeps its files: one folder per machine, outside the source tree.

It survives clones and `git clean`, so that binaries, root file systems and images are built once per machine.
"""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
"""The source tree that this package is part of."""

LOCAL = Path(os.environ.get("PRIVATE_REGISTRY_LOCAL") or Path.home() / ".cache" / "private-registry").absolute()
"""The folder of everything below; `PRIVATE_REGISTRY_LOCAL` moves it."""

PROGRAMS = LOCAL / "programs"
"""Built binaries, one folder per key: the hash of what they are built from."""

ROOTFS = LOCAL / "rootfs"
"""Root file systems of the nodes, one folder per Debian suite; shared by all nodes, never written by one."""

IMAGES = LOCAL / "images"
"""Container images as archives, put on each node before its first pod."""

CLUSTER = LOCAL / "cluster"
"""State of the running cluster. Removed by `down`."""

PKI = CLUSTER / "pki"
LOGS = CLUSTER / "logs"
NODES = CLUSTER / "nodes"
KUBECONFIG = CLUSTER / "kubeconfig"

NODE_DATA = LOCAL / "node-data"
"""What nodes may keep between two starts: the content stores of containerd with the imported images."""

SHELL = LOCAL / "shell"
"""Wrappers for client programs, the Pulumi home, its backend and passphrase."""
