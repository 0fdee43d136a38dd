"""What Kubernetes objects say: pure functions over the API's JSON."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from registry.pod.trouble import condition_of

from .facts import TRUST, Json

_JOINING = timedelta(minutes=5)
_UNPLACED = "a node whose name cannot be read"
_DOWN = "its pod was marked as not ready while all its containers were; the user may not read more of the node"


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


def nodes_of(pods: Sequence[Json], daemon_set: Json | None) -> list[Json]:
    """What is known of the nodes to a user who may not list them: that the DaemonSet has, or wants, a pod there.

    Of a node that is down it is known, too: Kubernetes marks its pods as not ready, and nothing else of them.
    """
    agents = [pod for pod in pods if is_labelled(pod, TRUST)]
    down = {node_of(pod) for pod in agents if _is_marked(pod)}
    names = sorted({node_of(pod) for pod in agents} - {""})
    wanted: int = (daemon_set or {}).get("status", {}).get("desiredNumberScheduled", 1)
    names += [_UNPLACED] if len(names) < wanted else []
    return [
        _node(name, {"status": "Unknown", "message": _DOWN} if name in down else {"status": "True"}) for name in names
    ]


def _node(name: str, ready: dict[str, str]) -> Json:
    return {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", **ready}]}}


def has_just_joined(node: Json) -> bool:
    """Whether a node that is not Ready was so in its first minutes, and not since. Of most such it never was Ready."""
    since = condition_of(node, "Ready").get("lastTransitionTime")
    joined = node["metadata"].get("creationTimestamp")
    if not since or not joined:
        return not condition_of(node, "Ready")
    return datetime.fromisoformat(since) - datetime.fromisoformat(joined) < _JOINING


def _is_marked(pod: Json) -> bool:
    """Whether it was not the kubelet that said that a pod is not ready: it does so of the containers as well."""
    ready, containers = (condition_of(pod, kind).get("status") for kind in ("Ready", "ContainersReady"))
    return ready == "False" and containers == "True"
