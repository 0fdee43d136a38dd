"""What Kubernetes objects say: pure functions over the API's JSON."""

from collections.abc import Iterable

from .facts import TRUST, Json

_STARTS = (None, "PodInitializing", "ContainerCreating")
"""Reasons of a waiting container with which nothing is wrong yet; None: it does not wait."""
_IMAGE_FAULTS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
"""Reasons of a container that waits because of its image."""


def name_of(thing: Json | None) -> str:
    """The object's name, empty for no object."""
    return thing["metadata"]["name"] if thing else ""


def is_labelled(thing: Json, name: str) -> bool:
    """Whether the object's label app.kubernetes.io/name is `name`."""
    return thing["metadata"].get("labels", {}).get("app.kubernetes.io/name") == name


def condition_of(thing: Json, kind: str) -> Json:
    """The condition of type `kind`, empty if the object has none."""
    conditions: list[Json] = thing.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), Json())


def has_agent(pod: Json) -> bool:
    """Whether the agent is in a pod of the DaemonSet. There is none where somebody else has the nodes trust the CA."""
    containers: list[Json] = pod["spec"].get("initContainers") or []
    return any(container["name"] == "agent" for container in containers)


def agent_pod_on(node: str, pods: Iterable[Json]) -> Json | None:
    """The agent's pod on a node. During a rollout there are two: the younger counts, unless it is being deleted."""
    found = [pod for pod in pods if is_labelled(pod, TRUST) and node_of(pod) == node]
    return max(
        found,
        key=lambda pod: ("deletionTimestamp" not in pod["metadata"], pod["metadata"].get("creationTimestamp", "")),
        default=None,
    )


def container_of(pod: Json, name: str) -> Json:
    """The status of one container, empty if it has none yet."""
    return next((container for container in _containers(pod) if container["name"] == name), Json())


def waits_for_image(container: Json) -> bool:
    """Whether a container, given by its status, does not start because its image cannot be had."""
    return container.get("state", {}).get("waiting", {}).get("reason") in _IMAGE_FAULTS


def is_starting(container: Json) -> bool:
    """Whether a container, given by its status, runs or has not started yet without anything being wrong."""
    return container.get("state", {}).get("waiting", {}).get("reason") in _STARTS


def pod_trouble(pod: Json, events: Iterable[Json]) -> str:
    """Why a pod does not run, in the API's own words; empty if nothing says so."""
    for container in _containers(pod):
        if is_starting(container):
            continue
        waiting: Json = container["state"]["waiting"]
        last: Json = container.get("lastState", {}).get("terminated", {})
        message = last.get("message") or waiting.get("message") or ""
        return f"{waiting['reason']}: {message}".strip(": \n")
    newest = newest_event(e for e in events if e.get("involvedObject", {}).get("name") == name_of(pod))
    if newest:
        return words_of(newest)
    scheduled = condition_of(pod, "PodScheduled")
    return scheduled.get("message", "") if scheduled.get("status") == "False" else ""


def pull_trouble(pod: Json, events: Iterable[Json]) -> str:
    """What the kubelet says of the pull for which a pod waits, also while it waits until it tries again.

    Older kubelets give the reason in an event only, as long as they wait.
    """
    own = [e for e in events if e.get("involvedObject", {}).get("name") == name_of(pod) and e.get("reason") == "Failed"]
    pulls = [e for e in own if "pull image" in e.get("message", "")]
    return " ".join(filter(None, (pod_trouble(pod, events), (newest_event(pulls) or {}).get("message", ""))))


def refusal(events: Iterable[Json], kinds: tuple[str, ...]) -> str:
    """Why the API server refuses the pods that controllers of these kinds want to create; empty if it does not."""
    newest = newest_event(
        event
        for event in events
        if event.get("reason") == "FailedCreate" and event.get("involvedObject", {}).get("kind") in kinds
    )
    return newest.get("message", "") if newest else ""


def newest_event(events: Iterable[Json]) -> Json | None:
    """The newest of some events."""
    return max(
        events,
        key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or e["metadata"].get("creationTimestamp") or "",
        default=None,
    )


def words_of(event: Json | None) -> str:
    """Reason and message of an event, empty for no event."""
    return f"{event.get('reason', '')}: {event.get('message', '')}" if event else ""


def node_of(pod: Json) -> str:
    """The name of a pod's node; before the scheduler assigns it, the DaemonSet controller has pinned it by affinity."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return spec["nodeName"]
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    fields = (field for term in terms for field in term.get("matchFields", []))
    return next((field["values"][0] for field in fields if field["key"] == "metadata.name"), "")


def _containers(pod: Json) -> list[Json]:
    status: Json = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
