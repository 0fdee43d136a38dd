"""Rules of controllers that are not there: each is reproduced by what it does to the objects of the program."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from local_cluster import network, programs

from .support import unique_hosts
from .support.bare_cluster import ingress_class
from .support.cluster import Cluster
from .support.commands import run, wait_until
from .support.controllers import GATEWAY_API
from .support.meanwhile import again_and_again
from .support.stacks import Stack, namespace_of, served_ingress

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

IN_MEMORY = {"storage": "memory", "storageSize": "1Gi"}
PORT = "7444"
CLASS = "networking.k8s.io/v1"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the webhook, and its key."""
    paths = folder / "webhook.crt", folder / "webhook.key"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=webhook"]
    name = f"subjectAltName=IP:{network.CONTROL_PLANE}"
    command = ["openssl", "req", "-x509", *options, "-addext", name, "-out", paths[0], "-keyout", paths[1]]
    run(command, {"PATH": "/usr/bin:/bin"})
    return paths


@contextmanager
def hosts_are_unique(cluster: Cluster, folder: Path, *beginnings: str) -> Iterator[None]:
    """A webhook refuses an Ingress whose host and path another one has, in namespaces that begin so."""
    crt, key = certificate(folder)
    ours = " || ".join(f"request.namespace.startsWith('{beginning}')" for beginning in beginnings)
    rule = {"apiGroups": ["networking.k8s.io"], "apiVersions": ["v1"], "resources": ["ingresses"]}
    webhook = {
        "name": "unique-hosts.example.test",
        "clientConfig": {
            "url": f"https://{network.CONTROL_PLANE}:{PORT}/",
            "caBundle": base64.b64encode(crt.read_bytes()).decode(),
        },
        "rules": [{**rule, "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"}],
        "matchConditions": [{"name": "ours", "expression": ours}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    metadata = {"name": "unique-hosts"}
    command = network.client(sys.executable, unique_hosts.__file__, PORT, str(crt), str(key))
    with subprocess.Popen(command, env=dict(cluster.environment)) as process:
        cluster.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": metadata,
                "webhooks": [webhook],
            }
        )
        try:
            yield
        finally:
            cluster.kubectl("delete", "validatingwebhookconfiguration", "unique-hosts")
            process.terminate()


def an_ingress(namespace: str, name: str, host: str) -> dict[str, Any]:
    backend = {"service": {"name": "any", "port": {"number": 80}}}
    rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": CLASS, "kind": "Ingress", "metadata": metadata, "spec": {"rules": [rule]}}


def test_two_stacks_at_once_ask_for_no_host_that_the_other_one_has(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    one, two = (Stack(environment=cluster.environment, settings=IN_MEMORY) for _ in range(2))
    beginnings = [f"registry-{one.name}", f"registry-{two.name}", namespace]
    with hosts_are_unique(cluster, tmp_path, *beginnings):
        cluster.apply(an_ingress(namespace, "first", "shared.example.test"))
        second = an_ingress(namespace, "second", "shared.example.test")
        words = f'host "shared.example.test" and path "/" is already defined in ingress {namespace}/first'
        wait_until(lambda: words in cluster.dry_run(second).stderr, "the webhook counts", timeout=30)
        with ExitStack() as made, ThreadPoolExecutor(2) as pool:
            for stack in (one, two):
                made.enter_context(stack)
            for done in pool.map(Stack.up, (one, two)):
                assert "3 of 3" in done.stdout
            hosts = [stack.outputs()["registryUrl"] for stack in (one, two)]
            assert len(set(hosts)) == 2
            for stack in (one, two):
                stack.pulumi("preview", "--expect-no-changes")


@contextmanager
def controller(cluster: Cluster, plural: str, status: Callable[[Mapping[str, Any]], object]) -> Iterator[None]:
    """Give each object of a kind the status that a controller would give it; None: none yet."""

    def work() -> None:
        for found in cluster.get(plural, "--all-namespaces")["items"]:
            given = status(found)
            if given is not None and found.get("status") != given:
                path = (plural, found["metadata"]["name"], "-n", found["metadata"]["namespace"])
                patch = json.dumps({"status": given})
                cluster.kubectl("patch", *path, "--subresource=status", "--type=merge", "-p", patch, check=False)

    with again_and_again(work, seconds=0.3):
        yield


def served_host(cluster: Cluster, stack: Stack) -> str:
    """The host of the registry's Ingress."""
    return served_ingress(cluster, namespace_of(cluster, stack))["rules"][0]["host"]


@pytest.mark.parametrize(
    ("point", "ending"),
    [
        ({"hostname": "lb.example.test"}, "lb.example.test"),
        ({"ip": "2001:db8::7"}, ".2001-0db8-0000-0000-0000-0000-0000-0007.nip.io"),
        ({"ip": "192.0.2.7"}, ".192-0-2-7.nip.io"),
    ],
    ids=["host name", "IPv6", "late"],
)
def test_what_an_ingress_controller_publishes_becomes_the_host_also_if_it_comes_late(
    classes: Cluster, point: dict[str, str], ending: str, request: pytest.FixtureRequest
) -> None:
    classes.apply(ingress_class("other", default=True))
    late = 40 if "late" in request.node.callspec.id else 0  # looks; each takes a third of a second or more
    looks = 0

    def status(_: Mapping[str, Any]) -> object:
        nonlocal looks
        looks += 1
        return {"loadBalancer": {"ingress": [point]}} if looks > late else None

    # A name that nobody knows would be waited for as long as an address.
    bounds = {"storage": "memory", "addressTimeout": "60s" if late else "15s", "readyTimeout": "10s"}
    with controller(classes, "ingresses", status), Stack(environment=classes.environment, settings=bounds) as stack:
        failed = stack.up(check=False)  # there is no node on which its pod could run
        assert "no address within" not in failed.stdout + failed.stderr
        assert "registry-deployment" in failed.stdout + failed.stderr
        assert served_host(classes, stack).endswith(ending)
    assert looks > late


@pytest.mark.parametrize("published", [[], [{"hostname": "localhost"}], [{"ip": "127.0.0.1"}]], ids=str)
def test_where_the_address_is_set_an_ingress_controller_need_not_publish_one(
    classes: Cluster, published: list[dict[str, str]]
) -> None:
    classes.apply(ingress_class("other", default=True))
    bounds = {"storage": "memory", "addressTimeout": "10s", "readyTimeout": "10s"}
    settings = {"address": "10.0.0.7", **bounds}

    def status(_: Mapping[str, Any]) -> object:
        return {"loadBalancer": {"ingress": published}} if published else None

    with (
        controller(classes, "ingresses", status),
        Stack(environment=classes.environment, settings=settings) as stack,
    ):
        failed = stack.up(check=False)  # there is no node on which its pod could run
        assert "no address within" not in failed.stdout + failed.stderr
        assert "registry-deployment" in failed.stdout + failed.stderr
        assert served_host(classes, stack).endswith(".10-0-0-7.nip.io")
        data = classes.get("configmap", "registry-config", "-n", namespace_of(classes, stack))["data"]
        assert "location /v2/ {\n            auth_basic" in data["nginx.conf"], "other addresses may be public"


def test_two_stacks_get_addresses_from_a_controller_that_passes_over_a_host_that_is_served_already(
    classes: Cluster,
) -> None:
    classes.apply(ingress_class("other", default=True))

    def hosts(ingress: Mapping[str, Any]) -> set[str]:
        return {rule["host"] for rule in ingress["spec"]["rules"]}

    def status(found: Mapping[str, Any]) -> object:
        others = classes.get("ingresses", "--all-namespaces")["items"]
        taken = any(
            hosts(other) & hosts(found) for other in others if other["metadata"]["uid"] != found["metadata"]["uid"]
        )
        return None if taken else {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}

    bounds = {"storage": "memory", "addressTimeout": "60s", "readyTimeout": "10s"}
    stacks = [Stack(environment=classes.environment, settings=bounds) for _ in range(2)]
    for name in ("first", "second"):
        classes.apply(an_ingress("default", name, "shared.example.test"))
    try:
        with controller(classes, "ingresses", status), ExitStack() as made, ThreadPoolExecutor(2) as pool:
            for stack in stacks:
                made.enter_context(stack)
            for failed in pool.map(lambda stack: stack.up(check=False), stacks):
                assert "no address within" not in failed.stdout + failed.stderr
                assert "registry-deployment" in failed.stdout + failed.stderr
            silent = classes.get("ingresses", "-n", "default")["items"]
            assert not [each for each in silent if each["status"].get("loadBalancer")], "it passes over what collides"
    finally:
        classes.kubectl("delete", "ingress", "--all", "-n", "default")


@contextmanager
def gateway_kinds(cluster: Cluster) -> Iterator[None]:
    """The kinds of the Gateway API, and a GatewayClass that nobody serves but the test."""
    crds = programs.source("cluster", "sigs.k8s.io/gateway-api") / "config" / "crd" / "experimental"
    files = [option for file in sorted(crds.glob(f"{GATEWAY_API}_*.yaml")) for option in ("-f", str(file))]
    cluster.kubectl("apply", "--server-side", *files)
    cluster.kubectl("wait", "--for=condition=Established", *files, "--timeout=30s")
    name = {"name": "other"}
    spec = {"controllerName": "example.test/other"}
    cluster.apply({"apiVersion": f"{GATEWAY_API}/v1", "kind": "GatewayClass", "metadata": name, "spec": spec})
    try:
        yield
    finally:
        cluster.kubectl("delete", *files, timeout=120)


def condition(kind: str, value: str, message: str = "") -> dict[str, str]:
    stamp = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": value, "reason": kind, "message": message, "lastTransitionTime": stamp}


def test_a_gateway_whose_conditions_come_late_is_waited_for_and_a_refused_listener_is_told(classes: Cluster) -> None:
    looks, accepts = 0, False

    def of_gateway(_: Mapping[str, Any]) -> object:
        nonlocal looks
        looks += 1
        if looks < 20:
            return None
        if not accepts:
            listener = {"name": "registry", "attachedRoutes": 0, "supportedKinds": []}
            refused = condition("Accepted", "False", "port 443 is in use here")
            return {
                "conditions": [condition("Programmed", "False", "no listener is valid")],
                "listeners": [{**listener, "conditions": [refused]}],
            }
        return {
            "conditions": [condition("Programmed", "True")],
            "addresses": [{"type": "IPAddress", "value": "192.0.2.8"}],
        }

    def of_route(route: Mapping[str, Any]) -> object:
        parent = {"parentRef": route["spec"]["parentRefs"][0], "controllerName": "example.test/other"}
        return {"parents": [{**parent, "conditions": [condition("Accepted", "True")]}]}

    values = {"exposure": "gateway", "storage": "memory", "addressTimeout": "30s", "readyTimeout": "10s"}
    with (
        gateway_kinds(classes),
        controller(classes, "gateways", of_gateway),
        controller(classes, "tlsroutes", of_route),
        Stack(environment=classes.environment, settings=values) as stack,
    ):
        failed = stack.up(check=False)
        assert "was not ready within 30s" in failed.stdout + failed.stderr
        assert "port 443 is in use here" in failed.stdout + failed.stderr
        looks, accepts = 0, True
        failed = stack.up(check=False)
        assert "registry-deployment" in failed.stdout + failed.stderr
        [route] = classes.get("tlsroutes", "-n", namespace_of(classes, stack))["items"]
        [host] = route["spec"]["hostnames"]
        assert host.endswith(".192-0-2-8.nip.io")
