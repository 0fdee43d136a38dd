"""What Kubernetes objects say: pure functions over the API's JSON."""

from collections.abc import Iterable

from .facts import TRUST, Json


def name_of(thing: Json | None) -> str:
    """The object's name, empty for no object."""
    return thing["metadata"]["name"] if thing else ""


def is_labelled(thing: Json, name: str) -> bool:
    """Whether the object's label app.kubernetes.io/name is `name`."""
    return thing["metadata"].get("labels", {}).get("app.kubernetes.io/name") == name


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


def node_of(pod: Json) -> str:
    """The name of a pod's node; before the scheduler assigns it, the DaemonSet controller has pinned it by affinity."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return spec["nodeName"]
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    fields = (field for term in terms for field in term.get("matchFields", []))
    return next((field["values"][0] for field in fields if field["key"] == "metadata.name"), "")
