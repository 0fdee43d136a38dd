"""Bad clusters and bad settings: one clear sentence, soon, and nothing left behind.

Most of them are an API server of their own with nothing in it: it is quickly made bad in every way, and nobody else's
stack notices.
"""

import json
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from .harness import Cluster, Stack, wait_until
from .local import control_plane, machine, network
from .local.paths import CLUSTER, KUBECONFIG

pytestmark = pytest.mark.cluster

SECONDS = 15.0
"""How long an error may take that needs no wait: the time of Pulumi itself on two busy processors."""
PORT = 7443
INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"
STORAGE_CLASS = "storageclass.kubernetes.io/is-default-class"


def ingress_class(name: str, *, default: bool = False) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name, "annotations": {INGRESS_CLASS: str(default).lower()}},
        "spec": {"controller": "example.com/nobody"},
    }


def storage_class(name: str, *, default: bool = False) -> dict[str, Any]:
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


@pytest.fixture(scope="module")
def bare(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with its controllers and nothing else: no node, no class, no load balancer."""
    folder = tmp_path_factory.mktemp("bare")
    admin = kubeconfig(folder / "admin")
    commands = control_plane.commands(machine.etcd())
    own = {
        # A part of etcd that nobody else looks at.
        "kube-apiserver": [f"--secure-port={PORT}", f"--etcd-prefix=/bare-{secrets.token_hex(4)}"],
        "kube-controller-manager": ["--secure-port=0", f"--kubeconfig={folder / 'manager'}"],
    }
    kubeconfig(folder / "manager", source=CLUSTER / "controller-manager.kubeconfig")
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


@pytest.fixture
def classes(bare: Cluster) -> Iterator[Cluster]:
    """The bare cluster; classes that a test makes are gone after it."""
    yield bare
    bare.kubectl("delete", "ingressclass,storageclass", "--all")


def fails(stack: Stack, *parts: str, seconds: float = SECONDS, command: str = "up") -> str:
    """Run `pulumi up` or `preview`, and check that it fails in time, with these errors and no traceback."""
    began = time.monotonic()
    done = stack.pulumi(command, *(["--yes", "--skip-preview"] if command == "up" else []), check=False)
    took = time.monotonic() - began
    text = done.stdout + done.stderr
    assert done.returncode != 0, text
    errors = re.search(r"Diagnostics:(.*?)(?:\nResources:|\Z)", text, re.DOTALL)
    assert errors, text
    for part in parts:
        assert part in errors[1], text
    assert "Traceback" not in text, text
    assert took < seconds, f"{took:.1f} s\n{text}"
    return errors[1]


def nothing_is_left(cluster: Cluster, stack: Stack) -> None:
    """Check that neither the cluster nor the stack's state has anything of it, but the stack itself."""
    assert not [name for name in cluster.kubectl("get", "namespaces", "-o", "name").split() if stack.name in name]
    resources = json.loads(stack.state())["deployment"].get("resources", [])
    assert {entry["type"] for entry in resources} <= {"pulumi:pulumi:Stack"}


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


def refusing(cluster: Cluster, name: str, resource: str, expression: str) -> AbstractContextManager[None]:
    """A policy of the cluster that refuses what does not fulfil the expression."""
    spec = {"validations": [{"expression": expression, "message": "not in this company"}]}
    return cluster.policy("ValidatingAdmissionPolicy", name, resource, spec, {"validationActions": ["Deny"]})


NOT_PRIVILEGED = "!object.spec.containers.exists(c, has(c.securityContext) && c.securityContext.privileged == true)"
LABEL = "object.metadata.?labels['pod-security.kubernetes.io/enforce'].orValue('') != 'privileged'"


def refuses(cluster: Cluster, *objects: Mapping[str, Any]) -> bool:
    """Whether the cluster refuses these objects by the policy: it takes a second until a new one counts."""
    return "not in this company" in cluster.dry_run(*objects).stderr


@pytest.mark.slow
def test_a_policy_against_the_namespace_is_told_before_anything_is_made(classes: Cluster) -> None:
    classes.apply(ingress_class("nginx", default=True), storage_class("ssd", default=True))
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    probe = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "probe", "labels": labels}}
    with refusing(classes, "no-privileged-namespaces", "/namespaces", LABEL):
        wait_until(lambda: refuses(classes, probe), "the policy counts", timeout=30)
        with Stack(environment=classes.environment) as stack:
            fails(stack, "The cluster refuses the namespace", "not in this company", command="preview")
            fails(stack, "The cluster refuses the namespace", "not in this company")
            nothing_is_left(classes, stack)


@pytest.mark.slow
def test_a_policy_against_privileged_pods_is_told_before_anything_is_in_the_namespace(classes: Cluster) -> None:
    classes.apply(ingress_class("nginx", default=True), storage_class("ssd", default=True))
    container = {"name": "probe", "image": "probe", "securityContext": {"privileged": True}}
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"containers": [container]},
    }
    with refusing(classes, "no-privileged-pods", "/pods", NOT_PRIVILEGED):
        wait_until(lambda: refuses(classes, probe), "the policy counts", timeout=30)
        with Stack(environment=classes.environment) as stack:
            fails(stack, "The cluster refuses privileged pods in the namespace", "not in this company")
            (namespace,) = [n for n in classes.kubectl("get", "ns", "-o", "name").split() if stack.name in n]
            kinds = "deployments,daemonsets,services,ingresses,secrets,persistentvolumeclaims"
            name = namespace.removeprefix("namespace/")
            assert classes.kubectl("get", kinds, "-n", name, "-o", "name") == ""
            stack.destroy()
            nothing_is_left(classes, stack)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"exposure": "loadBalancer"}, "nothing in this cluster gives addresses to Services of type LoadBalancer"),
        ({"exposure": "ingress"}, "no controller serves the IngressClass"),
    ],
    ids=["loadBalancer", "ingress"],
)
def test_an_address_that_does_not_come_is_waited_for_a_bounded_time(
    classes: Cluster, values: dict[str, str], reason: str
) -> None:
    classes.apply(ingress_class("nginx", default=True))
    bounds = {"storage": "memory", "addressTimeout": "3s", "readyTimeout": "15s"}
    with Stack(environment=classes.environment, settings={**values, **bounds}) as stack:
        fails(
            stack,
            "no address within 3s (the setting addressTimeout)",
            reason,
            "pulumi config set exposure nodePort",
            "pulumi config set address",
            seconds=SECONDS + 15,
        )
        stack.destroy()
        nothing_is_left(classes, stack)


@pytest.mark.slow
def test_an_ingress_controller_without_a_load_balancer_is_named(classes: Cluster) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "ingress-nginx", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
    }
    classes.apply(ingress_class("nginx", default=True), service)
    values = {"storage": "memory", "addressTimeout": "3s", "readyTimeout": "15s"}
    try:
        with Stack(environment=classes.environment, settings=values) as stack:
            fails(stack, "its Service may be default/ingress-nginx, which has none", seconds=SECONDS + 15)
    finally:
        classes.kubectl("delete", "service", "ingress-nginx", "-n", "default")


@contextmanager
def publishing(cluster: Cluster, points: Sequence[Mapping[str, str]]) -> Iterator[None]:
    """Publish an address for each Ingress, the first one for the placeholder, as an Ingress controller does."""
    stop = threading.Event()
    left = list(points)

    def publish() -> None:
        while left and not stop.wait(0.2):
            for ingress in cluster.get("ingresses", "--all-namespaces")["items"]:
                if left and not ingress["status"].get("loadBalancer"):
                    status = {"status": {"loadBalancer": {"ingress": [left.pop(0)]}}}
                    path = ("ingress", ingress["metadata"]["name"], "-n", ingress["metadata"]["namespace"])
                    cluster.kubectl("patch", *path, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


ADDRESSES: dict[str, tuple[list[dict[str, str]], tuple[str, ...]]] = {
    "localhost": (
        [{"hostname": "localhost"}],
        ("publishes the address 'localhost', under which every machine reaches itself", "pulumi config set address"),
    ),
    "an address of its own for each Ingress": (
        [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}],
        ("got the address 192.0.2.2, but the placeholder got 192.0.2.1", "exposure loadBalancer", "ingressClass"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_that_cannot_be_right_is_told(classes: Cluster, case: str) -> None:
    points, parts = ADDRESSES[case]
    classes.apply(ingress_class("nginx", default=True))
    values = {"storage": "memory", "readyTimeout": "15s"}
    with publishing(classes, points), Stack(environment=classes.environment, settings=values) as stack:
        fails(stack, *parts, seconds=SECONDS + 15)
        stack.destroy()
        nothing_is_left(classes, stack)
