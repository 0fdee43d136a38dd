"""Bad clusters and bad settings: one clear sentence, soon, and nothing left behind.

Most of these tests use an API server of their own that has nothing in it. It is quickly made bad in every way, and
nobody else's stack notices.
"""

from pathlib import Path
from typing import Any

import pytest

from local_cluster import network

from .support.bare_cluster import PORT, fails, ingress_class, kubeconfig, nothing_is_left, storage_class
from .support.cluster import Cluster
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

BAD: dict[str, tuple[list[dict[str, Any]], dict[str, str], tuple[str, ...]]] = {
    "nothing at all": (
        [],
        {},
        (
            "private-registry:exposure is 'ingress', but the cluster has no IngressClass",
            "pulumi config set exposure loadBalancer",
            "private-registry:storage is 'volume', but the cluster has no StorageClass",
            "pulumi config set storage memory",
        ),
    ),
    "no default one": (
        [ingress_class("nginx"), storage_class("ssd")],
        {},
        (
            "private-registry:ingressClass is '', but no IngressClass is marked as the default one",
            "pulumi config set ingressClass nginx",
            "private-registry:storageClass is '', but no StorageClass is marked as the default one",
            "pulumi config set storageClass ssd",
        ),
    ),
    "two default IngressClasses": (
        [ingress_class("a", default=True), ingress_class("b", default=True), storage_class("ssd", default=True)],
        {},
        ("several IngressClasses are marked as the default one (a, b)", "pulumi config set ingressClass a"),
    ),
    "other names": (
        [ingress_class("nginx", default=True), storage_class("ssd", default=True)],
        {"ingressClass": "gce", "storageClass": "fast"},
        (
            "private-registry:ingressClass is 'gce', but there is no IngressClass of that name: the cluster has nginx",
            "private-registry:storageClass is 'fast', but there is no StorageClass of that name: the cluster has ssd",
        ),
    ),
    "no Gateway API": (
        [],
        {"exposure": "gateway", "storage": "memory"},
        (
            "private-registry:exposure is 'gateway', but the cluster has no Gateway API",
            "pulumi config set exposure loadBalancer",
        ),
    ),
    "a port of no node": (
        [],
        {"exposure": "nodePort", "storage": "memory"},
        ("private-registry:address is '', but no node tells an InternalIP", "pulumi config set address 192.0.2.10"),
    ),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case == "nothing at all" else [pytest.mark.slow]) for case in BAD]
)
def test_a_bad_cluster_is_told_before_anything_is_made(classes: Cluster, case: str) -> None:
    objects, values, parts = BAD[case]
    if objects:
        classes.apply(*objects)
    with Stack(environment=classes.environment, settings=values) as stack:
        fails(stack, *parts, command="preview")
        fails(stack, *parts)
        nothing_is_left(classes, stack)


@pytest.mark.slow
def test_of_several_default_storage_classes_kubernetes_takes_one(classes: Cluster) -> None:
    classes.apply(ingress_class("nginx", default=True), *(storage_class(name, default=True) for name in "ab"))
    with Stack(environment=classes.environment) as stack:
        stack.pulumi("preview")


@pytest.mark.slow
def test_the_program_looks_at_the_cluster_that_the_provider_uses(classes: Cluster, tmp_path: Path) -> None:
    there = kubeconfig(tmp_path / "there")
    values = {"kubernetes:kubeconfig": str(there)}
    elsewhere = {**classes.environment, "KUBECONFIG": str(kubeconfig(tmp_path / "elsewhere", port=PORT + 1))}
    with Stack(environment=elsewhere, settings=values) as stack:
        fails(stack, "the cluster has no IngressClass", command="preview")
    with Stack(environment=elsewhere, settings={**values, "kubernetes:kubeconfig": there.read_text()}) as stack:
        fails(stack, "the cluster has no IngressClass", command="preview")
    with Stack(environment=elsewhere, settings={**values, "kubernetes:context": "nobody"}) as stack:
        fails(stack, "There is no usable kubeconfig", "nobody", "kubectl get nodes", command="preview")


def test_a_cluster_that_does_not_answer_is_one_sentence(cluster: Cluster, tmp_path: Path) -> None:
    closed = {**cluster.environment, "KUBECONFIG": str(kubeconfig(tmp_path / "closed", port=PORT + 1))}
    with Stack(environment=closed) as stack:
        errors = fails(stack, f"The cluster at https://{network.CONTROL_PLANE}:{PORT + 1} cannot be reached")
        assert errors.count("error:") == 1, errors
    missing = {**cluster.environment, "KUBECONFIG": str(tmp_path / "missing")}
    with Stack(environment=missing) as stack:
        errors = fails(stack, "There is no usable kubeconfig", str(tmp_path / "missing"))
        assert errors.count("error:") == 1, errors


@pytest.mark.slow
def test_a_user_who_may_not_look_is_warned_and_goes_on(classes: Cluster, tmp_path: Path) -> None:
    classes.kubectl("create", "serviceaccount", "nobody", "-n", "default")
    token = classes.kubectl("create", "token", "nobody", "-n", "default").strip()
    limited = {**classes.environment, "KUBECONFIG": str(kubeconfig(tmp_path / "nobody", user={"token": token}))}
    with Stack(environment=limited) as stack:
        shown = stack.pulumi("preview").stdout
        assert "Not checked before the start" in shown
        assert 'cannot list resource "ingressclasses"' in shown
        assert token not in shown
    with Stack(environment=limited, settings={"exposure": "nodePort"}) as stack:
        fails(stack, "may not list nodes", "pulumi config set address", command="preview")
