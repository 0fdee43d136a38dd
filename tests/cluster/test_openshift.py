"""OpenShift takes a pod only if an account may use a security context constraint that fits: the program sees to that.

There is no OpenShift here, so its rule is set up on the local cluster: its kind is served, it has OpenShift's
ClusterRoles, and a policy refuses pods as OpenShift's admission plug-in does, by the same question to the same
authorizer (github.com/openshift/apiserver-library-go). The policy knows three of the constraints, which is enough to
tell the program's pods apart, and holds in the namespaces of the test's own stacks only. The kind is served for
everybody, so that other stacks would make their bindings too: these tests run alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .support.bare_cluster import fails_with
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.rights import RULES, having_only
from .support.stacks import Stack, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

GROUP = "security.openshift.io"
PLURAL = "securitycontextconstraints"
KIND = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Cluster",
        "names": {"kind": "SecurityContextConstraints", "plural": PLURAL, "singular": PLURAL},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
REFUSED = "unable to validate against any security context constraint"


def cluster_role(constraint: str) -> dict[str, Any]:
    """The ClusterRole that OpenShift has for one of its constraints."""
    rule = {"apiGroups": [GROUP], "resources": [PLURAL], "resourceNames": [constraint], "verbs": ["use"]}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"system:openshift:scc:{constraint}"},
        "rules": [rule],
    }


def usable(constraint: str) -> str:
    """An expression: whether the user or the pod's account may use a constraint in the namespace."""
    question = f".group('{GROUP}').resource('{PLURAL}').namespace(request.namespace).name('{constraint}').check('use')"
    account = "authorizer.serviceAccount(request.namespace, object.spec.serviceAccountName)"
    return f"(authorizer{question}.allowed() || {account}{question}.allowed())"


CONTAINERS = "(object.spec.containers + object.spec.?initContainers.orValue([]))"
HOST = (
    "object.spec.?hostNetwork.orValue(false) || object.spec.?hostPID.orValue(false) || "
    f"{CONTAINERS}.exists(c, c.?securityContext.?privileged.orValue(false))"
)
USERS = (
    f"{CONTAINERS}.map(c, c.?securityContext.?runAsUser.orValue(object.spec.?securityContext.?runAsUser.orValue(-1)))"
    ".filter(user, user >= 0)"
)
RULE = {
    "variables": [
        {"name": "host", "expression": HOST},
        {"name": "users", "expression": USERS},
        {"name": "privileged", "expression": usable("privileged")},
        {"name": "nonroot", "expression": usable("nonroot-v2")},
    ],
    "validations": [
        {
            # `restricted-v2`, which everybody may use, takes the users of the namespace's range alone.
            "expression": "variables.privileged || (!variables.host && (variables.users.size() == 0 || "
            "(variables.nonroot && variables.users.all(user, user > 0))))",
            "message": f'{REFUSED}: [provider "nonroot-v2": Forbidden: not usable by user or serviceaccount]',
        }
    ],
}


@pytest.fixture(scope="module")
def openshift(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, which serves OpenShift's kind and has its ClusterRoles."""
    made = [KIND, cluster_role("privileged"), cluster_role("nonroot-v2")]
    cluster.apply(*made)
    try:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{KIND['metadata']['name']}", "--timeout=30s")
        wait_until(
            lambda: "SecurityContextConstraints" in cluster.kubectl("get", "--raw", f"/apis/{GROUP}/v1"),
            "the kind is served",
            timeout=30,
        )
        yield cluster
    finally:
        for each in made:
            cluster.kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found")


@contextmanager
def policed(cluster: Cluster, user: Cluster, stack: Stack) -> Iterator[None]:
    """OpenShift's rule for the pods in the namespaces of a user's stack."""
    other = f"registry-{stack.name}-other"
    here = f"request.namespace.startsWith('registry-{stack.name}')"
    deny = {"validationActions": ["Deny"]}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any", "namespace": other},
        "spec": {"containers": [{"name": "app", "image": "busybox:1", "securityContext": {"runAsUser": 1000}}]},
    }  # fmt: skip
    with cluster.policy("ValidatingAdmissionPolicy", f"scc-{stack.name}", "/pods", RULE, deny, here):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
        try:
            wait_until(lambda: REFUSED in user.dry_run(pod).stderr, "the policy counts", timeout=60)
        finally:
            cluster.kubectl("delete", "namespace", other, timeout=60)
        yield


def bindings(cluster: Cluster, namespace: str) -> dict[str, list[str]]:
    """Names of the accounts and groups that each of OpenShift's ClusterRoles is bound to."""
    found = cluster.get("rolebindings", "-n", namespace)["items"]
    return {
        role.removeprefix("system:openshift:scc:"): [subject["name"] for subject in each["subjects"]]
        for each in found
        if (role := each["roleRef"]["name"]).startswith("system:openshift:scc:")
    }


def accounts(cluster: Cluster, namespace: str) -> dict[str, set[str]]:
    """The ServiceAccounts of the pods that run, by their name label."""
    found: dict[str, set[str]] = {}
    for pod in cluster.get("pods", "-n", namespace)["items"]:
        name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
        found.setdefault(name, set()).add(pod["spec"]["serviceAccountName"])
    return found


def test_a_user_with_the_rights_of_rbac_yaml_needs_nobody_else_on_openshift(
    openshift: Cluster, namespace: str, tmp_path: Path
) -> None:
    settings = {"auth": "basic", "pullNamespaces[0]": namespace, "attachPullSecret": "true"}
    with (
        having_only(openshift, namespace, tmp_path, RULES) as user,
        Stack(environment=user.environment, settings=settings) as stack,
        policed(openshift, user, stack),
    ):
        assert "3 of 3" in stack.up().stdout
        own = stack.outputs()["namespace"]
        assert bindings(openshift, own) == {"privileged": ["trust"], "nonroot-v2": [f"system:serviceaccounts:{own}"]}
        assert accounts(openshift, own) == {"trust": {"trust"}, "registry": {"default"}, "attach": {"attach"}}
        # With the binding gone, a pod that was just there is refused: the rule does count for what the cluster makes.
        openshift.kubectl("delete", "rolebinding", "-n", own, "use-privileged")
        openshift.kubectl("delete", "pods", "-n", own, "-l", "app.kubernetes.io/name=trust", timeout=120)
        failed = stack.up(check=False)
        assert REFUSED in failed.stdout + failed.stderr
        assert f"oc adm policy add-scc-to-user privileged -z trust -n {own}" in failed.stdout + failed.stderr
        assert "3 of 3" in stack.pulumi("up", "--yes", "--skip-preview", "--refresh").stdout
        stack.destroy()
        assert openshift.run("kubectl", "get", "namespace", own, check=False).returncode != 0


def test_a_user_who_may_not_bind_is_told_what_an_administrator_has_to_and_goes_on_after_that(
    openshift: Cluster, namespace: str, tmp_path: Path
) -> None:
    rules = [rule for rule in RULES if rule["verbs"] != ["bind"]]
    assert len(rules) == len(RULES) - 1
    with (
        having_only(openshift, namespace, tmp_path, rules) as user,
        Stack(environment=user.environment) as stack,
        policed(openshift, user, stack),
    ):
        text = fails_with(stack, "The cluster refuses the node agent's pod", "The cluster refuses the registry's pod")
        own = namespace_of(openshift, stack)
        assert bindings(openshift, own) == {}
        for constraint, account in (("privileged", "trust"), ("nonroot-v2", "default")):
            assert f"oc adm policy add-scc-to-user {constraint} -z {account} -n {own}," in text
            role = f"--clusterrole=system:openshift:scc:{constraint}"
            # This is what that command makes.
            given = (role, f"--serviceaccount={own}:{account}")
            openshift.kubectl("create", "rolebinding", f"by-an-administrator-{constraint}", "-n", own, *given)
        assert "3 of 3" in stack.up().stdout


def test_without_an_agent_nothing_on_openshift_may_be_privileged(
    openshift: Cluster, namespace: str, tmp_path: Path
) -> None:
    settings = {"nodeTrust": "external", "readyTimeout": "30s"}
    with (
        having_only(openshift, namespace, tmp_path, RULES) as user,
        Stack(environment=user.environment, settings=settings) as stack,
        policed(openshift, user, stack),
    ):
        # Nobody has told the nodes of the CA, so each proof is made, and its pull fails.
        text = fails_with(stack, *(f"{node}: NOT_TRUSTED" for node in openshift.nodes))
        assert "refuses" not in text
        own = namespace_of(openshift, stack)
        assert bindings(openshift, own) == {"nonroot-v2": [f"system:serviceaccounts:{own}"]}
        assert accounts(openshift, own) == {"trust": {"default"}, "registry": {"default"}}
