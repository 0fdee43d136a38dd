"""The Kubernetes provider that every object of the stack uses. It is a resource, so the state keeps how to reach it.

By default a stack has a provider that takes the kubeconfig's current context at each command, also at `destroy`, which
does not run this program. This one keeps the context of `up`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as k8s

from ..cluster import Cluster

SETTINGS: Mapping[str, Literal["text", "flag", "object"]] = {
    "alwaysRender": "flag",
    "cluster": "text",
    "enableConfigMapMutable": "flag",
    "enablePatchForce": "flag",
    "enableSecretMutable": "flag",
    "enableServerSideApply": "flag",
    "helmReleaseSettings": "object",
    "kubeClientSettings": "object",
    "namespace": "text",
    "renderYamlToDirectory": "text",
    "skipUpdateUnreachable": "flag",
    "suppressDeprecationWarnings": "flag",
    "suppressHelmHookWarnings": "flag",
}
"""The settings `kubernetes:KEY` of the default provider that this one gets from the stack's configuration as they are.

It would get none of them by itself. Of the others, `clusterIdentifier`, `context` and `kubeconfig` are below,
`upsertExistingObjects` is always on, and `deleteUnreachable` is not kept: who needs it at `destroy` sets
PULUMI_K8S_DELETE_UNREACHABLE there.
"""


def arguments(cluster: Cluster) -> dict[str, Any]:
    """The provider's arguments, by the names that its class gives them."""
    config = pulumi.Config("kubernetes")
    read = {"text": config.get, "flag": config.get_bool, "object": config.get_object}
    given = {snake(key): read[kind](key) for key, kind in SETTINGS.items()}
    # Without a value the class would take the path in KUBECONFIG, and the state would keep a path that the next job
    # does not have. The provider takes an empty text for the kubeconfig of whoever runs the command.
    kubeconfig = config.get_secret("kubeconfig") or ""
    return {
        **{name: value for name, value in given.items() if value is not None},
        "context": cluster.context or None,
        "kubeconfig": kubeconfig,
        # The provider never compares it with the cluster. But while it stays the same, another address of the API
        # server in the kubeconfig is no reason to replace everything, the volume included.
        "cluster_identifier": cluster.uid or None,
        # An `up` that was killed leaves objects that are not in the state. With this the next one takes them over; it
        # checks before that what is not in a namespace of its own is its own.
        "upsert_existing_objects": True,
    }


def snake(key: str) -> str:
    """A setting's key as Python spells it."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def make_provider(name: str, cluster: Cluster, opts: pulumi.ResourceOptions) -> k8s.Provider:
    """Make the provider, which connects to the cluster as the program does."""
    return k8s.Provider(name, **arguments(cluster), opts=opts)
