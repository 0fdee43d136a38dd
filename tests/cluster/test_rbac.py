"""The program needs no more rights than those in rbac.yaml."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support.cluster import Cluster
from .support.rights import RULES, having_only
from .support.stacks import Stack

pytestmark = pytest.mark.cluster


@pytest.fixture
def least(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Cluster]:
    """The cluster, as seen by a ServiceAccount that has exactly the ClusterRole."""
    with having_only(cluster, namespace, tmp_path, RULES) as user:
        yield user


def test_the_role_is_enough_for_up_a_change_and_destroy(cluster: Cluster, least: Cluster, namespace: str) -> None:
    assert "no" in least.run("kubectl", "auth", "can-i", "delete", "nodes", check=False).stdout
    settings = {
        "auth": "basic",
        "pullNamespaces[0]": namespace,
        "attachPullSecret": "true",
        "caNamespaces[0]": namespace,
        "advertise": "true",
    }
    with Stack(environment=least.environment, settings=settings) as stack:
        up = stack.up()
        assert "Not checked before the start" not in up.stdout + up.stderr
        stack.pulumi("config", "set", "passwordVersion", "2")
        stack.up()
        freed = least.run(sys.executable, "-m", "registry.stack.gc", "--stack", stack.name)
        assert "Pushes are allowed again" in freed.stdout
        made = stack.outputs()["namespace"]
        assert cluster.get("namespace", made)["status"]["phase"] == "Active"
        stack.destroy()
        assert cluster.run("kubectl", "get", "namespace", made, check=False).returncode != 0
