"""The NetworkPolicy that keeps the registry's pod reachable where other policies of its namespace forbid everything."""

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as k8s


def reachable(
    name: str,
    namespace: pulumi.Input[str],
    labels: Mapping[str, str],
    ports: Sequence[int],
    opts: pulumi.ResourceOptions,
) -> k8s.networking.v1.NetworkPolicy:
    """Let everyone reach the pods with these labels on these TCP ports, and let these pods reach everyone.

    NetworkPolicies add up, so this opens what another one has closed, and closes nothing: nodes and way in are no pods
    of the namespace and have no labels that a narrower rule could name, and the pods need DNS and their storage.
    """
    network = k8s.networking.v1
    opened = [network.NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]
    return network.NetworkPolicy(
        f"{name}-network",
        metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=dict(labels)),
        spec=network.NetworkPolicySpecArgs(
            pod_selector=k8s.meta.v1.LabelSelectorArgs(match_labels=dict(labels)),
            policy_types=["Ingress", "Egress"],
            ingress=[network.NetworkPolicyIngressRuleArgs(ports=opened)],
            egress=[network.NetworkPolicyEgressRuleArgs()],
        ),
        opts=opts,
    )
