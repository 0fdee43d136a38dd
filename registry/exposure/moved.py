"""Whether the registry's host still leads to where the cluster serves it.

The provider waits for an object's address when the object is made. Later the address may change: by itself, or since
the program has changed the object's annotations, on which its controller acts whenever it gets to it. Nothing in the
stack's state tells that, so the object is looked at before the nodes are waited for, which would only say that they do
not reach the registry, and again when all else is done.
"""

import asyncio

import pulumi
from kubernetes.client.exceptions import ApiException

from ..cluster import Cluster, Object
from ..waiting import after
from .address import live_addresses
from .contract import Served


def moved_error(address: str, publisher: str, found: Object | None) -> pulumi.RunError | None:
    """The error of a host whose address is not the one of the object that serves it.

    Args:
        address: The address that the host leads to.
        publisher: The API's path of the object.
        found: The object; None if it is gone.
    """
    now = live_addresses(found or {})
    if address in now:
        return None
    *_, plural, name = publisher.split("/")
    state = f"has {', '.join(now)}" if now else ("has none" if found else "is gone")
    return pulumi.RunError(
        f"The registry's host leads to the address {address}, but {plural}/{name}, which serves it, {state} now. Have "
        "everything moved to where it is: pulumi up --refresh"
    )


def confirmed(served: Served, cluster: Cluster, *ready: pulumi.Input[object]) -> pulumi.Output[str]:
    """The registry's host, once every one of `ready` is known and the cluster says that the host's address holds."""
    return pulumi.Output.all(after(served.host, *ready), served.address, served.publisher).apply(
        lambda known: _confirmed(cluster, *known)
    )


async def _confirmed(cluster: Cluster, host: str, address: str, publisher: str) -> str:
    if publisher:
        try:
            error = moved_error(address, publisher, await asyncio.to_thread(cluster.find, publisher))
        except ApiException:
            return host  # the user may not look
        if error:
            raise error
    return host
