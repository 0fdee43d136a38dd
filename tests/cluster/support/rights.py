"""Users of the cluster who have certain rights and no others."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from local_cluster.paths import REPOSITORY

from .cluster import Cluster

RULES: Sequence[Mapping[str, Any]] = yaml.safe_load((REPOSITORY / "rbac.yaml").read_text())["rules"]
"""The rules of rbac.yaml."""


@contextmanager
def having_only(
    cluster: Cluster, namespace: str, folder: Path, rules: Sequence[Mapping[str, Any]]
) -> Iterator[Cluster]:
    """The cluster, as seen by the ServiceAccount `default` of a namespace, which has these rights everywhere.

    Args:
        cluster: The cluster, as seen by its administrator.
        namespace: The namespace of the ServiceAccount.
        folder: Where the kubeconfig is written.
        rules: The rules of a ClusterRole.
    """
    name = f"test-{secrets.token_hex(4)}"
    api = "rbac.authorization.k8s.io"
    binding = {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    cluster.apply(
        {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}, binding
    )
    token = cluster.kubectl("create", "token", "default", "-n", namespace, "--duration=1h").strip()
    config = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield Cluster(environment={**cluster.environment, "KUBECONFIG": str(kubeconfig)}, nodes=cluster.nodes)
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)
