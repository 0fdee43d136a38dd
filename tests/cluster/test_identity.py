"""A stack is its namespace on one cluster: it takes no name from others, and no command leaves the cluster."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from registry.hostname import named_after, registry_label

from .support.bare_cluster import SECONDS, fails
from .support.cluster import Cluster
from .support.commands import run
from .support.kills import running_up
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.provider]

IN_MEMORY = {"storage": "memory", "storageSize": "1Gi"}


def ingress(namespace: str, name: str, host: str) -> dict[str, object]:
    """Somebody's Ingress for a host."""
    service = {"name": "somebody", "port": {"number": 80}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"rules": [{"host": host, "http": {"paths": [path]}}]},
    }


@pytest.mark.slow
def test_a_host_that_a_strangers_ingress_serves_is_refused_before_the_ingress_is_made(
    cluster: Cluster, namespace: str
) -> None:
    host = f"{namespace}.10-99-0-200.nip.io"
    cluster.apply(ingress(namespace, "theirs", host))
    with Stack(environment=cluster.environment, settings={"host": host, **IN_MEMORY}) as stack:
        fails(stack, f"The host {host} is served by the Ingress {namespace}/theirs already", "pulumi config set host")
        found = cluster.get("ingress", "--all-namespaces")["items"]
        assert [entry["metadata"]["namespace"] for entry in found if host in json.dumps(entry["spec"])] == [namespace]
        cluster.kubectl("delete", "ingress", "-n", namespace, "theirs")
        stack.up()


@pytest.mark.slow
def test_behind_a_load_balancer_that_has_only_a_name_the_second_stack_is_refused_with_the_settings_that_help(
    cluster: Cluster,
) -> None:
    name = "lb.10-99-0-200.nip.io"
    settings = {"address": name, **IN_MEMORY}
    with Stack(environment=cluster.environment, settings=settings) as one:
        one.up()
        outputs = one.outputs()
        assert outputs["registryUrl"] == name
        with Stack(environment=cluster.environment, settings=settings) as two:
            theirs = f"{outputs['namespace']}/{named_after('ingress', 'traefik', name)}"
            server = f"The host {name} is served by the Ingress {theirs} already"
            fails(two, server, "pulumi config set host", "pulumi config set exposure loadBalancer")
        one.pulumi("preview", "--expect-no-changes")


def test_no_command_reaches_another_cluster_whose_context_has_the_same_name(
    cluster: Cluster, bare: Cluster, tmp_path: Path
) -> None:
    with Stack(environment=cluster.environment, settings=IN_MEMORY) as stack:
        stack.up()
        outputs = stack.outputs()
        namespace = outputs["namespace"]
        assert outputs["clusterId"] == cluster.get("namespace", "kube-system")["metadata"]["uid"]
        there = bare.get("namespace", "kube-system")["metadata"]["uid"]
        bare.kubectl("create", "namespace", namespace)
        bare.kubectl("create", "configmap", "-n", namespace, "theirs", "--from-literal=a=b")
        stack.environment = bare.environment
        try:
            for command in ("preview", "up"):
                fails(stack, "is on another cluster", outputs["clusterId"], there, "pulumi stack rm", command=command)
            began = time.monotonic()
            done = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
            assert done.returncode != 0, done.stdout
            assert f"only-on-cluster-{outputs['clusterId'][:8]}" in done.stdout
            assert time.monotonic() - began < SECONDS
            assert bare.get("configmap", "-n", namespace, "theirs")["data"] == {"a": "b"}
        finally:
            stack.environment = cluster.environment
        # A kubeconfig at another path, as each CI job has its own, is the same cluster.
        moved = tmp_path / "kubeconfig"
        shutil.copy2(cluster.environment["KUBECONFIG"], moved)
        stack.environment = {**cluster.environment, "KUBECONFIG": str(moved)}
        stack.pulumi("preview", "--expect-no-changes")
        stack.destroy()
        assert cluster.run("kubectl", "get", "namespace", namespace, check=False).returncode != 0


@pytest.mark.slow
def test_a_stack_whose_cluster_is_gone_starts_anew_by_the_command_in_the_message(
    cluster: Cluster, bare: Cluster
) -> None:
    with Stack(
        environment=bare.environment, settings={"exposure": "loadBalancer", "addressTimeout": "1s", **IN_MEMORY}
    ) as stack:
        fails(stack, "got no address")
        stack.environment = cluster.environment
        said = fails(stack, "is on another cluster", command="preview")
        commands = re.search(r"forget it: (pulumi stack rm .*) && (pulumi stack init \S+)", said)
        assert commands, said
        for command in commands.groups():
            run([*command.split(), *(["--yes"] if " rm " in command else ["--no-select"])], cluster.environment)
        stack.pulumi("config", "set", "exposure", "ingress")
        stack.up()


def test_a_namespace_that_a_killed_up_left_behind_is_named_with_the_command_that_removes_it(cluster: Cluster) -> None:
    with Stack(environment=cluster.environment, settings=IN_MEMORY) as stack:
        stack.up()
        namespace = stack.outputs()["namespace"]
        left = f"{namespace}-left"
        metadata = cluster.get("namespace", namespace)["metadata"]
        metadata = {"name": left, "labels": metadata["labels"], "annotations": metadata["annotations"]}
        metadata["labels"].pop("kubernetes.io/metadata.name")
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        try:
            assert f"kubectl delete namespace {left}" in stack.pulumi("preview").stdout
            listed = run(["make", "-s", "-o", ".venv/.installed", "leftovers"], cluster.environment).stdout
            for name in (left, namespace):
                assert re.search(rf"^{name} +private-registry +{stack.name} ", listed, re.MULTILINE), listed
        finally:
            cluster.kubectl("delete", "namespace", left)


def test_of_two_stacks_that_start_at_once_with_one_namespace_the_later_one_is_refused_and_takes_nothing(
    cluster: Cluster, namespace: str
) -> None:
    own = f"{namespace}-own"
    settings = {"namespace": own, **IN_MEMORY}
    with (
        Stack(environment=cluster.environment, settings=settings) as one,
        Stack(environment=cluster.environment, settings=settings) as two,
        running_up(two, subprocess.PIPE) as process,
    ):
        assert process.stdout
        # It has asked for the namespace and found none, and has not made it yet.
        assert any(b"identity-seed creating" in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGSTOP)
        assert cluster.run("kubectl", "get", "namespace", own, check=False).returncode != 0, "it was stopped too late"
        one.up()
        os.killpg(process.pid, signal.SIGCONT)
        said = process.stdout.read().decode()
        assert process.wait(timeout=60) != 0, said
        assert f"The namespace {own} is not this stack's: somebody else has made it at the same moment" in said, said
        fails(two, f"The namespace {own} exists already, and is not this stack's")
        two.destroy()
        one.pulumi("preview", "--expect-no-changes", "--refresh")


def test_a_namespace_and_objects_elsewhere_that_somebody_else_has_made_are_refused(
    cluster: Cluster, namespace: str
) -> None:
    with Stack(environment=cluster.environment, settings={"namespace": namespace, **IN_MEMORY}) as stack:
        fails(stack, f"The namespace {namespace} exists already, and is not this stack's", command="preview")
        fails(stack, f"The namespace {namespace} exists already, and is not this stack's")
    own = f"{namespace}-own"
    settings = {"namespace": own, "pullNamespaces[0]": namespace, **IN_MEMORY}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        secret = registry_label(own)
        cluster.kubectl("create", "secret", "generic", "-n", namespace, secret, "--from-literal=a=b")
        fails(stack, f"The secret {namespace}/{secret} exists already, and is not this stack's")
        assert cluster.get("secret", "-n", namespace, secret)["data"] == {"a": "Yg=="}
