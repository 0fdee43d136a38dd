"""What the cluster has to admit before anything else is made: the very pods of the program, by a dry run."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pulumi
import pulumi_kubernetes as k8s
from pulumi.runtime import rpc

from registry import names
from registry.pod.pods import Reader, pods_of
from registry.pod.trouble import gone, is_over
from trust.accounts import Accounts, AccountsArgs
from trust.constraints import AGENT, Rights, constraints
from trust.refusals import refused

PRIORITY_CLASS = "system-node-critical"
"""The priority class of the node agent: a node without an agent does not trust the registry."""

_SECONDS = 10.0
"""How long (s) to wait for what Kubernetes gives a new namespace a moment later."""
_INTERVAL = 0.1
_NO_ACCOUNT = 'serviceaccount "default" not found'
_NO_AGENT = f'serviceaccount "{AGENT}" not found'
_NOT_YET = (
    _NO_ACCOUNT,
    _NO_AGENT,
    "insufficient quota to match these scopes",
    "status unknown for quota",
    "not usable by user or serviceaccount",
    "unable to find annotation openshift.io/sa.scc",
)
"""Parts of the refusals that may end by themselves in a new namespace: the default ServiceAccount is not there yet, the
API server has not seen our account, our quota or our bindings yet, or OpenShift has not annotated the namespace yet."""
_GONE = 'namespaces "{}" not found'
"""What the API server says when the namespace is not there, which the provider made before."""
_EXCEEDED = "exceeded quota"
"""Part of a refusal by a quota. A dry run asks for one more pod, and most changes put a pod in the place of another."""


class DryRun(Reader, Protocol):
    """What is asked of the cluster for each pod."""

    def refusal(self, kind: str, body: dict[str, Any], namespace: str = "") -> str:
        """Why the cluster would not take a new object; empty if it would, or if the user may not ask."""
        ...


class Admitting(DryRun, Rights, Protocol):
    """All that is asked of the cluster."""


Sample = tuple[str, k8s.core.v1.PodTemplateSpecArgs]
"""Whose pod it is, such as `the node agent's`, and the pod's template, but for values that are not known yet."""


@dataclass(frozen=True, kw_only=True)
class AdmissionArgs:
    """What `Admission` needs."""

    namespace: pulumi.Input[str]
    """The namespace, in which there is nothing yet."""
    cluster: DryRun
    """The cluster, which is asked whether it takes the pods."""
    pods: Sequence[Sample]
    """The pods that will be made."""
    timeout: str
    """How long to wait for the quota, such as `2m`."""


class Admission(pulumi.ComponentResource):
    """The namespace, once it is known that the cluster takes the program's pods there.

    On GKE, pods of the priority class `system-node-critical` are taken only where a ResourceQuota names that class, so
    there is one, which limits nothing.
    Ready when: 1. the quota counts; 2. the cluster has taken every pod in a dry run. A preview asks nothing.
    Delete removes the quota.
    Does not: find what the cluster refuses only to its own controllers. The waits for the pods say that.
    """

    namespace: pulumi.Output[str]
    """The namespace."""

    def __init__(self, name: str, args: AdmissionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the quota, and ask. `name` is the name of the quota."""
        super().__init__("private-registry:trust:Admission", name, None, opts)
        critical = any(_is_critical(template) for _, template in args.pods)
        quota = [self._quota(name, args).id] if critical else []

        async def admitted(known: list[str]) -> str:
            if not pulumi.runtime.is_dry_run():
                await require_pods(args.cluster, known[0], args.pods)
            return known[0]

        self.namespace = pulumi.Output.all(args.namespace, *quota).apply(admitted)
        self.register_outputs({"namespace": self.namespace})

    def _quota(self, name: str, args: AdmissionArgs) -> k8s.core.v1.ResourceQuota:
        scope = k8s.core.v1.ScopedResourceSelectorRequirementArgs(
            scope_name="PriorityClass", operator="In", values=[PRIORITY_CLASS]
        )
        return k8s.core.v1.ResourceQuota(
            f"{name}-quota",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=args.namespace, labels=names.labels("trust")),
            spec=k8s.core.v1.ResourceQuotaSpecArgs(
                hard={"pods": "1M"},  # a million, as the API server writes it
                scope_selector=k8s.core.v1.ScopeSelectorArgs(match_expressions=[scope]),
            ),
            opts=pulumi.ResourceOptions(parent=self, custom_timeouts=pulumi.CustomTimeouts(create=args.timeout)),
        )


def _is_critical(template: k8s.core.v1.PodTemplateSpecArgs) -> bool:
    """Whether a pod has the priority class that a cluster may give to some namespaces only."""
    spec = template.spec
    return isinstance(spec, k8s.core.v1.PodSpecArgs) and spec.priority_class_name == PRIORITY_CLASS


def admitted(
    namespace: pulumi.Input[str], cluster: Admitting, pods: Sequence[Sample], bound: Sequence[str], timeout: str
) -> pulumi.Output[str]:
    """The namespace, once there are `Accounts` in it and an `Admission` is ready.

    Args:
        namespace: The namespace, in which there is nothing yet.
        cluster: The cluster.
        pods: The pods that will be made.
        bound: The security context constraints of OpenShift that the last `up` has let the pods use.
        timeout: How long to wait for the quota, such as `2m`.
    """
    agent = any(_is_critical(template) for _, template in pods)
    wanted = AccountsArgs(namespace=namespace, agent=agent, constraints=constraints(cluster, bound, agent=agent))
    there = Accounts("trust-accounts", wanted).namespace
    args = AdmissionArgs(namespace=there, cluster=cluster, pods=pods, timeout=timeout)
    return Admission("trust-admission", args).namespace


async def require_pods(cluster: DryRun, namespace: str, pods: Sequence[Sample]) -> None:
    """Check that the cluster takes these pods, by a dry run.

    A quota that has no room for one more pod, beside those that run, is left to the waits for the pods.

    Raises:
        pulumi.RunError: it does not; the message has a paragraph for each pod. Or somebody has deleted the namespace,
            or the agent's account.
    """
    deadline = time.monotonic() + _SECONDS
    found: list[str] = []
    bodies = [await plain(template) for _, template in pods]
    for body in bodies:
        body["metadata"]["generateName"] = "dry-run-"
    refusals = await asyncio.gather(*(_refusal(cluster, body, namespace, deadline) for body in bodies))
    for (whose, _), body, words in zip(pods, bodies, refusals, strict=True):
        if _GONE.format(namespace) in words:
            raise pulumi.RunError(gone(f"The namespace {namespace} is not there"))
        if _NO_AGENT in words:
            raise pulumi.RunError(gone(f"The ServiceAccount {AGENT} in the namespace {namespace} is not there"))
        if _EXCEEDED in words and await asyncio.to_thread(_runs, cluster, body, namespace):
            continue
        if words:
            found.append(refused(whose, words, namespace, body["spec"]))
    if found:
        raise pulumi.RunError("\n".join(found))


def _runs(cluster: DryRun, body: dict[str, Any], namespace: str) -> bool:
    """Whether the namespace has a pod like this one already, which may be all that a quota has room for."""
    try:
        pods = pods_of(cluster, namespace, body["metadata"]["labels"]["app.kubernetes.io/name"])
    except (OSError, LookupError):
        return False
    return not all(map(is_over, pods))


async def _refusal(cluster: DryRun, body: dict[str, Any], namespace: str, deadline: float) -> str:
    while True:
        words = await asyncio.to_thread(cluster.refusal, "pod", body, namespace)
        if not any(part in words for part in _NOT_YET) or time.monotonic() > deadline:
            # An account that is late is no policy; if that lasts, the wait for the pods says why they are not made.
            return "" if _NO_ACCOUNT in words else words
        await asyncio.sleep(_INTERVAL)


async def plain(template: k8s.core.v1.PodTemplateSpecArgs) -> dict[str, Any]:
    """A pod's template as the provider sends it to the cluster."""
    return cast(dict[str, Any], await rpc.serialize_property(template, [], None))
