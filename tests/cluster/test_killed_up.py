"""An `up` that is killed can be run again, and ends in the same state."""

import json
import os
import re
import signal
import subprocess
from fnmatch import fnmatch

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.kills import kill, running_up
from .support.stacks import Stack, namespace_of, namespaces_of

pytestmark = [pytest.mark.cluster, pytest.mark.provider]

POINTS = {
    "namespace": "its namespace",
    "service/registry": "the Service in front of the registry",
    "ingress/ingress-placeholder-*": "the placeholder, whose address is awaited",
    "secret/registry-http": "the credentials",
    "configmap/private-registry": "the lookup",
    "ingress/ingress-????????": "the Ingress, whose address is awaited",
    "persistentvolumeclaim/registry": "the volume",
    "deployment/registry": "the registry, which is awaited longest but for one",
    "daemonset/trust": "the agents, which are awaited longest",
}
"""Patterns of objects, each of which is there when `up` is killed, but not yet in the state, or just so."""


def wait_for(cluster: Cluster, stack: Stack, point: str) -> None:
    """Wait until an object of the stack is there."""

    def is_there() -> bool:
        namespaces = namespaces_of(cluster, stack)
        if point == "namespace" or not namespaces:
            return bool(namespaces)
        kind, _, name = point.partition("/")
        found = cluster.run("kubectl", "get", kind, "-n", namespaces[0], "-o", "name", check=False).stdout.split()
        return any(fnmatch(each.partition("/")[2], name) for each in found)

    wait_until(is_there, f"{point} is there", timeout=60, interval=0.02)


def kill_at(cluster: Cluster, stack: Stack, point: str) -> None:
    """Run `pulumi up`, and kill it and all its processes when an object is there."""
    with running_up(stack) as process:
        wait_for(cluster, stack, point)
        assert process.poll() is None, "`up` has ended before it was killed"
        kill(process, stack)


def kill_at_the_next(stack: Stack, seen: set[str]) -> str:
    """Run `pulumi up`, and kill it when it says that it makes or has made a resource that it was not killed at before.

    Returns:
        The resource's type and name; empty if there was none, so that `up` has ended well.
    """
    with running_up(stack, subprocess.PIPE) as process:
        assert process.stdout
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line.decode())
            begun = re.match(r" \+ +(\S+ \S+) creat(?:ing|ed)", lines[-1])
            if begun and begun[1] not in seen and not begun[1].startswith("pulumi:pulumi:Stack "):
                kill(process, stack)
                return begun[1]
        assert process.wait(timeout=60) == 0, "".join(lines)
        return ""


def ends_in_the_same_state(stack: Stack) -> None:
    """Check that nothing of the program is missing in the state or in the cluster, and nothing else is there."""
    assert stack.outputs()["registryUrl"]
    stack.pulumi("preview", "--expect-no-changes", "--refresh")


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if point == "daemonset/trust" else [pytest.mark.slow]) for point in POINTS]
)
def test_an_up_that_is_killed_is_run_again_and_ends_in_the_same_state(
    cluster: Cluster, namespace: str, point: str
) -> None:
    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true", "caNamespaces[0]": namespace}
    accounts = cluster.get("serviceaccount", "-n", namespace, "default").get("imagePullSecrets")
    with Stack(environment=cluster.environment, settings=settings) as stack:
        kill_at(cluster, stack, point)
        began_in = namespace_of(cluster, stack)
        stack.pulumi("cancel", "--yes")
        stack.up()
        assert stack.outputs()["namespace"] == began_in
        ends_in_the_same_state(stack)
        stack.destroy()
        left = cluster.kubectl("get", "secret,configmap", "-n", namespace, "-o", "name").split()
        assert [name for name in left if "registry" in name] == []
        assert cluster.get("serviceaccount", "-n", namespace, "default").get("imagePullSecrets") == accounts
        assert not namespaces_of(cluster, stack)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_up_that_is_killed_at_each_of_its_resources_one_after_the_other_ends_in_the_same_state(
    cluster: Cluster, namespace: str
) -> None:
    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true", "caNamespaces[0]": namespace}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        seen: set[str] = set()
        while killed := kill_at_the_next(stack, seen):
            seen.add(killed)
            stack.pulumi("cancel", "--yes")
        # Several resources are made at the same time, so that some need no kill of their own. These are waited for.
        awaited = {"namespace", "ingress-placeholder", "registry-deployment", "trust-daemonset"}
        assert awaited <= {each.split()[1] for each in seen}
        ends_in_the_same_state(stack)
        assert namespace_of(cluster, stack) == stack.outputs()["namespace"]
        stack.destroy()
        assert not namespaces_of(cluster, stack)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("point", ["ingress/ingress-placeholder-*", "deployment/registry", "daemonset/trust"])
def test_an_up_that_is_interrupted_is_run_again_and_ends_in_the_same_state(
    cluster: Cluster, point: str, times: int
) -> None:
    with Stack(environment=cluster.environment) as stack:
        with running_up(stack, subprocess.PIPE) as process:
            wait_for(cluster, stack, point)
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout
            for line in process.stdout:
                if times == 2 and b"received; cancelling" in line:
                    os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) != 0
        began_in = namespace_of(cluster, stack)
        if times == 2:
            stack.pulumi("cancel", "--yes", check=False)
        stack.up()
        assert stack.outputs()["namespace"] == began_in
        ends_in_the_same_state(stack)


@pytest.mark.slow
def test_a_destroy_while_up_runs_meets_the_lock_and_the_recipe_of_the_docs_removes_everything(
    cluster: Cluster,
) -> None:
    with Stack(environment=cluster.environment) as stack:
        with running_up(stack) as process:
            wait_for(cluster, stack, "deployment/registry")
            refused = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
            assert process.poll() is None, "`up` has ended before it was met"
            assert refused.returncode != 0
            assert "the stack is currently locked by 1 lock(s)" in refused.stdout + refused.stderr
            assert namespace_of(cluster, stack)
            # A job that is cancelled is interrupted, and then killed.
            kill(process, stack)
        stack.pulumi("cancel", "--yes")
        stack.destroy()
        wait_until(lambda: not namespaces_of(cluster, stack), "the namespace is gone", timeout=60)
        assert not json.loads(stack.state())["deployment"].get("resources")
