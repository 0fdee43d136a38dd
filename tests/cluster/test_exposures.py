"""Every way in with every issuer: pushed from outside, pulled on each node, the same at a second look, then gone."""

import ipaddress
import subprocess
from pathlib import Path

import pytest

from local_cluster import network, nodes, programs

from .support.cluster import Cluster
from .support.controllers import BY_CERT_MANAGER, ingress_controller
from .support.stacks import Stack, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

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
