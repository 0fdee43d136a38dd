"""The running cluster, as the tests see it: through kubectl and from clients in its network."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_cluster import cluster as local_cluster
from local_cluster import network, nodes, shell

from .commands import run


def is_ready(found: Mapping[str, Any]) -> bool:
    """Whether a node or a pod, as the Kubernetes API describes it, is Ready."""
    conditions = found["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


@dataclass(kw_only=True)
class Cluster:
    """The running cluster, as a user with kubectl and as an administrator of its nodes."""

    environment: Mapping[str, str]
    """Environment in which plain `kubectl`, `pulumi`, `crane` and `skopeo` work against the cluster."""
    nodes: Sequence[str]
    """Names of the nodes that the cluster was started with."""

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in the cluster's network; see `run`."""
        return run(network.client(*map(str, command)), self.environment, **options)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """What a kubectl command prints."""
        return self.run("kubectl", *arguments, **options).stdout

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds."""
        return json.loads(self.kubectl("get", "-o", "json", *arguments))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """`kubectl apply` some objects."""
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def dry_run(self, *objects: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """What the cluster would make of new objects, as JSON. Every policy is applied, but nothing is made."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self.run("kubectl", "create", "--dry-run=server", "-o", "json", "-f", "-", text=text, check=False)

    @contextmanager
    def policy(
        self,
        kind: str,
        name: str,
        resource: str,
        spec: Mapping[str, Any],
        binding: Mapping[str, Any],
        where: str = "",
        *,
        changes: bool = False,
    ) -> Iterator[None]:
        """A policy on what is created, until the end of the context; it takes a second until a new one counts.

        Args:
            kind: `ValidatingAdmissionPolicy` or `MutatingAdmissionPolicy`.
            name: Its name.
            resource: What is created, as group/plural.
            spec: What it does.
            binding: How it is bound, besides to everything.
            where: An expression that has to hold for it to apply; empty: it always does.
            changes: Whether it is on what is changed, too.
        """
        api, (group, plural) = "admissionregistration.k8s.io/v1", resource.split("/")
        operations = ["CREATE", "UPDATE"] if changes else ["CREATE"]
        rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": [plural]}
        conditions = [{"name": "where", "expression": where}] if where else []
        what = {"matchConstraints": {"resourceRules": [rule]}, "matchConditions": conditions, "failurePolicy": "Fail"}
        bound = {"policyName": name, **binding}
        self.apply(
            {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {**what, **spec}},
            {"apiVersion": api, "kind": f"{kind}Binding", "metadata": {"name": name}, "spec": bound},
        )
        try:
            yield
        finally:
            self.kubectl("delete", f"{kind}Binding,{kind}".lower(), name)

    def ready_nodes(self) -> list[str]:
        """Names of the nodes that are Ready."""
        return [node["metadata"]["name"] for node in self.get("nodes")["items"] if is_ready(node)]


def running_cluster() -> Cluster:
    """Return the local cluster that runs, with its default nodes.

    Raises:
        ClusterError: It does not run.
    """
    local_cluster.require()
    return Cluster(environment=shell.applied(shell.environment()), nodes=nodes.DEFAULT)
