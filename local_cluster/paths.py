"""Where the local cluster keeps its files: one folder per machine, outside the source tree.

It survives clones and `git clean`, so that binaries, root file systems and images are built once per machine.
"""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
"""The source tree that this package is part of."""

LOCAL_VARIABLE = "PRIVATE_REGISTRY_LOCAL"

LOCAL = Path(os.environ.get(LOCAL_VARIABLE) or Path.home() / ".cache" / "private-registry").absolute()
"""The folder of everything below; the variable moves it, and then Go's caches are in it, too."""

PROGRAMS = LOCAL / "programs"
"""Built binaries, one folder per key: the hash of what they are built from."""

ROOTFS = LOCAL / "rootfs"
"""Root file systems of the nodes, shared by all of them, never written by one."""

IMAGES = LOCAL / "images"
"""Container images as archives, put on each node before its first pod."""

NODE_DATA = LOCAL / "node-data"
"""What a node may keep from one cluster to the next: containerd's store with the imported images."""

SHELL = LOCAL / "shell"
"""Wrappers of client programs, the Pulumi home and the passphrase of local stacks."""

CLUSTER = LOCAL / "cluster"
"""State of the running cluster; `down` removes it."""

PKI = CLUSTER / "pki"
LOGS = CLUSTER / "logs"
NODES = CLUSTER / "nodes"
PROCESSES = CLUSTER / "processes"
KUBECONFIG = CLUSTER / "kubeconfig"

BIN = CLUSTER / "bin"
"""Link to the built binaries that the running cluster uses: a folder in `PROGRAMS`."""

PULUMI_BACKEND = CLUSTER / "pulumi"
"""Pulumi's state of the stacks on this cluster: it goes when the cluster goes, since what it names is gone then."""
