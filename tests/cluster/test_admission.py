"""What clusters of vendors and companies admit: the program passes where its pods do, and says what refuses them."""

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_cluster.paths import REPOSITORY
from trust.constraints import AGENT

from .support.bare_cluster import bare_cluster, fails, ingress_class
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Stack, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

DENY = {"validationActions": ["Deny"]}
CRITICAL = ["system-node-critical", "system-cluster-critical"]
GKE = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "ResourceQuota",
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "ResourceQuotaConfiguration",
                "limitedResources": [
                    {
                        "resource": "pods",
                        "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": CRITICAL}],
                    }
                ],
            },
        }
    ],
}
"""GKE's rule: pods of these classes are taken only where a ResourceQuota names their class."""

ASK = """
import asyncio, sys
import pulumi
pulumi.runtime.set_all_config({})
from registry.cluster import Cluster
from registry.registry import registry_pod
from tests.unit.support.settings import having
from trust.admission import require_pods
from trust.daemonset import trust_pod

async def ask():
    settings, cluster = having(), Cluster()
    pods = [trust_pod(settings), registry_pod(settings, cluster)]
    await require_pods(cluster, sys.argv[1], pods)

try:
    asyncio.run(ask())
except pulumi.RunError as error:
    print(error)
"""
"""Asks the cluster for the program's pods in a namespace, as the program does, and prints why it refuses them."""


def asked(cluster: Cluster, namespace: str) -> str:
    """Why the cluster refuses the program's pods in a namespace; empty if it takes them.

    They get the account there that the program makes before it asks.
    """
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": AGENT, "namespace": namespace}}
    cluster.apply(account)
    return cluster.run(sys.executable, "-c", ASK, namespace, cwd=REPOSITORY).stdout


def here(stack: Stack) -> str:
    """An expression that holds in the stack's namespace, and in others whose names begin so."""
    return f"request.namespace.startsWith('registry-{stack.name}')"


def wait_in_force(cluster: Cluster, stack: Stack, words: str) -> None:
    """Wait until a policy says these words of a pod in another namespace whose name begins like the stack's."""
    other = f"registry-{stack.name}-other"
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any", "namespace": other},
        "spec": {"containers": [{"name": "app", "image": "elsewhere.example.com/busybox:1"}]},
    }  # fmt: skip
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    try:

        def in_force() -> bool:
            done = cluster.dry_run(pod)
            return words in done.stdout + done.stderr

        wait_until(in_force, f"the policy says {words}", timeout=60)
    finally:
        cluster.kubectl("delete", "namespace", other, timeout=60)


@pytest.fixture(scope="module")
def gke(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with GKE's rule for critical pods, and nothing else."""
    with bare_cluster(cluster, tmp_path_factory.mktemp("gke"), GKE) as made:
        made.apply(ingress_class("nginx", default=True))
        yield made


def test_gke_takes_the_agents_pods_for_the_quota_in_our_namespace(gke: Cluster) -> None:
    settings = {"storage": "memory", "address": "192.0.2.10", "addressTimeout": "3s", "readyTimeout": "10s"}
    gke.kubectl("create", "namespace", "other")
    # At first the namespace lacks its ServiceAccount, or the API server does not see that yet.
    rule = "insufficient quota to match these scopes"
    wait_until(lambda: rule in asked(gke, "other"), "the rule counts", timeout=60, interval=2)
    assert "The cluster refuses the node agent's pod in the namespace other" in asked(gke, "other")
    with Stack(environment=gke.environment, settings=settings) as stack:
        failed = stack.up(check=False)
        text = failed.stdout + failed.stderr
        assert "refuses" not in text, text
        namespace = namespace_of(gke, stack)
        [quota] = gke.get("resourcequota", "-n", namespace)["items"]
        assert quota["status"]["hard"] == {"pods": "1M"}
        assert asked(gke, namespace) == ""
        # With the quota gone, what the program has just passed is refused: the rule does count in this cluster.
        gke.kubectl("delete", "resourcequota", "-n", namespace, "--all")
        wait_until(lambda: "insufficient quota" in asked(gke, namespace), "the rule counts", timeout=60, interval=2)


@pytest.fixture
def selecting(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """A Kubernetes API that gives every pod a node selector, unless its namespace says otherwise."""
    config = {"podNodeSelectorPluginConfig": {"clusterDefaultNodeSelector": "example.com/workers=yes"}}
    (tmp_path / "selector.yaml").write_text(yaml.safe_dump(config))
    plugin = {"name": "PodNodeSelector", "path": str(tmp_path / "selector.yaml")}
    with bare_cluster(cluster, tmp_path, {**GKE, "plugins": [plugin]}, port=7446) as made:
        made.apply(ingress_class("nginx", default=True))
        yield made


def test_a_default_node_selector_keeps_our_pods_off_no_node(selecting: Cluster) -> None:
    settings = {"storage": "memory", "address": "192.0.2.10", "addressTimeout": "3s", "readyTimeout": "10s"}

    def admitted(namespace: str) -> str:
        """The pod as the API server would take it. It may not see the namespace's ServiceAccount at once."""
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any", "namespace": namespace},
            "spec": {"containers": [{"name": "app", "image": "busybox:1"}]},
        }  # fmt: skip
        taken = list[str]()

        def is_taken() -> bool:
            done = selecting.dry_run(pod)
            taken[:] = [done.stdout]
            return done.returncode == 0

        wait_until(is_taken, f"a pod is taken in {namespace}", timeout=60)
        return taken[0]

    assert "example.com/workers" in admitted("default")
    with Stack(environment=selecting.environment, settings=settings) as stack:
        stack.up(check=False)
        assert "example.com/workers" not in admitted(namespace_of(selecting, stack))


def test_policies_that_want_limits_and_a_name_label_are_passed(cluster: Cluster) -> None:
    containers = "(object.spec.containers + object.spec.?initContainers.orValue([]))"
    limits = f"{containers}.all(c, c.?resources.?limits.?cpu.hasValue() && c.?resources.?limits.?memory.hasValue())"
    rules = [
        {"expression": limits, "message": "every container needs limits"},
        {"expression": "'app.kubernetes.io/name' in object.metadata.?labels.orValue({})", "message": "needs a name"},
    ]
    with Stack(environment=cluster.environment) as stack:
        name = f"limits-{stack.name}"
        with cluster.policy("ValidatingAdmissionPolicy", name, "/pods", {"validations": rules}, DENY, here(stack)):
            wait_in_force(cluster, stack, "every container needs limits")
            stack.up()
            assert stack.outputs()["registryUrl"]


def test_a_list_of_allowed_registries_is_told_before_anything_is_in_the_namespace(cluster: Cluster) -> None:
    allowed = (
        "(object.spec.containers + object.spec.?initContainers.orValue([]))"
        ".all(c, !c.image.contains('.') || c.image.startsWith('docker.io/'))"
    )
    rules = [{"expression": allowed, "message": "images come from docker.io only"}]
    with Stack(environment=cluster.environment, settings={"storage": "memory"}) as stack:
        name = f"allowed-{stack.name}"
        with cluster.policy("ValidatingAdmissionPolicy", name, "/pods", {"validations": rules}, DENY, here(stack)):
            wait_in_force(cluster, stack, "images come from docker.io only")
            fails(
                stack,
                "The cluster refuses the node agent's pod",
                "images come from docker.io only",
                "allow docker.io/library/python:",
                "own host",
            )
            kinds = "deployments,daemonsets,services,ingresses,secrets"
            assert cluster.kubectl("get", kinds, "-n", namespace_of(cluster, stack), "-o", "name") == ""


def test_a_webhook_that_rewrites_images_is_named(cluster: Cluster) -> None:
    rewrite = (
        'JSONPatch{op: "replace", path: "/spec/containers/0/image", value: "mirror.test/private-registry/proof:1"}'
    )
    spec = {
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{rewrite}]"}}],
    }
    # The registry's own pod is left alone: without it nothing would get as far as the nodes.
    agents = "object.metadata.?labels['app.kubernetes.io/name'].orValue('trust') == 'trust'"
    with Stack(environment=cluster.environment, settings={"readyTimeout": "30s"}) as stack:
        where = f"{here(stack)} && {agents}"
        with cluster.policy("MutatingAdmissionPolicy", f"mirror-{stack.name}", "/pods", spec, {}, where):
            wait_in_force(cluster, stack, "mirror.test/private-registry/proof:1")
            failed = stack.up(check=False)
            text = failed.stdout + failed.stderr
        assert failed.returncode != 0
        for node in cluster.nodes:
            assert f"{node}: PULL_FAILED" in text, text
        assert (
            "a webhook of the cluster has put mirror.test/private-registry/proof:1 in place of the DaemonSet's" in text
        )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"min": {"memory": "16Mi"}}, "minimum memory usage per Container is 16Mi"),
        ({"maxLimitRequestRatio": {"cpu": "10"}}, "cpu max limit to request ratio per Container is 10"),
    ],
    ids=["minimum", "ratio"],
)
def test_a_limit_range_that_our_pods_break_is_told_in_its_words(
    cluster: Cluster, namespace: str, limits: dict[str, Any], words: str
) -> None:
    assert asked(cluster, namespace) == ""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "company", "namespace": namespace},
            "spec": {"limits": [{"type": "Container", **limits}]},
        }
    )
    wait_until(lambda: words in asked(cluster, namespace), f"the cluster says {words}", timeout=30, interval=1)
    assert "Change that LimitRange of the namespace" in asked(cluster, namespace)


def test_a_quota_that_wants_limits_of_every_pod_takes_ours(cluster: Cluster, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "company", "namespace": namespace},
        "spec": {"hard": {"limits.cpu": "20", "limits.memory": "20Gi", "requests.cpu": "4", "requests.memory": "4Gi"}},
    }
    cluster.apply(quota)
    wait_until(
        lambda: cluster.get("resourcequota", "company", "-n", namespace).get("status", {}).get("hard"),
        "the quota counts",
        timeout=30,
    )
    container = {"name": "app", "image": "busybox:1"}
    without = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"any-{secrets.token_hex(2)}", "namespace": namespace},
        "spec": {"containers": [container]},
    }  # fmt: skip
    assert "must specify limits.cpu" in cluster.dry_run(without).stderr
    assert asked(cluster, namespace) == ""
