"""Every way in with every issuer: pushed from outside, pulled on each node, the same at a second look, then gone.

And what changes under a running stack: a certificate that is renewed, an address that moves.
"""

import hashlib
import ipaddress
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import deployed_stack
from .harness import Cluster, Deployed, Stack, wait_until
from .local import network, nodes, programs
from .local.paths import KUBECONFIG

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

BY_CERT_MANAGER = {"certificateIssuer": "cert-manager"}
CERT_MANAGER = "github.com/cert-manager/cert-manager"
PROPAGATION = 150.0
"""Seconds that a kubelet may take to bring a changed Secret into a running pod: its sync period and its cache's age."""


@pytest.fixture(scope="module")
def cert_manager(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """cert-manager's own kinds and controllers; they run beside the control plane."""
    kinds = str(programs.source("cert-manager", CERT_MANAGER) / "deploy" / "crds")
    program = programs.ensure(("cert-manager",)) / "cert-manager-controller"
    cluster.kubectl("apply", "--server-side", "-f", kinds)
    cluster.kubectl("wait", "--for=condition=Established", "-f", kinds, "--timeout=30s")
    with (tmp_path_factory.mktemp("cert-manager") / "log").open("w") as log:
        command = network.inside(str(program), f"--kubeconfig={KUBECONFIG}")
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
            try:
                yield
            finally:
                process.terminate()
    cluster.kubectl("delete", "-f", kinds, timeout=120)


@contextmanager
def second_traefik(
    cluster: Cluster, name: str, address: str, options: Sequence[str], *kinds: dict[str, Any]
) -> Iterator[Callable[[str], None]]:
    """A second Traefik with a LoadBalancer address and objects of its own; gives what moves it elsewhere.

    It does not watch Ingresses, unless its options say so; its entry point has the port that clients use.
    """
    own: dict[str, str] = {"name": name, "namespace": "traefik"}
    deployment: dict[str, Any] = cluster.get("deployment", "-n", "traefik", "traefik")
    template = deployment["spec"]["template"]
    template["metadata"] = {"labels": {"app": name}}
    low_ports = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    template["spec"]["securityContext"] = {"sysctls": [low_ports]}
    container = template["spec"]["containers"][0]
    container["args"] = [
        *(option for option in container["args"] if "kubernetesingress" not in option and ":8443" not in option),
        "--entrypoints.websecure.address=:443",
        *options,
    ]
    for port in container["ports"]:
        port["containerPort"] = 443 if port["name"] == "websecure" else port["containerPort"]
    service: dict[str, Any] = cluster.get("service", "-n", "traefik", "traefik")
    ports = [{key: port[key] for key in ("name", "port", "targetPort")} for port in service["spec"]["ports"]]
    annotation = "metallb.io/loadBalancerIPs"
    objects = [
        *kinds,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**own, "annotations": {annotation: address}},
            "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": own,
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        },
    ]

    def published() -> str:
        points = cluster.get("service", "-n", "traefik", name)["status"].get("loadBalancer", {}).get("ingress", [])
        return points[0]["ip"] if points else ""

    def move(target: str) -> None:
        cluster.kubectl("annotate", "--overwrite", "service", name, "-n", "traefik", f"{annotation}={target}")
        wait_until(lambda: published() == target, f"the address is {target}", timeout=30)

    cluster.apply(*objects)
    try:
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", "traefik", "--timeout=60s")
        wait_until(lambda: published() == address, f"the address is {address}", timeout=30)
        yield move
    finally:
        for kind in kinds:
            cluster.kubectl("delete", kind["kind"], kind["metadata"]["name"])
        cluster.kubectl("delete", "service,deployment", name, "-n", "traefik")


@contextmanager
def ingress_controller(
    cluster: Cluster, name: str, address: str, hostname: str = ""
) -> Iterator[Callable[[str], None]]:
    """A second Ingress controller with an IngressClass of its own; gives what moves it elsewhere.

    It publishes its address, or the host name that is given, as those of AWS do.
    """
    ingress_class = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": "traefik.io/ingress-controller"},
    }
    provider = "--providers.kubernetesingress"
    options = [
        f"{provider}=true",
        f"{provider}.ingressclass={name}",
        f"{provider}.ingressendpoint." + (f"hostname={hostname}" if hostname else f"publishedservice=traefik/{name}"),
    ]
    with second_traefik(cluster, name, address, options, ingress_class) as move:
        yield move


GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_ADDRESS = "10.99.0.217"
KINDS = (
    "gatewayclasses",
    "gateways",
    "httproutes",
    "grpcroutes",
    "tcproutes",
    "tlsroutes",
    "referencegrants",
    "backendtlspolicies",
)
"""What Traefik watches."""


@pytest.fixture(scope="module")
def gateway_controller(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """The Gateway API with its experimental channel, and Traefik as its one controller; gives what moves it."""
    crds = programs.source("cluster", "sigs.k8s.io/gateway-api") / "config" / "crd" / "experimental"
    kinds = [option for file in sorted(crds.glob(f"{GATEWAY_API}_*.yaml")) for option in ("-f", str(file))]
    name, api_group = "gateways", "rbac.authorization.k8s.io"
    watched = [f"{kind}{part}" for kind in KINDS for part in ("", "/status")]
    role = {
        "apiVersion": f"{api_group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [GATEWAY_API], "resources": watched, "verbs": ["get", "list", "watch", "update"]}],
    }
    binding = {
        "apiVersion": f"{api_group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "traefik", "namespace": "traefik"}],
    }
    gateway_class = {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }
    provider = "--providers.kubernetesgateway"
    options = [
        f"{provider}=true",
        f"{provider}.experimentalchannel=true",
        f"{provider}.statusaddress.service.namespace=traefik",
        f"{provider}.statusaddress.service.name={name}",
    ]
    cluster.kubectl("apply", "--server-side", *kinds)
    try:
        cluster.kubectl("wait", "--for=condition=Established", *kinds, "--timeout=30s")
        with second_traefik(cluster, name, GATEWAY_ADDRESS, options, role, binding, gateway_class) as move:
            yield move
    finally:
        cluster.kubectl("delete", *kinds, timeout=120)


MATRIX = {
    "gateway, tls": {"exposure": "gateway"},
    "gateway, cert-manager": {"exposure": "gateway", "gatewayClass": "gateways", **BY_CERT_MANAGER},
    "ingress, cert-manager": BY_CERT_MANAGER,
    "loadBalancer, tls": {"exposure": "loadBalancer"},
    "loadBalancer, cert-manager": {"exposure": "loadBalancer", **BY_CERT_MANAGER},
    "nodePort, tls, in memory": {"exposure": "nodePort", "storage": "memory", "storageSize": "1Gi"},
    "nodePort, cert-manager": {"exposure": "nodePort", **BY_CERT_MANAGER},
    "ingress, host of its own": {"host": "own.10-99-0-200.sslip.io"},
    "ingress, address that is set": {"address": "10.99.0.200", "dnsSuffix": "sslip.io"},
}


def resources(cluster: Cluster, namespace: str) -> str:
    """What is left of a stack in the cluster: its namespace, or nothing."""
    return cluster.kubectl("get", "namespace", namespace, "--ignore-not-found", "-o", "name")


@pytest.mark.usefixtures("cert_manager", "gateway_controller")
@pytest.mark.parametrize("case", MATRIX)
def test_pushed_from_outside_and_pulled_on_every_node(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str, case: str
) -> None:
    with deployed_stack(cluster, tmp_path, MATRIX[case]) as deployed:
        image = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, image)
        deployed.start_pods(namespace, image, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        deployed.stack.pulumi("preview", "--expect-no-changes")
        data = cluster.get("configmap", "-n", deployed.namespace, deployed.outputs["configMap"])["data"]
        assert data == {"host": deployed.host, "address": deployed.outputs["address"], "ca.crt": deployed.ca}
        assert "PRIVATE KEY" not in deployed.stack.state()
        for node in cluster.nodes:
            assert not [text for text in files_with_keys(node, deployed.ca) if "PRIVATE KEY" in text]
        assert ipaddress.ip_address(deployed.outputs["address"])
        if MATRIX[case].get("exposure") == "nodePort":
            assert deployed.host.partition(":")[2].isdecimal()
    assert resources(cluster, deployed.namespace) == ""
    for node in cluster.nodes:
        assert not deployed.hosts_directory(node).exists()


def files_with_keys(node: str, ca: str) -> list[str]:
    """The text of every file that our agent wrote to a node."""
    root = nodes.node_root(node)
    paths = [*root.glob("etc/containerd/**/*.crt"), *root.glob("var/lib/private-registry-trust/**/*")]
    return [path.read_text() for path in paths if path.is_file() and ca.splitlines()[1] in path.read_text()]


class Puller:
    """A client that pulls all the time, from two threads, and counts what failed."""

    def __init__(self, deployed: Deployed, image: str) -> None:
        """Start to pull."""
        self.pulls = 0
        self.failed: list[str] = []
        self._stop = threading.Event()
        environment = {**deployed.cluster.environment, "SSL_CERT_FILE": str(deployed.ca_file)}

        def pull() -> None:
            while not self._stop.is_set():
                command = ["crane", "pull", image, os.devnull]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
                self.pulls += 1
                if done.returncode:
                    self.failed.append(done.stderr)

        self._threads = [threading.Thread(target=pull, daemon=True) for _ in range(2)]

    def __enter__(self) -> "Puller":
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, after one more pull of each thread."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def pulled_more(self) -> Callable[[], bool]:
        """A condition: ten pulls more than now."""
        target = self.pulls + 10
        return lambda: self.pulls >= target


def served_certificate(deployed: Deployed) -> str:
    """The fingerprint of the certificate that a client is shown; the client verifies it."""
    name, _, port = deployed.host.partition(":")
    shown = deployed.cluster.run(
        "openssl",
        "s_client",
        "-connect",
        f"{name}:{port or 443}",
        "-servername",
        name,
        "-verify_hostname",
        name,
        "-verify_return_error",
        "-CAfile",
        deployed.ca_file,
        text="",
    ).stdout
    pem = shown[shown.index("-----BEGIN") : shown.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def renew_by_pulumi(deployed: Deployed) -> None:
    """Have the server certificate made anew, as `up` does by itself when it is about to expire."""
    entries = json.loads(deployed.stack.state())["deployment"]["resources"]
    urn = next(entry["urn"] for entry in entries if entry["urn"].endswith("::certificate-server"))
    deployed.stack.pulumi("up", "--yes", "--skip-preview", "--replace", urn)


def renew_by_cert_manager(deployed: Deployed, certificate: str = "certificate-server") -> None:
    """Have cert-manager renew a certificate, as it does by itself in time; `cmctl renew` sets the same condition."""
    condition = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "renewal by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = ("certificate", certificate, "-n", deployed.namespace)
    found = deployed.cluster.get(*path)
    conditions = [entry for entry in found["status"]["conditions"] if entry["type"] != "Issuing"]
    patch = json.dumps({"status": {"conditions": [*conditions, condition]}})
    revision = found["status"]["revision"]
    deployed.cluster.kubectl("patch", *path, "--subresource=status", "--type=merge", "-p", patch)
    wait_until(
        lambda: deployed.cluster.get(*path)["status"]["revision"] > revision, f"{certificate} is renewed", timeout=30
    )


RENEWALS = {
    "ingress, cert-manager": (BY_CERT_MANAGER, renew_by_cert_manager),
    "loadBalancer, tls": ({"exposure": "loadBalancer"}, renew_by_pulumi),
    "loadBalancer, cert-manager": ({"exposure": "loadBalancer", **BY_CERT_MANAGER}, renew_by_cert_manager),
}


@pytest.mark.usefixtures("cert_manager")
@pytest.mark.parametrize("case", RENEWALS)
def test_a_renewed_certificate_reaches_clients_without_one_failed_pull(
    cluster: Cluster, tmp_path: Path, app_image: Path, case: str
) -> None:
    values, renew = RENEWALS[case]
    with deployed_stack(cluster, tmp_path, values) as deployed:
        image = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, image)
        before = served_certificate(deployed)
        pods = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", deployed.namespace)["items"]}
        with Puller(deployed, image) as puller:
            renew(deployed)
            wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
            wait_until(puller.pulled_more(), "pulls went on", timeout=60)
        assert puller.failed == []
        assert puller.pulls > 20
        assert {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", deployed.namespace)["items"]} == pods


@pytest.mark.usefixtures("cert_manager")
def test_a_ca_that_cert_manager_renews_needs_no_up_and_no_new_trust(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, BY_CERT_MANAGER) as deployed:
        image = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, image)
        before = served_certificate(deployed)
        renew_by_cert_manager(deployed, "certificate-ca")
        renew_by_cert_manager(deployed)
        wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
        deployed.start_pods(namespace, image, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        # The next `up` hands the new CA certificate out; it vouches for the same.
        deployed.stack.up()
        renewed = deployed.stack.outputs()["caCertificate"]
        assert renewed != deployed.ca
        assert renewed == cluster.get("configmap", "-n", deployed.namespace, "private-registry")["data"]["ca.crt"]
        deployed.ca_file.write_text(renewed)
        served_certificate(deployed)
        deployed.stack.pulumi("preview", "--expect-no-changes")


def moved_in_one_up(deployed: Deployed, app_image: Path, namespace: str, move: Callable[[str], None], to: str) -> None:
    """Move the address under a stack, and check that one `up --refresh` moves all of it, and nothing else."""
    cluster, old_host = deployed.cluster, deployed.host
    before = {entry["urn"] for entry in json.loads(deployed.stack.state())["deployment"]["resources"]}
    deployed.crane("push", app_image, f"{old_host}/test/app:1")
    old_folders = [deployed.hosts_directory(node) for node in cluster.nodes]
    old_label = deployed.outputs["address"].replace(".", "-")
    move(to)
    deployed.stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
    moved = deployed.stack.outputs()
    assert moved["address"] == to
    assert moved["registryUrl"] == old_host.replace(old_label, to.replace(".", "-"))
    assert moved["caCertificate"] == deployed.ca
    assert {entry["urn"] for entry in json.loads(deployed.stack.state())["deployment"]["resources"]} == before
    data = cluster.get("configmap", "-n", deployed.namespace, "private-registry")["data"]
    assert data == {"host": moved["registryUrl"], "address": to, "ca.crt": deployed.ca}
    deployed.outputs.update(moved)
    served_certificate(deployed)
    image = f"{deployed.host}/test/app:1"  # what was pushed under the old name is there under the new one
    deployed.start_pods(namespace, image, cluster.nodes)
    deployed.assert_running(namespace, cluster.nodes)
    deployed.stack.pulumi("preview", "--expect-no-changes")
    assert not [folder for folder in old_folders if folder.exists()]


def test_an_ingress_whose_address_moved_moves_everything_in_one_up_and_the_ca_stays(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    values = {"ingressClass": "moving"}
    with (
        ingress_controller(cluster, "moving", "10.99.0.218") as move_controller,
        deployed_stack(cluster, tmp_path, values) as deployed,
    ):

        def follows(name: str) -> bool:
            found = cluster.get("ingress", "-n", deployed.namespace, name)["status"]["loadBalancer"]["ingress"]
            return [point.get("ip") for point in found] == ["10.99.0.219"]

        def move(to: str) -> None:
            move_controller(to)
            wait_until(lambda: follows("exposure") and follows("ingress"), "Traefik published the address", timeout=60)

        moved_in_one_up(deployed, app_image, namespace, move, "10.99.0.219")


def test_a_load_balancer_with_a_host_name_is_reached_by_that(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    hostname = "lb-1.10-99-0-218.nip.io"
    with (
        ingress_controller(cluster, "named", "10.99.0.218", hostname),
        deployed_stack(cluster, tmp_path, {"ingressClass": "named", "auth": "none"}) as deployed,
    ):
        assert (deployed.host, deployed.outputs["address"]) == (hostname, hostname)
        image = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, image)
        deployed.start_pods(namespace, image, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        deployed.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.usefixtures("cert_manager")
def test_a_load_balancer_whose_address_moved_moves_everything_in_one_up_and_the_ca_stays(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "loadBalancer", **BY_CERT_MANAGER}) as deployed:

        def move(to: str) -> None:
            path = ("service", "exposure", "-n", deployed.namespace)
            cluster.kubectl("annotate", *path, f"metallb.io/loadBalancerIPs={to}")
            points = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}"
            wait_until(lambda: cluster.kubectl("get", *path, points) == to, f"the address is {to}", timeout=30)

        moved_in_one_up(deployed, app_image, namespace, move, "10.99.0.220")


DNS_FAULTS = {
    "private answers are refused": "template IN A {\n  rcode NOERROR\n }",
    "SERVFAIL": "template ANY ANY {\n  rcode SERVFAIL\n }",
}


@pytest.mark.parametrize("case", DNS_FAULTS)
def test_a_machine_whose_dns_drops_the_answer_is_warned_and_the_nodes_are_not(
    cluster: Cluster, tmp_path: Path, case: str
) -> None:
    # A resolver at an address of a node, where nobody else is one; the nodes themselves ask the cluster's.
    node = cluster.nodes[-1]
    inside = ["nsenter", f"--target={nodes.leader(node).pid}", "--net", "--"]
    (tmp_path / "Corefile").write_text(f". {{\n {DNS_FAULTS[case]}\n}}\n")
    resolver = f"nameserver {nodes.TABLE[node].address}\noptions attempts:1 timeout:2\n"
    (tmp_path / "resolv.conf").write_text(resolver)
    (tmp_path / "bin").mkdir()
    pulumi = cluster.run("sh", "-c", "command -v pulumi").stdout.strip()
    wrapper = tmp_path / "bin" / "pulumi"
    # A client's own /etc/resolv.conf: `ip netns exec` gives it a mount namespace of its own.
    script = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec {pulumi} "$@"'
    wrapper.write_text(f"#!/bin/sh\nexec ip netns exec {network.NAMESPACE} sh -c '{script}' pulumi \"$@\"\n")
    wrapper.chmod(0o755)
    environment = {**cluster.environment, "PATH": f"{tmp_path / 'bin'}:{cluster.environment['PATH']}"}
    command = [*inside, str(programs.ensure() / "coredns"), f"-conf={tmp_path / 'Corefile'}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with Stack(environment=environment) as stack:
                shown = stack.up().stdout
                host = stack.outputs()["registryUrl"]
                assert f"This machine has no address for the registry's host {host}" in shown
                assert "rebinding protection" in shown
                assert "pulumi config set dnsSuffix" in shown
        finally:
            server.terminate()


def test_a_gateway_whose_address_moved_moves_everything_in_one_up_and_the_ca_stays(
    cluster: Cluster, gateway_controller: Callable[[str], None], tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "gateway"}) as deployed:

        def move(to: str) -> None:
            gateway_controller(to)
            points = "--output=jsonpath={.status.addresses[*].value}"
            path = (f"gateways.{GATEWAY_API}", "exposure", "-n", deployed.namespace)
            wait_until(lambda: cluster.kubectl("get", *path, points) == to, f"Traefik published {to}", timeout=60)

        try:
            moved_in_one_up(deployed, app_image, namespace, move, "10.99.0.216")
        finally:
            gateway_controller(GATEWAY_ADDRESS)


@pytest.mark.usefixtures("gateway_controller")
def test_a_gateway_that_its_controller_refuses_is_told_in_its_words(cluster: Cluster) -> None:
    values = {"exposure": "gateway", "gatewayPort": "8444", "addressTimeout": "5s", "storage": "memory"}
    with Stack(environment=cluster.environment, settings=values) as stack:
        failed = stack.pulumi("up", "--yes", "--skip-preview", check=False)
        text = failed.stdout + failed.stderr
        assert failed.returncode != 0
        assert "The registry's Gateway was not ready within 5s (the setting addressTimeout)" in text
        assert "no matching entryPoint for port 8444" in text
        assert "pulumi config set gatewayPort 8443" in text
        stack.pulumi("config", "set", "gatewayPort", "443")
        stack.up()
