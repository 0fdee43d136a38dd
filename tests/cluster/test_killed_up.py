"""An `up` that is killed can be run again, and ends in the same state."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.places import REPOSITORY
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.provider]

POINTS = {
    "namespace": "its namespace",
    "service/exposure": "the Service in front of the registry",
    "ingress/exposure": "the placeholder, whose address is awaited",
    "secret/registry-http": "the credentials",
    "configmap/private-registry": "the lookup",
    "ingress/ingress-????????": "the Ingress, whose address is awaited",
    "persistentvolumeclaim/registry": "the volume",
    "deployment/registry": "the registry, which is awaited longest but for one",
    "daemonset/trust": "the agents, which are awaited longest",
}
"""Patterns of objects, each of which is there when `up` is killed, but not yet in the state, or just so."""


def namespace_of(cluster: Cluster, stack: Stack) -> str:
    """The namespace that says it is of this stack; empty if there is none."""
    found = cluster.kubectl("get", "namespace", "-l", f"private-registry/stack={stack.name}", "-o", "name").split()
    return found[0].partition("/")[2] if found else ""


def is_written(cluster: Cluster, stack: Stack) -> bool:
    """Whether the files of the stack's state are whole: Pulumi writes them in place, and a kill may leave one empty."""
    folder = Path(cluster.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    try:
        for name in (f"{stack.name}.json", f"{stack.name}.json.attrs"):
            json.loads((folder / ".pulumi/stacks/private-registry" / name).read_text())
    except ValueError:
        return False
    return True


def kill(process: subprocess.Popen[bytes], may: Callable[[], bool]) -> None:
    """Kill a process and its children at a moment in which that may be done."""

    def stopped() -> bool:
        os.killpg(process.pid, signal.SIGSTOP)
        if may():
            return True
        os.killpg(process.pid, signal.SIGCONT)
        return False

    try:
        wait_until(stopped, "the state is written", timeout=10, interval=0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def kill_at(cluster: Cluster, stack: Stack, point: str) -> None:
    """Run `pulumi up`, and kill it and all its processes when an object is there."""
    command = ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", stack.name]

    def is_there() -> bool:
        namespace = namespace_of(cluster, stack)
        if point == "namespace" or not namespace:
            return bool(namespace)
        kind, _, name = point.partition("/")
        found = cluster.run("kubectl", "get", kind, "-n", namespace, "-o", "name", check=False).stdout.split()
        return any(fnmatch(each.partition("/")[2], name) for each in found)

    with subprocess.Popen(
        command,
        env=dict(cluster.environment),
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_until(is_there, f"{point} is there", timeout=60, interval=0.02)
            assert process.poll() is None, "`up` has ended before it was killed"
        finally:
            kill(process, lambda: is_written(cluster, stack))


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
        outputs = stack.outputs()
        assert outputs["namespace"] == began_in
        assert outputs["registryUrl"]
        # Nothing of the program is missing in the state or in the cluster, and nothing else is there.
        stack.pulumi("preview", "--expect-no-changes", "--refresh")
        stack.destroy()
        left = cluster.kubectl("get", "secret,configmap", "-n", namespace, "-o", "name").split()
        assert [name for name in left if "registry" in name] == []
        assert cluster.get("serviceaccount", "-n", namespace, "default").get("imagePullSecrets") == accounts
        assert not namespace_of(cluster, stack)
