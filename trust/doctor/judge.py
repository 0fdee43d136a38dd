"""From facts to verdicts: pure functions.

A chain leads from the registry to a trusted node, and a broken link breaks every later one. So each function looks
along the chain and names the first broken link only: registry, address, ConfigMap, DaemonSet (in `stack`); then, on
each node, kubelet, pod, agent, connection, configuration, files, pull.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from registry import names
from registry.pod.trouble import (
    condition_of,
    container_of,
    image_fix,
    is_over,
    is_starting,
    names_login,
    pod_trouble,
    refusal,
    waits_for_image,
)
from trust.agent import outcome
from trust.agent.certificates import fingerprints
from trust.agent.connect import NOT_YET, mismatch
from trust.agent.faults import Reason
from trust.agent.outcome import READY, Outcome
from trust.agent.proxies import entry_for
from trust.machines import other_architecture, virtual
from trust.refusals import refused

from .facts import LOOKUP, REGISTRY, TRUST, Facts, Json, Probe
from .objects import agent_pod_on, has_agent, has_just_joined, is_labelled, name_of, node_of
from .stack import shared_fault
from .verdict import BrokenLink, Code, Verdict, verdict_of


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What the doctor says about one node."""

    node: str
    runtime: str
    """Name and version."""
    root: str
    """The folder that the runtime reads at a pull; empty while it is unknown."""
    verdict: Verdict
    counted: bool
    """Whether the promise covers this node; see `is_counted`."""


def judge(facts: Facts) -> tuple[Verdict | None, list[NodeReport]]:
    """The broken link that all nodes share, if there is one, and a report on each node."""
    shared, of_node = shared_fault(facts), of_each_node(facts)
    return shared, [_report(node, *of_node(node), shared) for node in sorted(facts.nodes, key=name_of)]


def all_proved(shared: Verdict | None, reports: Iterable[NodeReport]) -> bool:
    """Whether the promise holds: there are schedulable Linux nodes, and each one is proved."""
    counted = [report for report in reports if report.counted]
    return shared is None and bool(counted) and all(report.verdict.code == Code.PROVED for report in counted)


def of_each_node(facts: Facts) -> Callable[[Json], tuple[Json | None, Facts]]:
    """Gives a node's agent's pod, if there is one, and of the facts what is about the node, the registry or all nodes.

    Whoever looks for one node in what is known of all does so as often as there are nodes: with thousands that takes
    longer than all that the cluster has to do.
    """
    agents, events = defaultdict[str, list[Json]](list), defaultdict[str, list[Json]](list)
    for pod in facts.pods:
        if is_labelled(pod, TRUST):
            agents[node_of(pod)].append(pod)
    for event in facts.events:
        involved: Json = event.get("involvedObject", {})
        events["" if involved.get("kind") == "DaemonSet" else involved.get("name", "")].append(event)
    others = [pod for pod in facts.pods if not is_labelled(pod, TRUST)]

    def of(node: Json) -> tuple[Json | None, Facts]:
        here = agents.get(name_of(node), [])
        pod = agent_pod_on(name_of(node), here)
        said = [*events.get("", []), *(events.get(name_of(pod), []) if pod else [])]
        return pod, replace(facts, pods=[*here, *others], events=said)

    return of


def _report(node: Json, pod: Json | None, facts: Facts, shared: Verdict | None) -> NodeReport:
    probe = facts.probes.get(name_of(pod)) if pod else None
    status = probe.status if probe else {}
    runtime = f"{status.get('runtime', '')} {status.get('version', '').removeprefix('v')}".strip()
    roots: list[str] = status.get("roots") or [""]
    return NodeReport(
        node=name_of(node),
        runtime=runtime or node["status"].get("nodeInfo", {}).get("containerRuntimeVersion", "").replace("://", " "),
        root=roots[0].removesuffix(f"/{facts.declared.host}"),
        verdict=node_verdict(node, pod, facts, shared),
        counted=is_counted(node),
    )


def is_counted(node: Json) -> bool:
    """Whether the promise covers a node.

    It does for schedulable Linux nodes that are machines of an architecture that the proof image is for.
    """
    labels: Json = node["metadata"].get("labels", {})
    linux = labels.get("kubernetes.io/os", "linux") == "linux"
    fits = linux and not virtual(labels) and not other_architecture(labels)
    return fits and not node.get("spec", {}).get("unschedulable", False)


def node_verdict(node: Json, pod: Json | None, facts: Facts, shared: Verdict | None) -> Verdict:
    """The first broken link of one node. `pod` is the agent's pod on it, `shared` what is broken for all nodes."""
    name = name_of(node)
    labels: Json = node["metadata"].get("labels", {})
    if labels.get("kubernetes.io/os", "linux") != "linux":
        sentence = f"Node {name} runs {labels['kubernetes.io/os']}; only Linux nodes get the CA."
        return Verdict(Code.NOT_LINUX, BrokenLink.RUNTIME, sentence)
    if virtual(labels):
        sentence = f"Node {name} is no machine (label {virtual(labels)}), so it has no kubelet that could pull."
        return Verdict(Code.VIRTUAL_NODE, BrokenLink.NODE, sentence)
    if other_architecture(labels):
        sentence = (
            f"Node {name} is a machine of the architecture {other_architecture(labels)}, which the proof image is not "
            f"for ({', '.join(names.ARCHITECTURES)}), so it gets no agent, and does not trust the registry."
        )
        return Verdict(Code.OTHER_ARCHITECTURE, BrokenLink.NODE, sentence)
    ready = condition_of(node, "Ready")
    if ready.get("status") != "True":
        why = ready.get("message") or "it has never reported"
        fix = (
            f"a node that joins is so for a moment; if it stays so, see kubectl describe node {name}"
            if has_just_joined(node)
            else f"repair the node, or remove it for good: kubectl delete node {name}"
        )
        sentence = f"The kubelet of node {name} is not Ready ({why}); {fix}."
        return Verdict(Code.NODE_NOT_READY, BrokenLink.NODE, sentence)
    if shared:
        return Verdict(shared.code, shared.link)
    if pod is None:
        return _no_pod(node, facts)
    found = (_agent_fault(pod, facts) or _proof(pod, facts)) if has_agent(pod) else _proof_alone(pod, facts)
    return _hairpin(found, node, facts)


def _hairpin(found: Verdict, node: Json, facts: Facts) -> Verdict:
    """A node that cannot reach the registry, which runs on it, has a fault that the other nodes do not have."""
    homes = {node_of(pod) for pod in facts.pods if is_labelled(pod, REGISTRY) and not is_over(pod)}
    if found.code != Reason.NO_CONNECTION or name_of(node) not in homes:
        return found
    return replace(
        found,
        sentence=f"{found.sentence} The registry's own pod runs on this node, and some load balancers lead nobody back "
        "to the machine from which he comes (hairpin). On AWS have it send to pods instead of nodes: pulumi config set "
        "--path 'serviceAnnotations[\"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type\"]' ip; or set "
        "exposure to nodePort.",
    )


def _no_pod(node: Json, facts: Facts) -> Verdict:
    namespace = facts.declared.namespace
    daemon_set = facts.daemon_set or {}
    selector: dict[str, str] = daemon_set.get("spec", {}).get("template", {}).get("spec", {}).get("nodeSelector") or {}
    labels: Json = node["metadata"].get("labels", {})
    unmet = {key: value for key, value in selector.items() if labels.get(key) != value}
    if unmet:
        pairs = ", ".join(f"{key}={value}" for key, value in unmet.items())
        sentence = (
            f"The DaemonSet {TRUST} wants nodes with the label {pairs}, and node {name_of(node)} has none; label the "
            f"node, or take the label out of the DaemonSet's nodeSelector."
        )
        return Verdict(Code.NO_MATCHING_NODE, BrokenLink.AGENT, sentence)
    words = refusal(facts.events, ("DaemonSet",))
    if words:
        template: Json = daemon_set.get("spec", {}).get("template", {}).get("spec", {})
        return Verdict(Code.POD_REFUSED, BrokenLink.POLICY, refused(_whose(facts), words, namespace, template))
    see = f"kubectl -n {namespace} describe daemonset {TRUST}"
    sentence = (
        f"The DaemonSet {TRUST} has no pod on node {name_of(node)} yet; if it gets none, look for a node selector that "
        f"somebody has given the namespace (kubectl get namespace {namespace} -o yaml), and see {see}."
    )
    return Verdict(Code.NO_POD, BrokenLink.AGENT, sentence)


def _whose(facts: Facts) -> str:
    """Whose the pods of the DaemonSet are."""
    template: Json = (facts.daemon_set or {}).get("spec", {}).get("template", {})
    return "the proof's" if template.get("spec", {}).get("containers") and not has_agent(template) else "the agent's"


def rewritten_image(pod: Json, facts: Facts, container: str) -> str:
    """The image of the pod's container, if it is not the one that the DaemonSet asks for; empty if it is."""

    def image(spec: Json) -> str:
        containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
        return next((str(entry.get("image", "")) for entry in containers if entry["name"] == container), "")

    wanted = image((facts.daemon_set or {}).get("spec", {}).get("template", {}).get("spec", {}))
    actual = image(pod["spec"])
    return actual if wanted and actual and actual != wanted else ""


def _image_fix(pod: Json, facts: Facts, container: str, otherwise: str) -> str:
    """What helps when an image cannot be had: it may be another one than the DaemonSet's."""
    other = rewritten_image(pod, facts, container)
    if not other:
        return otherwise
    return (
        f"a webhook of the cluster has put {other} in place of the DaemonSet's image: exempt namespace "
        f"{facts.declared.namespace} from it"
    )


def _agent_fault(pod: Json, facts: Facts) -> Verdict | None:
    """What is wrong with the agent, or what the agent found; None if the node is configured."""
    namespace, name = facts.declared.namespace, name_of(pod)
    agent = container_of(pod, "agent")
    if "running" not in agent.get("state", {}):
        fault = reported_fault(agent.get("lastState", {}).get("terminated", {}).get("message") or "")
        if fault:
            return fault
        why = pod_trouble(pod, facts.events)
        if not why:
            sentence = f"The agent's pod {name} starts; ask again in a minute."
            return Verdict(Code.STARTING, BrokenLink.AGENT, sentence)
        image = agent.get("image") or next(
            (c["image"] for c in pod["spec"].get("initContainers", []) if c["name"] == "agent"), "its image"
        )
        fix = f"see kubectl -n {namespace} describe pod {name}"
        if waits_for_image(agent):
            helps = image_fix({**agent, "image": image}, why, has_login=names_login(pod, names.IMAGE_LOGIN))
            fix = _image_fix(pod, facts, "agent", helps)
        return Verdict(Code.AGENT_NOT_RUNNING, BrokenLink.AGENT, f"The agent ({image}) does not run ({why}); {fix}.")
    probe = facts.probes.get(name)
    if probe is None:
        fault = reported_fault(facts.logs.get(name, ""))
        if fault or agent.get("started", True):
            return fault
        says = "its log says no reason" if name in facts.logs else "its log, which was not read, may say why"
        sentence = f"The agent is not ready yet, and {says}: kubectl -n {namespace} logs {name} -c agent."
        return Verdict(Code.STARTING, BrokenLink.AGENT, sentence)
    if probe.process in ("", "T", "t", "Z"):
        lost = [path for path, same in probe.files.items() if not same]
        and_lost = f", and {lost[0]} is not as it was written" if lost else ""
        state = {"": "gone", "Z": "dead"}.get(probe.process, "stopped by a signal")
        sentence = f"The agent's process in pod {name} is {state}{and_lost}; kubectl -n {namespace} delete pod {name}."
        return Verdict(Code.AGENT_STOPPED, BrokenLink.AGENT, sentence)
    return _probed(probe, facts)


def _probed(probe: Probe, facts: Facts) -> Verdict | None:
    now = outcome.parse(probe.connection)
    if now:
        return _certificate(now, facts) if now.reason == Reason.CERTIFICATE_MISMATCH else verdict_of(now)
    reported = outcome.parse(probe.status)
    if reported is None:
        sentence = "The agent has not had its first look at the node; ask again in a minute."
        return Verdict(Code.STARTING, BrokenLink.AGENT, sentence)
    if reported.reason != READY:
        return verdict_of(reported)
    lost = [path for path, same in probe.files.items() if not same]
    if lost:
        sentence = f"{lost[0]} is not as the agent wrote it and is not put back; look at the agent's log."
        return Verdict(Code.CA_FILE_LOST, BrokenLink.FILES, sentence)
    wanted = list(fingerprints((facts.config_map or {}).get("data", {}).get("ca.crt", "")))
    if probe.ca != wanted or probe.status.get("ca") != wanted:
        sentence = (
            f"The node has the CA with SHA-256 {', '.join(probe.status.get('ca') or probe.ca) or 'none'}, the "
            f"ConfigMap {LOOKUP} by now the one with SHA-256 {', '.join(wanted) or 'none'}; the kubelet brings it "
            "within two minutes."
        )
        return Verdict(Code.CA_OLD, BrokenLink.FILES, sentence)
    return None


def _certificate(found: Outcome, facts: Facts) -> Verdict:
    """The certificate that a node is served does not fit. The registry's TLS Secret tells whose fault that is."""
    details = found.details
    if not facts.served or "served" not in details or "trusted" not in details or NOT_YET in details.get("error", ""):
        return verdict_of(found)
    address = f"{details.get('host')}:{details.get('port')}"
    what = mismatch(address, details["served"], details["trusted"], details.get("error", ""))
    fix = (
        f"the registry's TLS Secret holds it: run pulumi up --refresh --stack {facts.declared.stack}, which puts a "
        "good one there"
        if facts.served == facts.stored
        else "the registry's TLS Secret holds another one: look in the Ingress controller's log for why it does not "
        "use that, and for a proxy that intercepts TLS"
    )
    return replace(verdict_of(found), sentence=f"{what}; {fix}.")


def _proof(pod: Json, facts: Facts) -> Verdict:
    """The last link of a node whose agent reports READY: its kubelet has pulled the proof's image, and runs it."""
    if condition_of(pod, "Ready").get("status") == "True":
        return Verdict(Code.PROVED)
    if is_starting(container_of(pod, "proof")):
        sentence = "The agent is ready and the proof starts; ask again in a minute."
        return Verdict(Code.STARTING, BrokenLink.PULL, sentence)
    why = pod_trouble(pod, facts.events)
    probe = facts.probes.get(name_of(pod))
    proxy = probe.status.get("proxy") if probe else ""
    through = f", which pulls through the proxy {proxy}" if proxy else ""
    fix = _image_fix(pod, facts, "proof", f"look at the journal of the container runtime{through}")
    sentence = f"The agent is ready, and yet the kubelet cannot run an image of the registry ({why}); {fix}."
    return Verdict(Code.PULL_FAILED, BrokenLink.PULL, sentence)


_PULLS: Sequence[tuple[str, str, BrokenLink, str]] = (
    (
        "proxyconnect ",
        Reason.PROXY_IN_THE_WAY,
        BrokenLink.NETWORK,
        "its container runtime pulls through a proxy, as HTTPS_PROXY in its environment says: add {entry} to NO_PROXY "
        "there, and restart it",
    ),
    (
        "x509: .*not yet valid: current time .* is before",
        Reason.CERTIFICATE_MISMATCH,
        BrokenLink.CERTIFICATE,
        "the clocks differ: set the node's or, if that one is right, that of the machine that made the certificate",
    ),
    (
        "x509: .*(expired|not yet valid|is valid for|not valid for)|IP SANs",
        Reason.CERTIFICATE_MISMATCH,
        BrokenLink.CERTIFICATE,
        "something else serves this host, or the registry's certificate does not fit it: run pulumi up --refresh",
    ),
    (
        "x509:|certificate signed by unknown authority|failed to verify certificate",
        Code.NOT_TRUSTED,
        BrokenLink.CONFIG,
        "the node's own setting is missing, or its container runtime has not read it yet: python3 -m registry.clients "
        "--node NAME prints it, and --list has the names. The kubelet tries again within five minutes, or at once "
        "after kubectl -n {namespace} delete pod {pod}",
    ),
    (
        "no such host|server misbehaving|Temporary failure in name resolution",
        Reason.NAME_NOT_RESOLVED,
        BrokenLink.DNS,
        "have the node's resolver know the host, or set dnsSuffix or host to a name that it knows",
    ),
    (
        "i/o timeout|connection refused|no route to host|network is unreachable|deadline exceeded|connection reset",
        Reason.NO_CONNECTION,
        BrokenLink.NETWORK,
        "look for routes, firewalls and network policies between the node and the way in",
    ),
)
"""What a kubelet says of a pull that fails, and what it means where no agent looks: code, link and fix."""


def _proof_alone(pod: Json, facts: Facts) -> Verdict:
    """The verdict on a node where somebody else makes the container runtime trust the CA."""
    if condition_of(pod, "Ready").get("status") == "True":
        return Verdict(Code.PROVED)
    namespace, name = facts.declared.namespace, name_of(pod)
    proof = container_of(pod, "proof")
    words = pod_trouble(pod, facts.events)
    known = _PULLS if waits_for_image(proof) and not rewritten_image(pod, facts, "proof") else ()
    for pattern, code, link, fix in known:
        if re.search(pattern, words):
            helps = fix.format(namespace=namespace, pod=name, entry=entry_for(facts.declared.host))
            return Verdict(code, link, f"Node {node_of(pod)} does not pull from the registry ({words}); {helps}.")
    if is_starting(proof):
        why = f" ({words})" if words else ""
        return Verdict(Code.STARTING, BrokenLink.PULL, f"The proof starts in pod {name}{why}; ask again in a minute.")
    fix = _image_fix(pod, facts, "proof", "look at the journal of the container runtime")
    return Verdict(
        Code.PULL_FAILED, BrokenLink.PULL, f"The kubelet cannot run an image of the registry ({words}); {fix}."
    )


def reported_fault(text: str) -> Verdict | None:
    """The last outcome in an agent's log or termination message; None if there is none or it is READY."""
    found = outcome.last(text)
    return verdict_of(found) if found and found.reason != READY else None
