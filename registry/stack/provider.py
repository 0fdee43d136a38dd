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
    "enableConfigMapMutable": "flag",
    "enableSecretMutable": "flag",
    "helmReleaseSettings": "object",
    "kubeClientSettings": "object",
    "namespace": "text",
    "skipUpdateUnreachable": "flag",
    "suppressDeprecationWarnings": "flag",
    "suppressHelmHookWarnings": "flag",
}
"""The settings `kubernetes:KEY` of the default provider that this one gets from the stack's configuration as they are.

It would get none of them by itself. Of the others, `clusterIdentifier`, `context` and `kubeconfig` are below,
`upsertExistingObjects` is always on, those in `REFUSED` have one value, and `deleteUnreachable` is not kept: who needs
it at `destroy` sets PULUMI_K8S_DELETE_UNREACHABLE there.
"""

REFUSED: Mapping[str, tuple[str, str]] = {
    "cluster": (
        "",
        "but the program asks the cluster that the context names, so its objects would go to another one than its "
        "questions. Have a context lead there: kubectl config set-context NAME --cluster=CLUSTER --user=USER && pulumi "
        "config set kubernetes:context NAME && pulumi config rm kubernetes:cluster",
    ),
    "enablePatchForce": (
        "false",
        "but then a namespace would be taken over that somebody else makes at the same moment. What is the stack's own "
        "is taken over without it: pulumi config rm kubernetes:enablePatchForce",
    ),
    "enableServerSideApply": (
        "true",
        "but what stops a destroy on another cluster is made by server-side apply: pulumi config rm "
        "kubernetes:enableServerSideApply",
    ),
    "renderYamlToDirectory": (
        "",
        "but the program waits for what a cluster makes of its objects, which files cannot answer, and its secrets "
        "would be in them: pulumi config rm kubernetes:renderYamlToDirectory",
    ),
}
"""The settings `kubernetes:KEY` with which the program cannot work: the only value, empty for none, and what is said of
another one, after "The setting is ..."."""


def check_settings() -> None:
    """Check that the provider's settings have it do what the rest of the program takes for granted.

    Raises:
        pulumi.RunError: they have not. The message has a line for each.
    """
    config = pulumi.Config("kubernetes")
    given = {key: config.get(key) or "" for key in REFUSED}
    lines = [
        f"The setting kubernetes:{key} is {given[key]}, {why}."
        for key, (only, why) in REFUSED.items()
        if given[key] not in ("", only)
    ]
    if lines:
        raise pulumi.RunError("\n".join(lines))


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
        # Else the class would take them from its variables, also at a later `up`.
        "enable_patch_force": False,
        "enable_server_side_apply": True,
    }


def snake(key: str) -> str:
    """A setting's key as Python spells it."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def make_provider(name: str, cluster: Cluster, opts: pulumi.ResourceOptions) -> k8s.Provider:
    """Make the provider, which connects to the cluster as the program does."""
    return k8s.Provider(name, **arguments(cluster), opts=opts)
