"""Policies that refuse or change what the program makes are an error at once, and nothing is left behind."""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

from .support.bare_cluster import fails, ingress_class, nothing_is_left, storage_class
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow]


def refusing(cluster: Cluster, name: str, resource: str, expression: str) -> AbstractContextManager[None]:
    """A policy of the cluster that refuses what does not fulfil the expression."""
    spec = {"validations": [{"expression": expression, "message": "not in this company"}]}
    return cluster.policy("ValidatingAdmissionPolicy", name, resource, spec, {"validationActions": ["Deny"]})


NOT_PRIVILEGED = (
    "!(object.spec.containers + object.spec.?initContainers.orValue([]))"
    ".exists(c, c.?securityContext.?privileged.orValue(false))"
)
LABEL = "object.metadata.?labels['pod-security.kubernetes.io/enforce'].orValue('') != 'privileged'"


def refuses(cluster: Cluster, *objects: Mapping[str, Any]) -> bool:
    """Whether the cluster refuses these objects by the policy: it takes a second until a new one counts."""
    return "not in this company" in cluster.dry_run(*objects).stderr


def test_a_policy_against_the_namespace_is_told_before_anything_is_made(classes: Cluster) -> None:
    classes.apply(ingress_class("nginx", default=True), storage_class("ssd", default=True))
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    probe = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "probe", "labels": labels}}
    with refusing(classes, "no-privileged-namespaces", "/namespaces", LABEL):
        wait_until(lambda: refuses(classes, probe), "the policy counts", timeout=30)
        with Stack(environment=classes.environment) as stack:
            fails(stack, "The cluster refuses the namespace", "not in this company", command="preview")
            fails(stack, "The cluster refuses the namespace", "not in this company")
            nothing_is_left(classes, stack)


def test_a_policy_against_privileged_pods_is_told_before_anything_is_in_the_namespace(classes: Cluster) -> None:
    classes.apply(ingress_class("nginx", default=True), storage_class("ssd", default=True))
    container = {"name": "probe", "image": "probe", "securityContext": {"privileged": True}}
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"containers": [container]},
    }
    with refusing(classes, "no-privileged-pods", "/pods", NOT_PRIVILEGED):
        wait_until(lambda: refuses(classes, probe), "the policy counts", timeout=30)
        with Stack(environment=classes.environment) as stack:
            fails(stack, "The cluster refuses the node agent's pod in the namespace", "not in this company")
            (namespace,) = [n for n in classes.kubectl("get", "ns", "-o", "name").split() if stack.name in n]
            kinds = "deployments,daemonsets,services,ingresses,secrets,persistentvolumeclaims"
            name = namespace.removeprefix("namespace/")
            assert classes.kubectl("get", kinds, "-n", name, "-o", "name") == ""
            stack.destroy()
            nothing_is_left(classes, stack)


def in_a_new_namespace(cluster: Cluster, namespace: str, kind: str, api: str, spec: Mapping[str, Any]) -> str:
    """What the cluster says of a new object in a namespace, which is made for the question."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        metadata = {"name": "any", "namespace": namespace}
        done = cluster.dry_run({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec})
        return done.stdout + done.stderr
    finally:
        cluster.kubectl("delete", "namespace", namespace, timeout=60)


def here(stack: Stack) -> str:
    """An expression that holds in the stack's namespace, and in others whose names begin so."""
    return f"request.namespace.startsWith('registry-{stack.name}')"


@pytest.mark.timeout(600)
def test_a_policy_against_privileged_pods_is_an_error_at_once(cluster: Cluster) -> None:
    rule = (
        "!has(object.spec.initContainers) && object.spec.containers.all(c, !has(c.securityContext) || "
        "!has(c.securityContext.privileged) || !c.securityContext.privileged)"
    )
    spec = {"validations": [{"expression": rule, "message": "no privileged pods here"}]}
    deny = {"validationActions": ["Deny"]}
    pod = {"containers": [{"name": "app", "image": "busybox:1", "securityContext": {"privileged": True}}]}
    with Stack(environment=cluster.environment) as stack:
        name, other = f"no-privileged-{stack.name}", f"registry-{stack.name}-other"

        def refused() -> bool:
            return "no privileged pods here" in in_a_new_namespace(cluster, other, "Pod", "v1", pod)

        with cluster.policy("ValidatingAdmissionPolicy", name, "/pods", spec, deny, here(stack)):
            wait_until(refused, "the policy is in force", timeout=60)
            began = time.monotonic()
            failed = stack.up(check=False)
            took = time.monotonic() - began
            assert failed.returncode != 0
            assert "no privileged pods here" in failed.stdout + failed.stderr
            assert took < 10


HTTPS_ONLY = (
    "size(object.spec.?tls.orValue([])) > 0 && "
    "object.metadata.?annotations['kubernetes.io/ingress.allow-http'].orValue('') == 'false'"
)
"""The rule of Gatekeeper's `httpsonly` and Kyverno's `require-ingress-https`."""


@pytest.mark.timeout(600)
def test_a_policy_against_plain_http_lets_both_ingresses_pass_and_the_controller_takes_them(cluster: Cluster) -> None:
    spec = {"validations": [{"expression": HTTPS_ONLY, "message": "no plain HTTP here"}]}
    deny = {"validationActions": ["Deny"]}
    backend = {"service": {"name": "any", "port": {"number": 80}}}
    plain = {"defaultBackend": backend}
    with Stack(environment=cluster.environment, settings={"storage": "memory", "storageSize": "1Gi"}) as stack:
        name, other = f"https-only-{stack.name}", f"registry-{stack.name}-other"

        def refused() -> bool:
            said = in_a_new_namespace(cluster, other, "Ingress", "networking.k8s.io/v1", plain)
            return "no plain HTTP here" in said

        policy = ("ValidatingAdmissionPolicy", name, "networking.k8s.io/ingresses", spec, deny, here(stack))
        with cluster.policy(*policy, changes=True):
            wait_until(refused, "the policy is in force", timeout=60)
            stack.up()
            made = cluster.get("ingresses", "-n", stack.outputs()["namespace"])["items"]
            assert len(made) == 2
            assert all(each["status"]["loadBalancer"]["ingress"] for each in made)


@pytest.mark.timeout(600)
def test_a_daemon_set_that_matches_no_node_is_an_error_and_no_trust(cluster: Cluster) -> None:
    elsewhere = 'JSONPatch{op: "add", path: "/spec/template/spec/nodeSelector/nowhere", value: "true"}'
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{elsewhere}]"}}
    spec = {"reinvocationPolicy": "Never", "mutations": [mutation]}
    labels = {"app": "any"}
    pod = {"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": [{"name": "app", "image": "busybox:1"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    daemon_set = {"selector": {"matchLabels": labels}, "template": template}
    with Stack(environment=cluster.environment) as stack:
        name, other = f"nowhere-{stack.name}", f"registry-{stack.name}-other"

        def moved_away() -> bool:
            return '"nowhere"' in in_a_new_namespace(cluster, other, "DaemonSet", "apps/v1", daemon_set)

        with cluster.policy("MutatingAdmissionPolicy", name, "apps/daemonsets", spec, {}, here(stack)):
            wait_until(moved_away, "the policy is in force", timeout=60)
            failed = stack.up(check=False)
            assert failed.returncode != 0
            assert "The DaemonSet trust matches no node" in failed.stdout + failed.stderr
            assert "registryUrl" not in stack.outputs()
