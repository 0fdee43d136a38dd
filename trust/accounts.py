"""The node agent's ServiceAccount, and the RoleBindings without which OpenShift takes none of the program's pods."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from registry import names
from trust.constraints import AGENT, PRIVILEGED, RBAC


@dataclass(frozen=True, kw_only=True)
class AccountsArgs:
    """What `Accounts` needs."""

    namespace: pulumi.Input[str]
    """The namespace, in which there is nothing yet."""
    agent: bool
    """Whether there is a node agent."""
    constraints: Sequence[str]
    """The constraints of OpenShift that the pods are let use; none elsewhere."""


class Accounts(pulumi.ComponentResource):
    """The node agent's ServiceAccount, and the RoleBindings that OpenShift wants.

    Ready when: 1. all of them exist. Delete removes them, after the pods.
    Does not: make a constraint or a ClusterRole. OpenShift has these.
    """

    namespace: pulumi.Output[str]
    """The namespace, once they are there."""

    def __init__(self, name: str, args: AccountsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make account and bindings. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:trust:Accounts", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        made: list[pulumi.CustomResource] = []
        if args.agent:
            made.append(
                k8s.core.v1.ServiceAccount(
                    f"{name}-agent",
                    metadata=_metadata(AGENT, args.namespace),
                    automount_service_account_token=False,
                    opts=child,
                )
            )
        made += [_binding(name, args.namespace, constraint, child) for constraint in args.constraints]
        self.namespace = pulumi.Output.all(args.namespace, *(each.id for each in made)).apply(lambda known: known[0])
        self.register_outputs({"namespace": self.namespace})


def _metadata(name: str, namespace: pulumi.Input[str]) -> k8s.meta.v1.ObjectMetaArgs:
    return k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=names.labels("trust"))


def _binding(
    name: str, namespace: pulumi.Input[str], constraint: str, opts: pulumi.ResourceOptions
) -> k8s.rbac.v1.RoleBinding:
    """Let the agent's account, or every account of the namespace, use a constraint."""
    rbac = k8s.rbac.v1
    if constraint == PRIVILEGED:
        subject = rbac.SubjectArgs(kind="ServiceAccount", name=AGENT, namespace=namespace)
    else:
        group = pulumi.Output.concat("system:serviceaccounts:", namespace)
        subject = rbac.SubjectArgs(api_group=RBAC, kind="Group", name=group)
    return rbac.RoleBinding(
        f"{name}-{constraint}",
        metadata=_metadata(f"use-{constraint}", namespace),
        role_ref=rbac.RoleRefArgs(api_group=RBAC, kind="ClusterRole", name=f"{names.CONSTRAINT}{constraint}"),
        subjects=[subject],
        opts=opts,
    )
