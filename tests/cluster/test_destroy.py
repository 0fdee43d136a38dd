"""`pulumi destroy` where something is in its way: it ends in bounded time, and what stops it has a name."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .support.bare_cluster import PORT as CLOSED
from .support.bare_cluster import bare_cluster, fails_with, kubeconfig
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.second_api_server import second_api_server
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

IN_MEMORY = {"storage": "memory", "storageSize": "1Gi"}
BARE_PORT = 7445
"""A port for a bare API server that no test beside these uses."""


@pytest.fixture(scope="module")
def bare_one(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A bare cluster for this module alone, in which everything that hangs may hang."""
    with bare_cluster(cluster, tmp_path_factory.mktemp("bare"), port=BARE_PORT) as made:
        yield made


def is_gone(cluster: Cluster, namespace: str) -> bool:
    """Whether a namespace does not exist."""
    return cluster.run("kubectl", "get", "namespace", namespace, check=False).returncode != 0


def failed_destroy(stack: Stack, *parts: str, seconds: float) -> str:
    """Run `destroy`, and check that it fails in time, with these words."""
    began = time.monotonic()
    done = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert time.monotonic() - began < seconds, said
    for part in parts:
        assert part in said, said
    return said


# Namespaces of applications


@pytest.mark.parametrize("how", ["gone", "terminating"])
def test_an_applications_namespace_that_is_gone_or_ends_is_in_nobodys_way(cluster: Cluster, how: str) -> None:
    namespace = f"app-{how}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=30s")
    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true", "caNamespaces[0]": namespace, **IN_MEMORY}
    held = {"metadata": {"finalizers": ["example.com/held"]}}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        stack.up()
        own = stack.outputs()["namespace"]
        if how == "terminating":
            cluster.kubectl("create", "configmap", "-n", namespace, "held")
            cluster.kubectl("patch", "configmap", "-n", namespace, "held", "-p", json.dumps(held))
        cluster.kubectl("delete", "namespace", namespace, f"--wait={str(how == 'gone').lower()}")
        try:
            if how == "terminating":
                wait_until(
                    lambda: not cluster.get("serviceaccounts,secrets", "-n", namespace)["items"],
                    "all else in the namespace is gone",
                    timeout=60,
                )
            stack.destroy()
        finally:
            if how == "terminating":
                unheld = {"metadata": {"finalizers": None}}
                cluster.kubectl("patch", "configmap", "-n", namespace, "held", "-p", json.dumps(unheld))
        wait_until(lambda: is_gone(cluster, own), "the stack's namespace is gone", timeout=60)
        wait_until(lambda: is_gone(cluster, namespace), "the application's namespace is gone", timeout=60)


# The cluster


def test_an_api_server_that_restarts_midway_is_waited_for_or_destroy_can_be_run_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    with (
        second_api_server(cluster, tmp_path) as server,
        Stack(environment=server.cluster.environment, settings=IN_MEMORY) as stack,
    ):
        stack.up()
        namespace = stack.outputs()["namespace"]
        destroys = stack.start("destroy", "--yes", "--skip-preview")
        wait_until(
            lambda: "deletionTimestamp" in cluster.get("daemonset", "-n", namespace, "trust")["metadata"],
            "the agents are being deleted",
            timeout=60,
            interval=0.05,
        )
        server.kill()
        assert not is_gone(cluster, namespace)
        server.start()
        destroys.communicate(timeout=300)
        stack.destroy()
        wait_until(lambda: is_gone(cluster, namespace), "the namespace is gone", timeout=60)


def test_a_stack_whose_cluster_is_gone_is_forgotten_by_the_command_of_the_docs(
    cluster: Cluster, tmp_path: Path
) -> None:
    closed = {**cluster.environment, "KUBECONFIG": str(kubeconfig(tmp_path / "closed", port=CLOSED + 20))}
    with Stack(environment=cluster.environment, settings=IN_MEMORY) as stack:
        stack.up()
        kept = tmp_path / "state.json"
        kept.touch(mode=0o600)
        kept.write_text(stack.state())
        stack.environment = closed
        try:
            failed_destroy(stack, "PULUMI_K8S_DELETE_UNREACHABLE", seconds=60)
            stack.environment = {**closed, "PULUMI_K8S_DELETE_UNREACHABLE": "true"}
            stack.destroy()
            assert not json.loads(stack.state())["deployment"].get("resources")
        finally:
            # For this test it was not gone for good.
            stack.environment = cluster.environment
            stack.pulumi("stack", "import", "--file", str(kept))


# What keeps a namespace from going


@contextmanager
def half_made_stack(bare: Cluster) -> Iterator[tuple[Stack, str]]:
    """A stack with a namespace, and its name, on a cluster where nothing more of it can be made."""
    settings = {"exposure": "loadBalancer", "addressTimeout": "1s", "readyTimeout": "15s", **IN_MEMORY}
    with Stack(environment=bare.environment, settings=settings) as stack:
        fails_with(stack, "got no address")
        yield stack, namespace_in(stack)
        stack.destroy()


def namespace_in(stack: Stack) -> str:
    """The name of the namespace in the state of a stack."""
    entries = json.loads(stack.state())["deployment"]["resources"]
    [own] = (entry["id"] for entry in entries if entry["type"].endswith(":Namespace"))
    return own


def stays_for(bare: Cluster, stack: Stack, namespace: str, *reasons: str) -> None:
    """Check that `destroy` ends in vain, and that the next command and the list of leftovers have the reason."""
    failed_destroy(stack, "timed out waiting", "namespace", seconds=60)
    fails_with(stack, f"The namespace {namespace} is being deleted", *reasons, command="preview")
    listed = bare.run("make", "-s", "-o", ".venv/.installed", "leftovers").stdout
    [line] = (line for line in listed.splitlines() if re.match(rf"{namespace} ", line))
    for reason in reasons:
        assert reason in line, listed


def api_service(group: str) -> Mapping[str, Any]:
    """An aggregated API that nobody serves."""
    service = {"name": "nobody", "namespace": "default"}
    numbers = {"groupPriorityMinimum": 100, "versionPriority": 100}
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {"group": group, "version": "v1", "service": service, "insecureSkipTLSVerify": True, **numbers},
    }


def test_an_aggregated_api_that_nobody_serves_is_named(bare_one: Cluster) -> None:
    with half_made_stack(bare_one) as (stack, namespace):
        bare_one.apply(api_service("gone.example.com"))
        try:
            stays_for(bare_one, stack, namespace, "gone.example.com")
        finally:
            bare_one.kubectl("delete", "apiservice", "v1.gone.example.com")


def test_somebody_elses_finalizer_in_the_namespace_is_named(bare_one: Cluster) -> None:
    with half_made_stack(bare_one) as (stack, namespace):
        bare_one.kubectl("create", "configmap", "-n", namespace, "theirs")
        held = {"metadata": {"finalizers": ["example.com/held"]}}
        bare_one.kubectl("patch", "configmap", "-n", namespace, "theirs", "-p", json.dumps(held))
        try:
            stays_for(bare_one, stack, namespace, "example.com/held in 1 resource instances", "configmaps")
        finally:
            unheld = {"metadata": {"finalizers": None}}
            bare_one.kubectl("patch", "configmap", "-n", namespace, "theirs", "-p", json.dumps(unheld))
