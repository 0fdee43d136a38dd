"""Objects whose names hold what they are for: a host, a class, a CA. Another one is another object, beside the former.

For a change Pulumi makes the new object first, and deletes the former one by its name when all else is done. But that
`up` may fail before, and its change be taken back: then the next one uses the former object again, and Pulumi deletes
it in the end all the same, since the state still says so. So Pulumi deletes none of these (`retain_on_delete`), and the
program does, once every node is proved: whatever the stack's namespace holds of them that was not made just now. What
is no way in, and the state still had at the beginning, goes at the next `up` only: one that is limited to some targets
may have it in use.
What this deliberately does not do: it looks at no object without this program's labels, and at no other namespace.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pulumi
from kubernetes.client.exceptions import ApiException

from ..certificate import cert_manager
from ..cluster import Cluster, api_message
from ..exposure import gateway

_PLACES = (
    ("Ingress", "/apis/networking.k8s.io/v1", "ingresses"),
    ("Gateway", f"/apis/{gateway.GATEWAY_API}", "gateways"),
    *(("TLSRoute", f"/apis/{gateway.GROUP}/{version}", "tlsroutes") for version in gateway.ROUTE_VERSIONS),
    ("Certificate", f"/apis/{cert_manager.API}", "certificates"),
    ("Issuer", f"/apis/{cert_manager.API}", "issuers"),
    ("ConfigMap", "/api/v1", "configmaps"),
)
"""Each kind, and where the API has its objects."""
_END_SECONDS, _END_INTERVAL = 60.0, 0.5
"""How long (s) the end of what is deleted is waited for, as a controller may have something to clean up, and how often
it is looked at."""
_OURS = urlencode({"labelSelector": "app.kubernetes.io/part-of=private-registry"})


def has_telling_name(kind: str, props: Mapping[str, object]) -> bool:
    """Whether an object would have another name if it were for something else.

    Args:
        kind: Its kind, such as `Ingress`.
        props: Its properties. Of the ConfigMaps it is those that cannot be changed.
    """
    return any(kind == known for known, *_ in _PLACES) and (kind != "ConfigMap" or props.get("immutable") is True)


def remove_former(cluster: Cluster, namespace: str, present: Collection[tuple[str, str]]) -> None:
    """Delete what the stack has no use for any more. What cannot be deleted is warned of; the next `up` tries again.

    Args:
        cluster: The cluster.
        namespace: The stack's namespace.
        present: Kind and name of each object with a telling name that the stack has now.
    """

    def remove(place: tuple[str, str, str]) -> None:
        kind, group, plural = place
        path = f"{group}/namespaces/{namespace}/{plural}"
        try:
            found = cluster.find(f"{path}?{_OURS}") or {}  # the cluster may not know this kind
        except ApiException:
            return  # nor the user have anything to do with it
        telling = [entry["metadata"]["name"] for entry in found.get("items", []) if has_telling_name(kind, entry)]
        former = [f"{path}/{name}" for name in telling if (kind, name) not in present]
        try:
            for each in former:
                cluster.delete(each)
            _wait_for_the_end(cluster, former)
        except (ApiException, pulumi.RunError) as error:
            why = api_message(error) if isinstance(error, ApiException) else str(error)
            pulumi.log.warn(f"What the stack used before stays in its namespace until the next `pulumi up`: {why}")

    with ThreadPoolExecutor(len(_PLACES)) as pool:
        list(pool.map(remove, _PLACES))


def _wait_for_the_end(cluster: Cluster, paths: Sequence[str]) -> None:
    """Wait until objects are gone: an `up` that wants one of them again must not meet it while it ends."""
    deadline = time.monotonic() + _END_SECONDS
    for path in paths:
        while cluster.find(path) is not None:
            if time.monotonic() > deadline:
                *_, plural, name = path.split("/")
                raise pulumi.RunError(f"{plural}/{name} is still being deleted, {_END_SECONDS:g} s after it was to go")
            time.sleep(_END_INTERVAL)
