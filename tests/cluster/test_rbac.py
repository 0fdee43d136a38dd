"""The program needs no more rights than those in rbac.yaml."""

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from local_cluster.paths import REPOSITORY

from .support.cluster import Cluster
from .support.stacks import Stack

pytestmark = pytest.mark.cluster

ROLE = yaml.safe_load((REPOSITORY / "rbac.yaml").read_text())


@pytest.fixture
def least(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Cluster]:
    """The cluster, as seen by a ServiceAccount that has exactly the ClusterRole."""
    name = f"test-{secrets.token_hex(4)}"
    role = {**ROLE, "metadata": {"name": name}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    cluster.apply(role, binding)
    token = cluster.kubectl("create", "token", "default", "-n", namespace, "--duration=1h").strip()
    config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    yield Cluster(environment={**cluster.environment, "KUBECONFIG": str(kubeconfig)}, nodes=cluster.nodes)
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)


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
