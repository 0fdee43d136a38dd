"""Waits with a time-out. When it is reached, an error of our own says why, and what helps."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pulumi

from . import names
from .cluster import Cluster, Object
from .pod.pods import WAKE, log_of, pods_of
from .pod.trouble import Crash, condition_of, crashes, gone, registry_trouble

T = TypeVar("T")

_TIMED_OUT = "timed out waiting"
"""Part of the provider's error when a wait has reached its time-out (provider source, await/internal/awaiter.go)."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_INTERVAL = 0.25
"""Seconds between two looks at a Deployment."""
_PATIENCE, _WHY, _REMIND = 10.0, 5.0, 60.0
"""Seconds before a wait for a Deployment says why, between two looks for another reason, and until it says the same
again."""


def after(value: pulumi.Input[T], *ready: pulumi.Input[object]) -> pulumi.Output[T]:
    """`value`, as an output that is not known before every one of `ready` is.

    Whatever uses the result is therefore made after what `ready` belongs to.
    """
    return pulumi.Output.all(value, *ready).apply(lambda known: known[0])


@dataclass(frozen=True)
class _Asked(Generic[T]):
    """What is asked for when it is awaited, and not before: what nobody comes to await needs no end."""

    ask: Callable[[], Awaitable[T]]

    def __await__(self) -> Generator[Any, Any, T]:
        return self.ask().__await__()


def unordered(value: pulumi.Output[T]) -> pulumi.Output[T]:
    """`value` without the resources that it comes from.

    Whatever uses the result is made after them all the same, since it is not known before. But in the stack's state it
    does not depend on them, so `destroy` deletes it beside them, and not first.
    """
    known: Any = _Asked(lambda: value.future(with_unknowns=True))
    return pulumi.Output(set(), known, _Asked(value.is_known), _Asked(value.is_secret))


def seconds_of(timeout: str) -> int:
    """The seconds of a time-out such as `2m`."""
    return int(timeout[:-1]) * _SECONDS[timeout[-1]]


def timeouts(timeout: str) -> pulumi.CustomTimeouts:
    """The same time-out, such as `2m`, for the creation, the update and the deletion of an object."""
    return pulumi.CustomTimeouts(create=timeout, update=timeout, delete=timeout)


def awaited(
    name: str, parent: pulumi.Resource, timeout: str, reason: Callable[[Mapping[str, Any]], str]
) -> pulumi.ResourceOptions:
    """Options of an object that the provider waits for.

    Args:
        name: A name for the error hook, which no other hook of the program has.
        parent: Component of the object.
        timeout: How long the provider waits, such as `2m`.
        reason: Gives the sentence that says why the wait reached its time-out, and what to do; the provider says only
            that it did. Its argument is the object as the program asked for it. It is not called when the cluster
            refuses the object, because the cluster's own error says why.
    """

    def explain(failed: pulumi.ErrorHookArgs) -> bool:
        if any(_TIMED_OUT in error for error in failed.errors):
            pulumi.log.error(reason(failed.new_inputs or {}))
        return False  # do not try again: the time is up

    return pulumi.ResourceOptions(
        parent=parent,
        custom_timeouts=timeouts(timeout),
        hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(name, explain)]),
    )


def is_rolled_out(deployment: Object) -> bool:
    """Whether a Deployment's controller has seen the latest spec, and all pods are of that spec and ready."""
    status: Object = deployment.get("status", {})
    wanted = deployment.get("spec", {}).get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 1)
    return seen and all(status.get(key) == wanted for key in ("replicas", "updatedReplicas", "readyReplicas"))


def why_not_ready(cluster: Cluster, namespace: str, name: str) -> str:
    """Why the registry's pod is not ready, in the cluster's words, and what helps; empty if nothing says so.

    Args:
        cluster: The cluster, which is asked.
        namespace: Namespace of the Deployment.
        name: Its name, and the value of the name label of its pods.
    """
    place = f"/api/v1/namespaces/{namespace}"
    try:
        pods = [pod for pod in pods_of(cluster, namespace, name) if "deletionTimestamp" not in pod["metadata"]]
        events = json.loads(cluster.ask(f"{place}/events", fieldSelector="type=Warning"))["items"]
        logs = {crash: _end_of(cluster, namespace, crash) for pod in pods for crash in crashes(pod)}
        why, fix = registry_trouble(pods, events, names.IMAGE_LOGIN, logs)
    except (OSError, LookupError):
        return ""  # the user may not read them, or the API does not answer: then the sentence says where to look
    return "; ".join(filter(None, (why.rstrip("."), fix)))


def _end_of(cluster: Cluster, namespace: str, crash: Crash) -> str:
    """The end of the log of a container that has crashed; empty if it cannot be read."""
    try:
        return log_of(cluster, namespace, crash.pod, crash.container, previous=crash.previous)
    except (OSError, LookupError):
        return ""  # the user may not read it, the kubelet does not answer, or it has been started again


async def rolled_out(
    cluster: Cluster, namespace: str, name: str, timeout: str, say: Callable[[str], None], why: Callable[[], str]
) -> None:
    """Wait until a Deployment is rolled out, and say why it is not, when that takes long.

    The provider's own wait can mistake old pods for new ones just after an update, and return early (provider source,
    await/deployment.go). And what it waits for at the creation it waits for at the deletion.

    Args:
        cluster: The cluster.
        namespace: Namespace of the Deployment.
        name: Its name.
        timeout: How long to wait, such as `2m`.
        say: Prints a line.
        why: Gives the reason, and what helps; empty if it is not known. It may take a while.

    Raises:
        pulumi.RunError: the Deployment is not rolled out within the time, or somebody has deleted it or taken its pods.
    """
    begun = woken = next_why = time.monotonic()
    said, said_at = "", 0.0
    while not is_rolled_out(found := await asyncio.to_thread(_deployment, cluster, namespace, name)):
        now = time.monotonic()
        if condition_of(found, "ReplicaFailure").get("status") == "True" and now > woken + WAKE:
            await asyncio.to_thread(cluster.wake, "deployments", namespace, name)
            woken = now
        late = now > begun + seconds_of(timeout)
        if late or now > max(begun + _PATIENCE, next_why):
            reason = (await asyncio.to_thread(why)).rstrip(".")
            took, because = time.monotonic() - now, reason and f": {reason}"
            if late and not is_rolled_out(await asyncio.to_thread(_deployment, cluster, namespace, name)):
                raise pulumi.RunError(
                    f"The pod of the Deployment {name} in the namespace {namespace} was not ready within {timeout} "
                    f"(the setting readyTimeout){because}. Its events tell more: kubectl describe pods -n {namespace}"
                )
            if reason != said or now > said_at + _REMIND:
                say(f"The registry's pod is not ready yet{because}")
                said, said_at = reason, now
            # Logs that cannot be had take long, and the Deployment is not looked at meanwhile.
            next_why = now + took + max(_WHY, 4 * took)
        await asyncio.sleep(_INTERVAL)


def _deployment(cluster: Cluster, namespace: str, name: str) -> Object:
    """A Deployment; empty if it cannot be read.

    The provider made it before, in this `up` or an earlier one.

    Raises:
        pulumi.RunError: it is not there, is to have no pod, or is paused.
    """
    what = f"The Deployment {name} in the namespace {namespace}"
    try:
        found: Object = json.loads(cluster.ask(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"))
    except LookupError:
        raise pulumi.RunError(gone(f"{what} is not there")) from None
    except OSError:
        return {}  # the user may not read it, or the API does not answer
    if found["spec"].get("replicas") == 0:
        raise pulumi.RunError(gone(f"{what} has 0 replicas"))
    if found["spec"].get("paused") and not is_rolled_out(found):
        raise pulumi.RunError(
            f"{what} is paused, so its pod is not made anew; somebody has done that by hand. This mends it: kubectl "
            f"rollout resume deployment/{name} -n {namespace}, then pulumi up"
        )
    return found
