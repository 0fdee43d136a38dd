"""Case 88: where every new namespace is closed by a NetworkPolicy, ours keeps the registry reachable.

The cluster's own network enforces no policies. kube-network-policies, a real implementation, runs beside it here.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.bare_cluster import fails_with
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.network_policies import closed, enforced, reaches
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(900)]

PORTS = (5000, 5443)
"""The plain port, which the Ingress controller uses, and the one with TLS."""


@pytest.fixture
def enforcing(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Cluster]:
    """The cluster with a network that enforces NetworkPolicies."""
    with enforced(cluster, namespace, tmp_path):
        yield cluster


def test_a_namespace_that_is_closed_to_everybody_has_a_registry_that_everybody_reaches(enforcing: Cluster) -> None:
    with Stack(environment=enforcing.environment) as stack, closed(enforcing, stack):
        assert "3 of 3" in stack.up().stdout
        own = stack.outputs()["namespace"]
        policies = enforcing.get("networkpolicies", "-n", own)["items"]
        assert {policy["metadata"]["name"] for policy in policies} == {"deny-all", "registry"}
        [pod] = enforcing.get("pods", "-n", own, "-l", "app.kubernetes.io/name=registry")["items"]
        address, home = pod["status"]["podIP"], pod["spec"]["nodeName"]
        elsewhere = next(node for node in enforcing.nodes if node != home)
        assert [port for port in PORTS if reaches(elsewhere, address, port)] == [*PORTS]
        # Without ours the other one is all that counts, and it is enforced.
        enforcing.kubectl("delete", "networkpolicy", "-n", own, "registry")
        for port in PORTS:
            wait_until(lambda port=port: not reaches(elsewhere, address, port), f"port {port} is closed", timeout=30)
        stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
        for port in PORTS:
            wait_until(lambda port=port: reaches(elsewhere, address, port), f"port {port} is open", timeout=30)


def test_in_a_namespace_that_is_closed_to_everybody_the_pull_secret_is_attached_and_taken_out_again(
    enforcing: Cluster, namespace: str
) -> None:
    def attached() -> list[dict[str, str]]:
        return enforcing.get("serviceaccount", "-n", namespace, "default").get("imagePullSecrets") or []

    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true"}
    with Stack(environment=enforcing.environment, settings=settings) as stack, closed(enforcing, stack):
        assert "3 of 3" in stack.up().stdout
        outputs = stack.outputs()
        policies = enforcing.get("networkpolicies", "-n", outputs["namespace"])["items"]
        assert {policy["metadata"]["name"] for policy in policies} == {"deny-all", "registry", "attach"}
        assert attached() == [{"name": outputs["sharedName"]}]
        stack.destroy()
        assert attached() == []


def test_where_somebody_removes_our_policy_no_node_pulls_and_up_says_what_answers(enforcing: Cluster) -> None:
    settings = {"readyTimeout": "90s"}
    with (
        Stack(environment=enforcing.environment, settings=settings) as stack,
        closed(enforcing, stack, remove="registry"),
    ):
        text = fails_with(stack, "0 of 3 nodes have pulled from the registry within 90s")
        assert all(f"{node}: NO_REGISTRY" in text for node in enforcing.nodes), text
