"""What OpenShift wants of the program's pods: a security context constraint that their ServiceAccount may use.

OpenShift takes a pod only if the user who makes it or the pod's ServiceAccount may use a constraint that the pod keeps
(docs.redhat.com, "Managing security context constraints"). It has a ClusterRole for each of its own constraints, which
a RoleBinding gives to accounts of one namespace.
"""

from collections.abc import Sequence
from typing import Protocol

from registry import names

AGENT = "trust"
"""Name of the node agent's ServiceAccount, which has neither a token nor any right in Kubernetes itself."""
PRIVILEGED = "privileged"
"""The constraint that the node agent's pods keep."""
NONROOT = "nonroot-v2"
"""The constraint that all other pods keep: a user of their own choice that is not root, and nothing else.

The default one, `restricted-v2`, takes no user but those of a range that OpenShift gives each namespace."""

_KIND = ("security.openshift.io/v1", "SecurityContextConstraints")
RBAC = "rbac.authorization.k8s.io"


class Rights(Protocol):
    """What is asked of the cluster."""

    def serves(self, group_version: str, kind: str) -> bool:
        """Whether the cluster knows a kind."""
        ...

    def may(self, verb: str, group: str, resource: str, name: str) -> bool:
        """Whether the user may do something with an object that belongs to no namespace."""
        ...


def constraints(cluster: Rights, recorded: Sequence[str], *, agent: bool) -> list[str]:
    """The constraints that the program itself lets its pods use.

    Where the user may not give them, a cluster administrator has to, and the dry run of the pods says how.

    Args:
        cluster: The cluster.
        recorded: Those of the last `up`. These stay, whoever runs this one, and also while OpenShift's API is down.
        agent: Whether there is a node agent.
    """
    needed = (PRIVILEGED, NONROOT) if agent else (NONROOT,)
    return [
        constraint
        for constraint in needed
        if constraint in recorded
        or (cluster.serves(*_KIND) and cluster.may("bind", RBAC, "clusterroles", f"{names.CONSTRAINT}{constraint}"))
    ]
