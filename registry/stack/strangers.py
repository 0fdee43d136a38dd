"""What a state and a cluster that do not belong together look like, and what of the cluster belongs to somebody else.

The provider takes over objects that exist, so that an `up` that was killed can be run again. So it is asked here,
before anything is made, whose those are that could be somebody else's: the namespace, and objects in other namespaces.
What this deliberately does not do: it removes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from urllib.parse import quote

import pulumi
from kubernetes.client.exceptions import ApiException

from .. import names
from ..cluster import Cluster, Object, api_message
from ..hostname import registry_label, stack_namespace
from ..settings import Settings
from .identity import other_name
from .recorded import Recorded

_HOSTING = "/api/v1/namespaces/kube-public/configmaps/local-registry-hosting"

_NO_ORGANIZATION = "organization"
"""What Pulumi says of the organisation where a backend has none, as with `file://` and buckets."""


def require_same_cluster(recorded: Recorded, cluster: Cluster) -> None:
    """Check that the kubeconfig leads to the cluster of the last `up`.

    Raises:
        pulumi.RunError: it leads to another one.
    """
    if not recorded.cluster or not cluster.uid or cluster.uid == recorded.cluster:
        return
    stack = _full_name()
    back = "with its kubeconfig in KUBECONFIG"
    if recorded.context and recorded.context != cluster.context:
        back = f"with pulumi config set kubernetes:context {recorded.context}, or {back}"
    raise pulumi.RunError(
        f"The stack {stack} is on another cluster: its last `pulumi up` went to the context "
        f"{recorded.context or '(none)'}, where the namespace kube-system has the UID {recorded.cluster}, and now the "
        f"context {cluster.context or '(none)'} leads to {cluster.server}, where it has {cluster.uid}. Go back to that "
        f"cluster, {back}. If it is gone for good, have the stack forget it: pulumi stack rm --force --preserve-config "
        f"{stack} && pulumi stack init {stack}"
    )


def _full_name() -> str:
    """The stack's name as every Pulumi command takes it: with its organisation, where the backend has any."""
    organization, stack = pulumi.get_organization(), pulumi.get_stack()
    return stack if organization == _NO_ORGANIZATION else f"{organization}/{pulumi.get_project()}/{stack}"


def errors(settings: Settings, cluster: Cluster, recorded: Recorded) -> Sequence[pulumi.RunError]:
    """Why the stack cannot have the objects that others could have, too; empty if it can."""
    asked = dict(_could_be_strangers(settings, recorded))

    def look(path: str) -> Object | None | ApiException:
        try:
            return cluster.find(path)
        except ApiException as error:
            return error

    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        found = pool.map(look, asked)
        judged = [_error(path, fix, entry, recorded) for (path, fix), entry in zip(asked.items(), found, strict=True)]
    return [error for error in judged if error]


def leftovers(cluster: Cluster, recorded: Recorded, namespace: str) -> list[str]:
    """Namespaces of this instance of the stack that are not in its state, as an `up` that was killed leaves them.

    Args:
        cluster: The cluster.
        recorded: What the state says.
        namespace: The namespace that the stack is about to have.
    """
    if not recorded.instance:
        return []
    try:
        found = cluster.find(f"/api/v1/namespaces?labelSelector={quote(names.INSTANCE)}%3D{recorded.instance}") or {}
    except ApiException:
        return []  # the user may not list them
    known = {namespace, recorded.namespace}
    left = [entry["metadata"] for entry in cast(Sequence[Object], found.get("items", []))]
    return sorted(str(entry["name"]) for entry in left if entry["name"] not in known and not _ends(entry))


def warn_of_leftovers(left: Sequence[str]) -> None:
    """Name the namespaces that an `up` which was killed has left behind, and the command that removes them."""
    if left:
        pulumi.log.warn(
            f"An earlier `pulumi up` of this stack was cut off, and has left behind {', '.join(left)}, which the "
            f"stack's state does not know. Remove it if nobody uses it: kubectl delete namespace {' '.join(left)}"
        )


def namespace_of(settings: Settings, recorded: Recorded) -> str:
    """The name of the stack's namespace, as far as it is known before anything is made; empty if it is not."""
    own = settings.namespace or recorded.namespace
    return own or (stack_namespace(pulumi.get_stack(), recorded.instance) if recorded.instance else "")


def _could_be_strangers(settings: Settings, recorded: Recorded) -> Iterator[tuple[str, str]]:
    """The API's paths of the objects that could be somebody else's, and what to do if one is."""
    namespace = namespace_of(settings, recorded)
    if namespace:
        fix = f"Choose another name: pulumi config set namespace {other_name(namespace)}"
        yield f"/api/v1/namespaces/{namespace}", fix
        shared = registry_label(namespace)
        for kind, setting, places in (
            ("secrets", "pullNamespaces", settings.pull_namespaces),
            ("configmaps", "caNamespaces", settings.ca_namespaces),
        ):
            for place in places:
                fix = f"Delete it if nobody uses it, or take {place} out of {setting}: pulumi config edit"
                yield f"/api/v1/namespaces/{place}/{kind}/{shared}", fix
    if settings.advertise:
        yield (
            _HOSTING,
            "The cluster tells of another registry with it, and can tell of one only: leave it there (pulumi config "
            "set advertise false), or delete it if nobody uses it (kubectl delete configmap -n kube-public "
            "local-registry-hosting)",
        )


def _ends(metadata: Mapping[str, object]) -> bool:
    return "deletionTimestamp" in metadata


def _error(path: str, fix: str, found: Object | None | ApiException, recorded: Recorded) -> pulumi.RunError | None:
    """The error of an object that is there already and belongs to somebody else."""
    _, _, _, _, *place = path.split("/")
    what = f"namespace {place[0]}" if len(place) == 1 else f"{place[1].removesuffix('s')} {place[0]}/{place[2]}"
    if found is None:
        return None
    if isinstance(found, ApiException):
        return pulumi.RunError(f"Whose the {what} is cannot be seen: {api_message(found)}. Have the user read it.")
    metadata = found["metadata"]
    if recorded.instance and metadata.get("labels", {}).get(names.INSTANCE) == recorded.instance:
        if len(place) > 1:
            return None
        if _ends(metadata):
            return pulumi.RunError(_still_there(place[0], found, "pulumi up --refresh"))
        known = [name for name in (recorded.wanted, recorded.namespace) if name]
        return _going_back(place[0], known[0]) if known and place[0] not in known else None
    if len(place) == 1 and _ends(metadata):
        return pulumi.RunError(_still_there(place[0], found, "pulumi up"))
    return pulumi.RunError(f"The {what} exists already, and is not this stack's. {fix}.")


def _going_back(namespace: str, wanted: str) -> pulumi.RunError:
    """The error of a stack that was on its way to another namespace, and is to be in the former one again.

    Pulumi deletes what a move leaves behind at the end of the next `up` that succeeds, by its name, also if that is in
    use again by then. The state that it shows to programs does not tell.
    """
    return pulumi.RunError(
        f"An `up` that was to move this stack from the namespace {namespace} to {wanted} has not ended. "
        f"The next one that ends deletes {namespace} with every image, also if the stack is there again by then. So go "
        f"on (pulumi config set namespace {wanted}); until that has ended, the registry in {namespace} "
        "serves what it has. To give both up: pulumi destroy"
    )


def _still_there(name: str, namespace: Object, then: str) -> str:
    """What is said of a namespace while it is being deleted: the cluster's words for what it waits for.

    Args:
        name: Its name.
        namespace: The namespace.
        then: The command for when it is gone.
    """
    conditions: list[dict[str, str]] = namespace.get("status", {}).get("conditions") or []
    why = " ".join(each.get("message", "") for each in conditions if each.get("status") == "True")
    return (
        f"The namespace {name} is being deleted.{why and ' The cluster says what it waits for: ' + why} When it is "
        f"gone (kubectl get namespace {name}): {then}"
    )
