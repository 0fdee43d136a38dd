"""Verdicts on what all nodes share: stack, registry, address, ConfigMap and DaemonSet. Pure functions."""

from registry import names
from registry.pod.trouble import registry_trouble
from trust.agent import outcome
from trust.agent.certificates import fingerprints
from trust.agent.faults import Fault, Reason

from .facts import LOOKUP, REGISTRY, TRUST, Facts, Json
from .objects import is_labelled, name_of
from .verdict import BrokenLink, Code, Verdict


def shared_fault(facts: Facts) -> Verdict | None:
    """The first broken link between the stack and its nodes; None if none is broken."""
    declared = facts.declared
    up = f"run pulumi up --refresh --stack {declared.stack}"
    if facts.namespace is None:
        gone = (
            f"The namespace {declared.namespace} is not on the cluster"
            if declared.namespace
            else ("The stack has not made its namespace yet")
        )
        return Verdict(Code.NOT_DEPLOYED, BrokenLink.STACK, f"{gone}; {up}, and read its first error.")
    fault = _registry_fault(facts, up) or _address_fault(facts)
    if fault:
        return fault
    if facts.config_map is None:
        sentence = f"The ConfigMap {LOOKUP} in {declared.namespace}, from which nodes get the CA, is not there; {up}."
        return Verdict(Code.CONFIG_MAP_MISSING, BrokenLink.CONFIG_MAP, sentence)
    fault = _config_map_fault(facts, up)
    if fault:
        return fault
    if facts.daemon_set is None:
        sentence = f"The DaemonSet {TRUST} in {declared.namespace}, which puts the CA on nodes, is not there; {up}."
        return Verdict(Code.DAEMON_SET_MISSING, BrokenLink.AGENT, sentence)
    return None


def _registry_fault(facts: Facts, up: str) -> Verdict | None:
    namespace = facts.declared.namespace
    if facts.deployment is None:
        sentence = f"The registry's Deployment is not in namespace {namespace}; {up}, and read its first error."
        return Verdict(Code.REGISTRY_MISSING, BrokenLink.REGISTRY, sentence)
    name, status = name_of(facts.deployment), facts.deployment.get("status", {})
    if status.get("readyReplicas"):
        return None
    storage = storage_fault(facts)
    if storage:
        return storage
    if facts.deployment["spec"].get("replicas") == 0:
        sentence = (
            f"The registry's Deployment has 0 replicas; kubectl -n {namespace} scale deployment/{name} --replicas=1."
        )
        return Verdict(Code.REGISTRY_DOWN, BrokenLink.REGISTRY, sentence)
    pods = [pod for pod in facts.pods if is_labelled(pod, REGISTRY)]
    why, fix = registry_trouble(pods, facts.events, names.IMAGE_LOGIN, facts.crashed)
    see = f"see kubectl -n {namespace} describe pods -l app.kubernetes.io/name={REGISTRY}"
    sentence = f"The registry's pod is not ready ({why or 'nothing says why'}); {fix or see}."
    return Verdict(Code.REGISTRY_DOWN, BrokenLink.REGISTRY, sentence)


def storage_fault(facts: Facts) -> Verdict | None:
    """What is wrong with the registry's storage, in the words of its pod; None if nothing is. Pulls may work."""
    found = outcome.last(facts.storage)
    if found is None or found.reason == outcome.READY:
        return None
    return Verdict(found.reason, BrokenLink.REGISTRY, found.sentence)


_ADDRESS = "[0]"
"""What is in the condition of an object for whose first address `up` waits."""


def _address_fault(facts: Facts) -> Verdict | None:
    for entrance in facts.entrances:
        status: Json = entrance.get("status", {})
        annotations: Json = entrance["metadata"].get("annotations") or {}
        if _ADDRESS not in annotations.get("pulumi.com/waitFor", ""):
            continue  # the setting `address` names one, so its controller need not publish any
        if not status.get("loadBalancer", {}).get("ingress") and not status.get("addresses"):
            what = f"{entrance.get('kind', 'Ingress')} {name_of(entrance)} in {facts.declared.namespace}"
            sentence = (
                f"The {what} has got no address; check that its Ingress controller or load balancer runs and has "
                "addresses left."
            )
            return Verdict(Code.NO_ADDRESS, BrokenLink.ADDRESS, sentence)
    return None


def _config_map_fault(facts: Facts, up: str) -> Verdict | None:
    data: Json = (facts.config_map or {}).get("data") or {}
    declared = facts.declared
    try:
        actual = fingerprints(data.get("ca.crt", ""))
        # Only a stack whose certificate is publicly trusted has no CA.
        if not actual and (declared.ca or "ca.crt" not in data):
            raise Fault(Reason.CA_INVALID, "", error="no certificate in it")
    except Fault as fault:
        why = fault.details.get("error", "")
        sentence = f"The CA in the ConfigMap {LOOKUP} in {declared.namespace} cannot be read ({why}); {up}."
        return Verdict(Reason.CA_INVALID, BrokenLink.CONFIG_MAP, sentence)
    wanted = fingerprints(declared.ca) if declared.ca else actual
    if actual != wanted:
        sentence = (
            f"The ConfigMap {LOOKUP} in {declared.namespace} has the CA with SHA-256 {', '.join(actual)}, and the "
            f"stack made the one with SHA-256 {', '.join(wanted)}; {up}."
        )
        return Verdict(Code.CA_REPLACED, BrokenLink.CONFIG_MAP, sentence)
    if declared.host and data.get("host") != declared.host:
        sentence = (
            f"The ConfigMap {LOOKUP} has the host {data.get('host')!r}, and the stack made {declared.host!r}; {up}."
        )
        return Verdict(Code.HOST_REPLACED, BrokenLink.CONFIG_MAP, sentence)
    return None
