"""Waits that are bounded, and that end in a sentence of ours when they were in vain."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import pulumi

from .cluster import Cluster, Object

_IN_VAIN = "timed out waiting"
"""What is in the provider's error when it has waited in vain (provider source, await/internal/awaiter.go)."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def timeouts(timeout: str) -> pulumi.CustomTimeouts:
    """The same time, such as `2m`, for everything that the provider waits for."""
    return pulumi.CustomTimeouts(create=timeout, update=timeout, delete=timeout)


def wait(
    name: str, parent: pulumi.Resource, timeout: str, reason: Callable[[Mapping[str, Any]], str]
) -> pulumi.ResourceOptions:
    """Options of an object that the provider waits for.

    Args:
        name: A name that no other hook of the program has.
        parent: Component of the object.
        timeout: How long to wait, such as `2m`.
        reason: Asked once when the wait was in vain: why, and what to do. The provider tells only that it was. It is
            given the object as it was asked for. An object that the cluster refuses is not waited for: then the
            cluster's own sentence says why.
    """

    def tell(failed: pulumi.ErrorHookArgs) -> bool:
        if any(_IN_VAIN in error for error in failed.errors):
            pulumi.log.error(reason(failed.new_inputs or {}))
        return False  # it has waited enough

    return pulumi.ResourceOptions(
        parent=parent,
        custom_timeouts=timeouts(timeout),
        hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(name, tell)]),
    )


def is_rolled_out(deployment: Object) -> bool:
    """Whether a Deployment's controller has seen its present form, and all its pods have that form and are ready."""
    status: Object = deployment.get("status", {})
    wanted = deployment.get("spec", {}).get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 1)
    return seen and all(status.get(key) == wanted for key in ("replicas", "updatedReplicas", "readyReplicas"))


async def rolled_out(cluster: Cluster, namespace: str, name: str, timeout: str) -> None:
    """Wait until a Deployment is rolled out.

    The provider's own wait takes the pods of before an update for those after it, if it looks before the Deployment's
    controller has (provider source, await/deployment.go). It stays, for what it says when a new pod cannot start.

    Args:
        cluster: The cluster.
        namespace: Namespace of the Deployment.
        name: Its name.
        timeout: How long to wait, such as `2m`.

    Raises:
        pulumi.RunError: it was not in time.
    """
    deadline = time.monotonic() + int(timeout[:-1]) * _SECONDS[timeout[-1]]
    while not is_rolled_out(await asyncio.to_thread(cluster.read, "apps/v1", "deployments", namespace, name)):
        if time.monotonic() > deadline:
            msg = (
                f"The pod of the Deployment {name} in the namespace {namespace} was not ready within {timeout} (the "
                f"setting readyTimeout). Its events tell why: kubectl describe pods -n {namespace}"
            )
            raise pulumi.RunError(msg)
        await asyncio.sleep(0.5)
