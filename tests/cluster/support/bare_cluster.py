"""A Kubernetes API with nothing in it, which a test makes bad in one way, and how `pulumi up` has to fail there."""

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from local_cluster import control_plane, host_machine, network
from local_cluster.paths import CLUSTER, KUBECONFIG

from .cluster import Cluster
from .commands import wait_until
from .stacks import Stack

SECONDS = 15.0 * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
"""How long an error may take that needs no wait: the time of Pulumi itself on two busy processors, for each of the
tests that run side by side."""
PORT = 7443
"""Port of the bare API server, which has the address of the cluster's own."""
INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
STORAGE_CLASS = "storageclass.kubernetes.io/is-default-class"


def ingress_class(name: str, *, default: bool = False) -> dict[str, Any]:
    """An IngressClass that no controller serves."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name, "annotations": {INGRESS_CLASS: str(default).lower()}},
        "spec": {"controller": "example.com/nobody"},
    }


def storage_class(name: str, *, default: bool = False) -> dict[str, Any]:
    """A StorageClass that no provisioner serves."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {STORAGE_CLASS: str(default).lower()}},
        "provisioner": "example.com/nobody",
    }


def kubeconfig(path: Path, user: Mapping[str, Any] | None = None, port: int = PORT, source: Path = KUBECONFIG) -> Path:
    """A kubeconfig for the API server at `port`, made from one of the local cluster's; `user` replaces its user."""
    content = yaml.safe_load(source.read_text())
    content["clusters"][0]["cluster"]["server"] = f"https://{network.CONTROL_PLANE}:{port}"
    if user is not None:
        content["users"][0]["user"] = user
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))
    return path


@contextmanager
def bare_cluster(
    cluster: Cluster, folder: Path, admission: Mapping[str, Any] | None = None, *, port: int = PORT
) -> Iterator[Cluster]:
    """A Kubernetes API with its controllers and nothing else: no node, no class, no load balancer.

    `admission` is the API server's AdmissionConfiguration, for one that is not the default. Its plug-ins are on.
    """
    admin = kubeconfig(folder / "admin", port=port)
    commands = control_plane.commands(host_machine.etcd())
    own = {
        # A part of etcd that nobody else looks at.
        "kube-apiserver": [f"--secure-port={port}", f"--etcd-prefix=/bare-{secrets.token_hex(4)}"],
        "kube-controller-manager": ["--secure-port=0", f"--kubeconfig={folder / 'manager'}"],
    }
    if admission is not None:
        (folder / "admission.yaml").write_text(yaml.safe_dump(dict(admission)))
        plugins = ",".join(plugin["name"] for plugin in admission["plugins"])
        own["kube-apiserver"].append(f"--admission-control-config-file={folder / 'admission.yaml'}")
        own["kube-apiserver"].append(f"--enable-admission-plugins={plugins}")
    kubeconfig(folder / "manager", port=port, source=CLUSTER / "controller-manager.kubeconfig")
    made = Cluster(environment={**cluster.environment, "KUBECONFIG": str(admin)}, nodes=[])
    with ExitStack() as stack:
        for name, options in own.items():
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            command = network.inside(*commands[name], *options)
            process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
            stack.callback(process.terminate)
            if name == "kube-apiserver":
                wait_until(
                    lambda: made.run("kubectl", "get", "--raw=/readyz", check=False).returncode == 0,
                    f"the bare API server is ready; see {log.name}",
                    timeout=60,
                )
        made.kubectl("wait", "--for=create", "serviceaccount/default", "-n", "default", "--timeout=30s")
        yield made


def fails(stack: Stack, *parts: str, seconds: float = SECONDS, command: str = "up") -> str:
    """Run `pulumi up` or `preview`, and check that it fails in time, with these errors and no traceback."""
    began = time.monotonic()
    errors = fails_with(stack, *parts, command=command)
    took = time.monotonic() - began
    assert took < seconds, f"{took:.1f} s\n{errors}"
    return errors


def fails_with(stack: Stack, *parts: str, command: str = "up") -> str:
    """Run `pulumi up` or `preview`, and check that it fails with these errors and no traceback, in whatever time."""
    done = stack.pulumi(command, *(["--yes", "--skip-preview"] if command == "up" else []), check=False)
    text = done.stdout + done.stderr
    assert done.returncode != 0, text
    errors = re.search(r"Diagnostics:(.*?)(?:\nResources:|\Z)", text, re.DOTALL)
    assert errors, text
    for part in parts:
        assert part in errors[1], text
    assert "Traceback" not in text, text
    return errors[1]


def nothing_is_left(cluster: Cluster, stack: Stack) -> None:
    """Check that neither the cluster nor the stack's state has anything of it, but the stack itself."""
    assert not [name for name in cluster.kubectl("get", "namespaces", "-o", "name").split() if stack.name in name]
    resources = json.loads(stack.state())["deployment"].get("resources", [])
    # The program asks the engine for its own state before it asks the cluster.
    assert {entry["type"] for entry in resources} <= {"pulumi:pulumi:Stack", "pulumi:providers:pulumi"}
