"""From facts to verdicts: pure functions.

A chain leads from the registry to a trusted node, and a broken link breaks every later one. So each function looks
along the chain and names the first broken link only: registry, address, ConfigMap, DaemonSet; then, on each node,
kubelet, pod, agent, connection, configuration, files, pull.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from trust.agent.connect import fingerprints
from trust.agent.faults import Fault, Reason

from .facts import LOOKUP, REGISTRY, TRUST, Facts, Json, Probe

PROVED = "PROVED"


class Link(StrEnum):
    """A link of the chain, as it is printed."""

    NONE = ""
    STACK = "stack"
    REGISTRY = "registry"
    ADDRESS = "address"
    CONFIG_MAP = "ConfigMap"
    NODE = "node"
    POLICY = "policy"
    AGENT = "agent"
    DNS = "DNS"
    NETWORK = "network"
    CERTIFICATE = "certificate"
    RUNTIME = "runtime"
    CONFIG = "configuration"
    RESTART = "restart"
    FILES = "files"
    PULL = "pull"


_LINKS = {
    Reason.CA_INVALID: Link.CONFIG_MAP,
    Reason.CERTIFICATE_MISMATCH: Link.CERTIFICATE,
    Reason.RUNTIME_UNKNOWN: Link.RUNTIME,
    Reason.READ_ONLY: Link.RUNTIME,
    Reason.CONFIG_INVALID: Link.CONFIG,
    Reason.INLINE_MIRRORS: Link.CONFIG,
    Reason.FOREIGN_HOSTS_TOML: Link.CONFIG,
    Reason.SYMLINK_LEAVES_TREE: Link.CONFIG,
    Reason.RESTART_NOT_ALLOWED: Link.RESTART,
    Reason.RESTART_FAILED: Link.RESTART,
    Reason.CONFIG_REVERTED: Link.RESTART,
}


@dataclass(frozen=True)
class Verdict:
    """PROVED, or a reason code, the broken link, and one sentence that ends in the fix."""

    code: str
    link: Link = Link.NONE
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """One node."""

    node: str
    runtime: str
    """Name and version."""
    root: str
    """The folder that the runtime reads at a pull; empty while nobody knows."""
    verdict: Verdict
    counted: bool
    """Whether the promise covers this node: it does for schedulable Linux nodes."""


def judge(facts: Facts) -> tuple[Verdict | None, list[NodeReport]]:
    """The broken link that all nodes share, if there is one, and a report on each node."""
    shared = shared_fault(facts)
    return shared, [_report(node, facts, shared) for node in sorted(facts.nodes, key=_name)]


def all_proved(shared: Verdict | None, reports: Iterable[NodeReport]) -> bool:
    """Whether the promise holds: there are schedulable Linux nodes, and each one is proved."""
    counted = [report for report in reports if report.counted]
    return shared is None and bool(counted) and all(report.verdict.code == PROVED for report in counted)


# What all nodes share


def shared_fault(facts: Facts) -> Verdict | None:
    """The first broken link before the nodes."""
    declared = facts.declared
    up = f"run pulumi up --refresh --stack {declared.stack}"
    if facts.namespace is None:
        gone = (
            f"The namespace {declared.namespace} is not on the cluster"
            if declared.namespace
            else ("The stack has not made its namespace yet")
        )
        return Verdict("NOT_DEPLOYED", Link.STACK, f"{gone}; {up}, and read its first error.")
    fault = _registry_fault(facts, up) or _address_fault(facts)
    if fault:
        return fault
    if facts.config_map is None:
        sentence = f"The ConfigMap {LOOKUP} in {declared.namespace}, from which nodes get the CA, is not there; {up}."
        return Verdict("CONFIG_MAP_MISSING", Link.CONFIG_MAP, sentence)
    fault = _config_map_fault(facts, up)
    if fault:
        return fault
    if facts.daemon_set is None:
        sentence = f"The DaemonSet {TRUST} in {declared.namespace}, which puts the CA on nodes, is not there; {up}."
        return Verdict("DAEMON_SET_MISSING", Link.AGENT, sentence)
    return None


def _registry_fault(facts: Facts, up: str) -> Verdict | None:
    namespace = facts.declared.namespace
    if facts.deployment is None:
        sentence = f"The registry's Deployment is not in namespace {namespace}; {up}, and read its first error."
        return Verdict("REGISTRY_MISSING", Link.REGISTRY, sentence)
    name, status = _name(facts.deployment), facts.deployment.get("status", {})
    if status.get("readyReplicas"):
        return None
    if facts.deployment["spec"].get("replicas") == 0:
        sentence = (
            f"The registry's Deployment has 0 replicas; kubectl -n {namespace} scale deployment/{name} --replicas=1."
        )
        return Verdict("REGISTRY_DOWN", Link.REGISTRY, sentence)
    pods = [pod for pod in facts.pods if _labelled(pod, REGISTRY)]
    volume = _newest(e for e in facts.events if e.get("involvedObject", {}).get("kind") == "PersistentVolumeClaim")
    unscheduled = volume if any(_condition(pod, "PodScheduled").get("status") == "False" for pod in pods) else ""
    trouble = next(filter(None, (_pod_trouble(pod, facts.events) for pod in pods)), "")
    why = unscheduled or trouble or _refusal(facts, ("ReplicaSet", "Deployment")) or "nothing says why"
    sentence = (
        f"The registry's pod is not ready ({why}); "
        f"see kubectl -n {namespace} describe pods -l app.kubernetes.io/name={REGISTRY}."
    )
    return Verdict("REGISTRY_DOWN", Link.REGISTRY, sentence)


def _address_fault(facts: Facts) -> Verdict | None:
    for entrance in facts.entrances:
        status: Json = entrance.get("status", {})
        if not status.get("loadBalancer", {}).get("ingress") and not status.get("addresses"):
            what = f"{entrance.get('kind', 'Ingress')} {_name(entrance)} in {facts.declared.namespace}"
            sentence = (
                f"The {what} has got no address; check that its Ingress controller or load balancer runs and has "
                "addresses left."
            )
            return Verdict("NO_ADDRESS", Link.ADDRESS, sentence)
    return None


def _config_map_fault(facts: Facts, up: str) -> Verdict | None:
    data: Json = (facts.config_map or {}).get("data") or {}
    declared = facts.declared
    try:
        actual = fingerprints(data.get("ca.crt", ""))
    except Fault as fault:
        sentence = f"{fault.sentence.rstrip('.')}: {up}."
        return Verdict(Reason.CA_INVALID, Link.CONFIG_MAP, sentence)
    wanted = fingerprints(declared.ca) if declared.ca else actual
    if actual != wanted:
        sentence = (
            f"The ConfigMap {LOOKUP} in {declared.namespace} has the CA with SHA-256 {', '.join(actual)}, and the "
            f"stack made the one with SHA-256 {', '.join(wanted)}; {up}."
        )
        return Verdict("CA_REPLACED", Link.CONFIG_MAP, sentence)
    if declared.host and data.get("host") != declared.host:
        sentence = (
            f"The ConfigMap {LOOKUP} has the host {data.get('host')!r}, and the stack made {declared.host!r}; {up}."
        )
        return Verdict("HOST_REPLACED", Link.CONFIG_MAP, sentence)
    return None


# One node


def _report(node: Json, facts: Facts, shared: Verdict | None) -> NodeReport:
    pod = _pod_on(_name(node), facts.pods)
    probe = facts.probes.get(_name(pod)) if pod else None
    status = probe.status if probe else {}
    runtime = f"{status.get('runtime', '')} {status.get('version', '').removeprefix('v')}".strip()
    roots: list[str] = status.get("roots") or [""]
    linux = node["metadata"].get("labels", {}).get("kubernetes.io/os", "linux") == "linux"
    return NodeReport(
        node=_name(node),
        runtime=runtime or node["status"].get("nodeInfo", {}).get("containerRuntimeVersion", "").replace("://", " "),
        root=roots[0].removesuffix(f"/{facts.declared.host}"),
        verdict=node_verdict(node, pod, facts, shared),
        counted=linux and not node.get("spec", {}).get("unschedulable", False),
    )


def node_verdict(node: Json, pod: Json | None, facts: Facts, shared: Verdict | None) -> Verdict:
    """The first broken link of one node, `pod` being the agent's pod on it."""
    name = _name(node)
    labels: Json = node["metadata"].get("labels", {})
    if labels.get("kubernetes.io/os", "linux") != "linux":
        sentence = f"Node {name} runs {labels['kubernetes.io/os']}; only Linux nodes get the CA."
        return Verdict("NOT_LINUX", Link.RUNTIME, sentence)
    ready = _condition(node, "Ready")
    if ready.get("status") != "True":
        why = ready.get("message") or "it has never reported"
        return Verdict(
            "NODE_NOT_READY", Link.NODE, f"The kubelet of node {name} is not Ready ({why}); repair or remove the node."
        )
    if shared:
        return Verdict(shared.code, shared.link)
    if pod is None:
        return _no_pod(node, facts)
    return _agent_fault(pod, facts) or _proof(pod, facts)


def _no_pod(node: Json, facts: Facts) -> Verdict:
    namespace = facts.declared.namespace
    daemon_set = facts.daemon_set or {}
    selector: dict[str, str] = daemon_set.get("spec", {}).get("template", {}).get("spec", {}).get("nodeSelector") or {}
    labels: Json = node["metadata"].get("labels", {})
    unmet = {key: value for key, value in selector.items() if labels.get(key) != value}
    if unmet:
        pairs = ", ".join(f"{key}={value}" for key, value in unmet.items())
        sentence = (
            f"The DaemonSet {TRUST} wants nodes with the label {pairs}, and node {_name(node)} has none; label the "
            f"node, or take the label out of the DaemonSet's nodeSelector."
        )
        return Verdict("NO_MATCHING_NODE", Link.AGENT, sentence)
    refusal = _refusal(facts, ("DaemonSet",))
    if refusal:
        sentence = (
            f"The cluster refuses the agent's pod ({refusal}); let a policy permit privileged pods with hostPID and "
            f"hostNetwork in namespace {namespace}."
        )
        return Verdict("POD_REFUSED", Link.POLICY, sentence)
    see = f"kubectl -n {namespace} describe daemonset {TRUST}"
    sentence = f"The DaemonSet {TRUST} has no pod on node {_name(node)} yet; see {see}."
    return Verdict("NO_POD", Link.AGENT, sentence)


def _agent_fault(pod: Json, facts: Facts) -> Verdict | None:
    """What is wrong up to and including the agent and what it found; None if the node is configured."""
    namespace, name = facts.declared.namespace, _name(pod)
    agent = _container(pod, "agent")
    if "running" not in agent.get("state", {}):
        message = agent.get("lastState", {}).get("terminated", {}).get("message") or ""
        told = told_fault(message)
        if told:
            return told
        why = _pod_trouble(pod, facts.events) or "it has not started yet"
        image = agent.get("image") or next(
            (c["image"] for c in pod["spec"].get("initContainers", []) if c["name"] == "agent"), "its image"
        )
        fix = f"see kubectl -n {namespace} describe pod {name}"
        if "Image" in why or "pull" in why:
            fix = "set pythonImage to an image that this node can pull"
        return Verdict("AGENT_NOT_RUNNING", Link.AGENT, f"The agent ({image}) does not run ({why}); {fix}.")
    probe = facts.probes.get(name)
    if probe is None:
        return _from_log(facts.logs.get(name, ""))
    if probe.process in ("", "T", "t", "Z"):
        lost = [path for path, same in probe.files.items() if not same]
        while_at_it = f", and {lost[0]} is not as it was written" if lost else ""
        state = {"": "gone", "Z": "dead"}.get(probe.process, "stopped by a signal")
        sentence = (
            f"The agent's process in pod {name} is {state}{while_at_it}; kubectl -n {namespace} delete pod {name}."
        )
        return Verdict("AGENT_STOPPED", Link.AGENT, sentence)
    return _probed(probe, facts)


def _probed(probe: Probe, facts: Facts) -> Verdict | None:
    if probe.connection:
        reason, sentence = probe.connection
        if reason == Reason.CERTIFICATE_MISMATCH:
            return _certificate(sentence, facts)
        return Verdict(reason, link_of(reason, sentence), sentence)
    reason, sentence = probe.status.get("reason", ""), probe.status.get("sentence", "")
    if not reason:
        sentence = "The agent has not had its first look at the node; ask again in a minute."
        return Verdict("STARTING", Link.AGENT, sentence)
    if reason != "READY":
        return Verdict(reason, link_of(reason, sentence), sentence)
    lost = [path for path, same in probe.files.items() if not same]
    if lost:
        sentence = f"{lost[0]} is not as the agent wrote it and is not put back; look at the agent's log."
        return Verdict("CA_FILE_LOST", Link.FILES, sentence)
    wanted = list(fingerprints((facts.config_map or {}).get("data", {}).get("ca.crt", "")))
    if probe.ca != wanted or probe.status.get("ca") != wanted:
        sentence = (
            f"The node has the CA with SHA-256 {', '.join(probe.status.get('ca') or probe.ca)}, the ConfigMap {LOOKUP} "
            f"by now the one with SHA-256 {', '.join(wanted)}; the kubelet brings it within two minutes."
        )
        return Verdict("CA_OLD", Link.FILES, sentence)
    return None


def _certificate(sentence: str, facts: Facts) -> Verdict:
    """What the node says of the certificate that it is served, and whose fault that is."""
    if facts.served:
        fix = (
            f"the registry's TLS Secret holds it: run pulumi up --refresh --stack {facts.declared.stack}, which puts a "
            "good one there"
            if facts.served == facts.stored
            else "the registry's TLS Secret holds another one: look in the Ingress controller's log for why it does "
            "not use that, and for a proxy that intercepts TLS"
        )
        sentence = f"{sentence.partition(';')[0]}; {fix}."
    return Verdict(Reason.CERTIFICATE_MISMATCH, Link.CERTIFICATE, sentence)


def _proof(pod: Json, facts: Facts) -> Verdict:
    """The last link of a node whose agent is content: its kubelet has pulled, and runs what it pulled."""
    if _condition(pod, "Ready").get("status") == "True":
        return Verdict(PROVED)
    waiting = _container(pod, "proof").get("state", {}).get("waiting", {})
    if waiting.get("reason", "") in ("", "PodInitializing", "ContainerCreating"):
        sentence = "The agent is ready and the proof starts; ask again in a minute."
        return Verdict("STARTING", Link.PULL, sentence)
    why = _pod_trouble(pod, facts.events)
    sentence = (
        f"The agent is content, and the kubelet still cannot run an image of the registry ({why}); look at the journal "
        "of the container runtime."
    )
    return Verdict("PULL_FAILED", Link.PULL, sentence)


def link_of(reason: str, sentence: str) -> Link:
    """The link that an agent's fault is about; its sentence tells the three ways to be unreachable apart."""
    if reason == Reason.UNREACHABLE:
        return (
            Link.DNS
            if sentence.startswith("DNS")
            else (Link.NETWORK if sentence.startswith("Network") else Link.REGISTRY)
        )
    return _LINKS.get(Reason(reason), Link.AGENT) if reason in set(Reason) else Link.AGENT


def told_fault(text: str) -> Verdict | None:
    """The last outcome that an agent wrote in its log or termination message; None if that is not a fault."""
    told = re.findall(r"^([A-Z_]+): (.+)$", text, re.MULTILINE)
    if not told or told[-1][0] not in set(Reason):
        return None
    reason, sentence = told[-1]
    return Verdict(reason, link_of(reason, sentence), sentence)


def _from_log(text: str) -> Verdict | None:
    # What was seen after the node was ready is history once the registry answers again.
    return told_fault(text.replace("the registry answers again", "READY: again"))


# What objects say


def _name(thing: Json | None) -> str:
    return thing["metadata"]["name"] if thing else ""


def _labelled(thing: Json, name: str) -> bool:
    return thing["metadata"].get("labels", {}).get("app.kubernetes.io/name") == name


def _condition(thing: Json, kind: str) -> Json:
    conditions: list[Json] = thing.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), Json())


def _pod_on(node: str, pods: Iterable[Json]) -> Json | None:
    """The agent's pod on a node: the youngest, as two are there during a rollout, and one that ends counts least."""
    found = [pod for pod in pods if _labelled(pod, TRUST) and _assigned(pod) == node]
    return max(
        found,
        key=lambda pod: ("deletionTimestamp" not in pod["metadata"], pod["metadata"].get("creationTimestamp", "")),
        default=None,
    )


def _assigned(pod: Json) -> str:
    """The node of a pod; the DaemonSet controller pins a pod by affinity before the scheduler assigns it."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return spec["nodeName"]
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    fields = (field for term in terms for field in term.get("matchFields", []))
    return next((field["values"][0] for field in fields if field["key"] == "metadata.name"), "")


def _container(pod: Json, name: str) -> Json:
    return next((container for container in _containers(pod) if container["name"] == name), Json())


def _containers(pod: Json) -> list[Json]:
    status: Json = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def _pod_trouble(pod: Json, events: Iterable[Json]) -> str:
    """Why a pod does not run, in the API's own words; empty if nothing says so."""
    newest = _newest(e for e in events if e.get("involvedObject", {}).get("name") == _name(pod))
    for container in _containers(pod):
        waiting: Json = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") in (None, "PodInitializing", "ContainerCreating"):
            continue
        last: Json = container.get("lastState", {}).get("terminated", {})
        message = last.get("message") or waiting.get("message") or ""
        return f"{waiting['reason']}: {message}".strip(": \n")
    if newest:
        return newest
    scheduled = _condition(pod, "PodScheduled")
    return scheduled.get("message", "") if scheduled.get("status") == "False" else ""


def _refusal(facts: Facts, kinds: tuple[str, ...]) -> str:
    """Why the API server refuses the pods that a controller wants to create."""
    return _newest(
        event
        for event in facts.events
        if event.get("reason") == "FailedCreate" and event.get("involvedObject", {}).get("kind") in kinds
    ).removeprefix("FailedCreate: ")


def _newest(events: Iterable[Json]) -> str:
    """Reason and message of the newest event."""
    last = max(
        events,
        key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or e["metadata"].get("creationTimestamp") or "",
        default=None,
    )
    return f"{last.get('reason', '')}: {last.get('message', '')}" if last else ""
