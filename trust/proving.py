"""The wait until every node is proved, which says how far it is, who is missing, and why.

`Progress` and `Narrator` are plain logic; `prove` asks the cluster again and again. What this deliberately does not do:
it changes nothing, and it needs no right to run programs in pods, so it knows less than the doctor.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from registry.pod.pods import WAKE, Reader, Waiter
from registry.pod.trouble import condition_of, container_of, gone
from trust.agent.faults import Reason
from trust.doctor.facts import REGISTRY, TRUST, Declared, Facts, Json
from trust.doctor.judge import is_counted, node_verdict, of_each_node, reported_fault
from trust.doctor.objects import name_of, node_of, nodes_of
from trust.doctor.verdict import Code, Verdict
from trust.listening import Listener

_INTERVAL = 0.5
"""Seconds between two looks; large clusters are looked at less often."""
_REMIND = 60.0
"""Seconds after which the same nodes are named again."""
_SETTLING = 8.0
"""Seconds for which it is not said that a node does not reach the registry. That may just have become ready, and the
way in and the agents, which have started before it, hear of that a moment later."""
_PATIENCE = 10.0
"""Seconds before nodes are named with which nothing is wrong yet."""
_NAMED = 10
"""How many nodes a line names."""
_LOGS = _NAMED
"""Of how many agents that are not ready the logs are read at one look: of those that are named."""
_CALM = (Code.STARTING, Code.NO_POD)
"""What is said of a node while nothing is wrong with it yet."""
_UNREACHED = (
    Reason.NO_CONNECTION,
    Reason.PROXY_IN_THE_WAY,
    Reason.NO_TLS,
    Reason.NO_REGISTRY,
    Reason.CERTIFICATE_MISMATCH,
)
"""What agents say while a way in leads to no registry, by the kind of the way in."""
_GENERATION = "deprecated.daemonset.template.generation"
_OF_GENERATION = "pod-template-generation"
"""The annotation of a DaemonSet, and the label of its pods, that say which version of the pod it is (apps/v1)."""
_REVISION = "controller-revision-hash"
"""The label of a DaemonSet's ControllerRevisions and pods that is the same for equal versions of the pod."""


class Unproved(Exception):
    """Not every node is proved; the message names them, each with its reason."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the nodes are at one look."""

    proved: frozenset[str] = frozenset()
    missing: Mapping[str, Verdict] = field(default_factory=dict[str, Verdict])
    """The nodes that are waited for, and what is wrong with each."""
    away: Mapping[str, str] = field(default_factory=dict[str, str])
    """The nodes that are not waited for, as their kubelets are not Ready, and what is said of each."""

    left_out: Mapping[str, str] = field(default_factory=dict[str, str])
    """The nodes that no agent is for, since the proof image does not run there, and what is said of each."""

    @property
    def done(self) -> bool:
        """Whether the promise holds. It does not if there is no node on which anything was proved."""
        return bool(self.proved) and not self.missing


def present_revision(daemon_set: Json, revisions: Sequence[Json]) -> str:
    """The revision that the DaemonSet has now; empty while its controller has not seen the last change."""
    if not is_observed(daemon_set) or not revisions:
        return ""
    present = max(revisions, key=lambda revision: revision["revision"])
    return present["metadata"]["labels"][_REVISION]


def is_observed(daemon_set: Json) -> bool:
    """Whether the DaemonSet's controller has seen its last change."""
    generation = daemon_set["metadata"].get("generation", 1)
    return daemon_set.get("status", {}).get("observedGeneration", 0) >= generation


def is_current(pod: Json, daemon_set: Json, revisions: Sequence[Json]) -> bool:
    """Whether a pod is of the version that the DaemonSet has now, and is not about to go.

    A version that is changed and changed back has another number, but the pods of its first time are kept.
    """
    metadata: Json = pod["metadata"]
    labels = metadata.get("labels", {})
    wanted = daemon_set["metadata"].get("annotations", {}).get(_GENERATION)
    is_wanted = wanted is None or labels.get(_OF_GENERATION, wanted) == wanted
    is_equal = labels.get(_REVISION) == present_revision(daemon_set, revisions)
    return "deletionTimestamp" not in metadata and (is_wanted or is_equal)


def versions(events: Sequence[Json]) -> frozenset[str]:
    """The resource versions of events. An event that happens again has another one.

    What an earlier `up` ran into is still among the events, and is mended perhaps; so it does not count at first.
    """
    return frozenset(str(event["metadata"].get("resourceVersion", "")) for event in events)


def matches_no_node(daemon_set: Json) -> bool:
    """Whether the DaemonSet's controller has counted the nodes that it is for, and there are none."""
    return is_observed(daemon_set) and daemon_set.get("status", {}).get("desiredNumberScheduled") == 0


def progress(facts: Facts) -> Progress:
    """How far the nodes are. Of the pods those count that are of the DaemonSet's present version."""
    daemon_set = facts.daemon_set
    current = [pod for pod in facts.pods if daemon_set and is_current(pod, daemon_set, facts.revisions)]
    of_node = of_each_node(replace(facts, pods=current))
    proved: set[str] = set()
    missing: dict[str, Verdict] = {}
    away: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for node in sorted(facts.nodes, key=name_of):
        verdict = node_verdict(node, *of_node(node), None)
        if verdict.code == Code.OTHER_ARCHITECTURE:
            left_out[name_of(node)] = verdict.sentence
        elif not is_counted(node):
            continue
        elif verdict.code == Code.PROVED:
            proved.add(name_of(node))
        elif verdict.code == Code.NODE_NOT_READY:
            away[name_of(node)] = verdict.sentence
        else:
            missing[name_of(node)] = verdict
    return Progress(proved=frozenset(proved), missing=missing, away=away, left_out=left_out)


def named(nodes: Sequence[str]) -> str:
    """Some nodes' names, the first ones of many."""
    more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
    return ", ".join(nodes[:_NAMED]) + more


def reasons(missing: Mapping[str, Verdict]) -> list[str]:
    """A line per node that is missing, with its reason."""
    return first([f"{node}: {verdict.code}, {verdict.sentence}" for node, verdict in missing.items()])


def first(lines: Sequence[str]) -> list[str]:
    """The first ones of many nodes' lines."""
    return [*lines[:_NAMED], *([f"and {len(lines) - _NAMED} more nodes"] if len(lines) > _NAMED else [])]


class Narrator:
    """Says what has changed since the look before, and what has not changed for a minute."""

    def __init__(self, say: Callable[[str], None], warn: Callable[[str], None], now: float) -> None:
        """`say` and `warn` print a line. `now` is the time in seconds, of any clock."""
        self._say = say
        self._warn = warn
        self._next, self._settled = now + _PATIENCE, now + _SETTLING
        self._proved: frozenset[str] = frozenset()
        self._warned: frozenset[str] = frozenset()
        self._wrong: frozenset[tuple[str, str]] = frozenset()

    def tell(self, found: Progress, now: float) -> None:
        """Say what is new at this look."""
        total = len(found.proved) + len(found.missing)
        new = sorted(found.proved - self._proved)
        if new:
            self._say(f"{named(new)}: proved, {len(found.proved)} of {total}")
        self._warn_of(found.away, "Such a node is not waited for, and is proved when it returns.")
        self._warn_of(found.left_out)
        calm = (*_CALM, *(_UNREACHED if now < self._settled else ()))
        wrong = frozenset((node, v.code) for node, v in found.missing.items() if v.code not in calm)
        if found.missing and ((wrong and wrong != self._wrong) or now >= self._next):
            self._say("\n  ".join([f"Waiting for {len(found.missing)} of {total} nodes:", *reasons(found.missing)]))
            self._next = now + _REMIND
        self._proved, self._wrong = found.proved, wrong

    def _warn_of(self, nodes: Mapping[str, str], *more: str) -> None:
        """Warn once of each node, and at one look in one warning."""
        new = sorted(nodes.keys() - self._warned)
        if new:
            self._warn("\n  ".join([*first([nodes[node] for node in new]), *more]))
        self._warned |= nodes.keys()


def look(reader: Reader, namespace: str, host: str, listener: Listener, heard: dict[str, str]) -> Facts:
    """What the cluster says of its nodes and of the agents on them.

    Args:
        reader: The cluster.
        namespace: Namespace of the DaemonSet.
        host: The registry's host.
        listener: Reads the logs.
        heard: The end of the logs of ready pods, as it was when it could be read. One that tells of no fault is not
            read again. This adds to them.

    Raises:
        ConnectionError: the API does not answer.
        Unproved: somebody has deleted the DaemonSet, which the provider made before, in this `up` or an earlier one.
    """
    place = f"/api/v1/namespaces/{namespace}"

    def items(path: str, **query: str) -> list[Json]:
        return json.loads(reader.ask(path, **query))["items"]

    def permitted(path: str, **query: str) -> list[Json]:
        try:
            return items(path, **query)
        except PermissionError:
            return []

    try:
        daemon_set: Json | None = json.loads(reader.ask(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{TRUST}"))
    except LookupError:
        raise Unproved(gone(f"The DaemonSet {TRUST} in the namespace {namespace} is not there")) from None
    except PermissionError:
        daemon_set = None
    both = f"app.kubernetes.io/name in ({TRUST}, {REGISTRY})"
    pods = items(f"{place}/pods", labelSelector=both, resourceVersion="0")
    revisions = permitted(
        f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions", labelSelector=f"app.kubernetes.io/name={TRUST}"
    )
    events = permitted(f"{place}/events", fieldSelector="type=Warning")
    try:
        nodes = items("/api/v1/nodes", resourceVersion="0")
    except PermissionError:
        nodes = nodes_of(pods, daemon_set)
    facts = Facts(
        declared=Declared(stack="", namespace=namespace, host=host),
        nodes=nodes,
        namespace={},
        daemon_set=daemon_set,
        revisions=revisions,
        pods=pods,
        events=events,
    )
    return replace(facts, logs=_logs(listener, facts, heard))


def _logs(listener: Listener, facts: Facts, heard: dict[str, str]) -> dict[str, str]:
    """The end of the logs of agents that run, by the pod's name: of ready ones, and of some that are not ready.

    A pod stays ready when its agent finds a fault later, as after an upgrade of the node's container runtime: only the
    log tells. What is said of the pods of a node that is down is what was so before; nobody can read their logs.
    """
    up = {name_of(node) for node in facts.nodes if condition_of(node, "Ready").get("status") == "True"}
    running = [
        pod
        for pod in facts.pods
        if "running" in container_of(pod, "agent").get("state", {})
        and node_of(pod) in up
        and (facts.daemon_set is None or is_current(pod, facts.daemon_set, facts.revisions))
    ]
    running.sort(key=node_of)  # as they are named
    ready = {name_of(pod) for pod in running if condition_of(pod, "Ready").get("status") == "True"}
    silent = [pod for pod in running if name_of(pod) not in ready][:_LOGS]
    again = sorted(pod for pod in ready if pod not in heard or reported_fault(heard[pod]))
    starting = [name_of(pod) for pod in silent]
    logs = listener.read([*starting, *again], first=starting)
    heard |= {pod: text for pod, text in logs.items() if pod in ready}
    return {**{pod: heard[pod] for pod in ready & heard.keys()}, **logs}


async def prove(
    cluster: Waiter, namespace: str, host: str, timeout: str, say: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Wait until every node that is Ready, schedulable and a machine runs the proof, and say how far it is.

    Args:
        cluster: The cluster.
        namespace: Namespace of the DaemonSet.
        host: The registry's host.
        timeout: How long to wait, such as `2m`.
        say: Prints a line.
        warn: Prints a warning.

    Raises:
        Unproved: they do not within the time, or the DaemonSet is for no node, or is not there.
    """
    seconds = int(timeout[:-1]) * {"s": 1, "m": 60, "h": 3600}[timeout[-1]]
    deadline = time.monotonic() + seconds
    narrator = Narrator(say, warn, time.monotonic())
    woken = time.monotonic()
    found, silence, nodes = Progress(), "", 0
    before: frozenset[str] | None = None
    listener, heard = Listener(cluster, namespace), dict[str, str]()
    while True:
        try:
            facts = await asyncio.to_thread(look, cluster, namespace, host, listener, heard)
            if before is None:
                before = versions(facts.events)
            if time.monotonic() < deadline - seconds + _PATIENCE:
                facts = replace(facts, events=[e for e in facts.events if not versions([e]) & before])
            found, silence, nodes = progress(facts), "", len(facts.nodes)
            if facts.daemon_set and matches_no_node(facts.daemon_set):
                raise Unproved(_NO_NODE)
            narrator.tell(found, time.monotonic())
            lacks = any(verdict.code in (Code.NO_POD, Code.POD_REFUSED) for verdict in found.missing.values())
            if lacks and time.monotonic() > woken + WAKE:
                await asyncio.to_thread(cluster.wake, "daemonsets", namespace, TRUST)
                woken = time.monotonic()
        except (ConnectionError, PermissionError, LookupError) as error:
            if not silence:
                say(f"The cluster does not say how far the nodes are: {error}")
            silence = str(error)
        if found.done and not silence:
            return
        if time.monotonic() > deadline:
            raise Unproved(_late(found, silence, namespace, timeout))
        await asyncio.sleep(max(_INTERVAL, nodes / 100))


_NO_NODE = (
    "The DaemonSet trust matches no node, so no kubelet trusts the registry: it needs nodes with the label "
    "kubernetes.io/os=linux that are machines of amd64 or arm64. Virtual nodes, such as those of Fargate and virtual "
    "kubelets, are left out: add a node pool of machines (kubectl get nodes -L kubernetes.io/os,kubernetes.io/arch), "
    "then pulumi up."
)


def _late(found: Progress, silence: str, namespace: str, timeout: str) -> str:
    """The sentences with which the wait ends when the time is up."""
    total = len(found.proved) + len(found.missing)
    lines = [
        f"{len(found.proved)} of {total} nodes have pulled from the registry within {timeout} (the setting "
        f"readyTimeout). The next pulumi up waits for the others again.",
        *reasons(found.missing),
        *(first(list(found.away.values())) if not (found.proved or found.missing) else ()),
        *((f"The cluster does not say how far the nodes are: {silence}",) if silence else ()),
    ]
    if len(lines) == 1:
        lines.append(f"No node is there to be proved; see kubectl -n {namespace} describe daemonset {TRUST}.")
    return "\n  ".join(lines)
