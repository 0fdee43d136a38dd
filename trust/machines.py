"""Which nodes are machines. Virtual ones have no kubelet of their own that could pull, so nothing is proved on them.

A DaemonSet that tolerates every taint gets pods for virtual nodes, too, and they stay pending for ever.
"""

from collections.abc import Mapping

VIRTUAL: Mapping[str, tuple[str, ...]] = {
    "eks.amazonaws.com/compute-type": ("fargate",),
    "type": ("virtual-kubelet", "kwok"),
    "liqo.io/type": ("virtual-node",),
}
"""The labels of virtual nodes: those of Fargate, the virtual kubelet with its providers, kwok and Liqo."""


def virtual(labels: Mapping[str, str]) -> str:
    """The label, as `key=value`, that says that a node with these labels is no machine; empty if it is one."""
    return next((f"{key}={labels[key]}" for key, values in VIRTUAL.items() if labels.get(key) in values), "")
