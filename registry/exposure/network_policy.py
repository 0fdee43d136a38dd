"""The NetworkPolicies by which the program's pods do their work where others of the namespace forbid everything."""

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
    """Let everyone reach the pods with these labels on these TCP ports, if any, and let these pods reach everyone.

    NetworkPolicies add up, so this opens what another one has closed, and closes nothing: nodes and way in are no pods
    of the namespace and have no labels that a narrower rule could name, and nor has what the pods need, such as DNS,
    their storage, or the API server.
    """
    network = k8s.networking.v1
    opened = [network.NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]
    return network.NetworkPolicy(
        f"{name}-network",
        metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=dict(labels)),
        spec=network.NetworkPolicySpecArgs(
            pod_selector=k8s.meta.v1.LabelSelectorArgs(match_labels=dict(labels)),
            policy_types=["Ingress", "Egress"] if ports else ["Egress"],
            ingress=[network.NetworkPolicyIngressRuleArgs(ports=opened)] if ports else None,
            egress=[network.NetworkPolicyEgressRuleArgs()],
        ),
        opts=opts,
    )
