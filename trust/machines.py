"""Which nodes are machines on which a pull can be proved.

Virtual nodes have no kubelet of their own that could pull. A DaemonSet that tolerates every taint gets pods for them,
too, and they stay pending for ever. On machines of an architecture that the proof image is not for, it would be pulled,
and could not run.
"""

from collections.abc import Mapping

from registry.names import ARCHITECTURES

VIRTUAL: Mapping[str, tuple[str, ...]] = {
    "eks.amazonaws.com/compute-type": ("fargate",),
    "type": ("virtual-kubelet", "kwok"),
    "liqo.io/type": ("virtual-node",),
}
"""The labels of virtual nodes: those of Fargate, the virtual kubelet with its providers, kwok and Liqo."""


def virtual(labels: Mapping[str, str]) -> str:
    """The label, as `key=value`, that says that a node with these labels is no machine; empty if it is one."""
    return next((f"{key}={labels[key]}" for key, values in VIRTUAL.items() if labels.get(key) in values), "")


ARCHITECTURE = "kubernetes.io/arch"
"""The label with which every kubelet says what machine it runs on."""


def other_architecture(labels: Mapping[str, str]) -> str:
    """The architecture of a node with these labels, if the proof image is not for it; else empty."""
    architecture = labels.get(ARCHITECTURE, "")
    return "" if architecture in ARCHITECTURES else architecture
