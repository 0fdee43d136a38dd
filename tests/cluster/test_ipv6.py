"""Nodes and clients reach the registry over IPv6 alone: the address is one, and the name made from it has no other.

Pods and Services of the local cluster have IPv4 addresses. For this test its nodes and clients get IPv6 addresses
besides, and what stands in front of the Ingress controller is reached over IPv6 only, as a load balancer of a cloud may
be. No public DNS is asked here, so files of hosts say what nip.io would say of such a name.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_cluster import network, nodes
from registry.hostname import registry_host

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.faults import on
from .support.own_names import local_names, tell, untell
from .support.stacks import Stack, docker_config

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

FRONT = "fd99::1"
"""Address of what stands in front of the Ingress controller."""
FORWARD = """
import asyncio, sys

async def pipe(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()

async def serve(reader, writer):
    print(writer.get_extra_info("peername")[0], flush=True)
    there = await asyncio.open_connection(sys.argv[2], 443)
    await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer), return_exceptions=True)

async def main():
    server = await asyncio.start_server(serve, sys.argv[1], 443)
    print("listens", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""
"""Hands TCP connections at its first argument on to its second one, and prints from where each comes."""


def address_of(node: str) -> str:
    """The IPv6 address that a node gets."""
    return f"fd99::{nodes.TABLE[node].index + 16:x}"


@contextmanager
def addresses(cluster: Cluster) -> Iterator[None]:
    """IPv6 addresses for the nodes and for their network."""
    bridge = network.inside("ip", "-6", "address")
    subprocess.run([*bridge, "add", f"{FRONT}/64", "dev", network.BRIDGE, "nodad"], check=True)
    try:
        for node in cluster.nodes:
            on(node, "ip", "-6", "address", "replace", f"{address_of(node)}/64", "dev", "host0", "nodad")
        yield
    finally:
        for node in cluster.nodes:
            nodes.exec_in_node(node, ["ip", "-6", "address", "del", f"{address_of(node)}/64", "dev", "host0"])
        subprocess.run([*bridge, "del", f"{FRONT}/64", "dev", network.BRIDGE], check=True)


@contextmanager
def front(cluster: Cluster, log: Path) -> Iterator[None]:
    """What stands in front of the Ingress controller; it writes to the log from where each connection comes."""
    service = cluster.get("service", "-n", "traefik", "traefik")
    [point] = service["status"]["loadBalancer"]["ingress"]
    with log.open("w") as file:
        command = network.inside(sys.executable, "-c", FORWARD, FRONT, point["ip"])
        with subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
            try:
                wait_until(lambda: "listens" in log.read_text(), "it listens", timeout=30)
                yield
            finally:
                process.terminate()


def test_over_ipv6_alone_every_node_pulls_and_a_client_pushes(
    cluster: Cluster, app_image: Path, tmp_path: Path
) -> None:
    log = tmp_path / "front.log"
    settings = {"address": FRONT, "auth": "basic"}
    with (
        addresses(cluster),
        front(cluster, log),
        local_names() as names,
        Stack(environment=cluster.environment, settings=settings) as stack,
    ):
        namespace = f"registry-{stack.name}"
        stack.set(namespace=namespace)
        host = registry_host(namespace, FRONT, "nip.io")
        assert cluster.run("getent", "ahosts", host, check=False).returncode != 0, "DNS does not know the name"
        tell(cluster, names, FRONT, host)
        try:
            assert "3 of 3" in stack.up().stdout
            outputs = stack.outputs()
            assert (outputs["registryUrl"], outputs["address"]) == (host, FRONT)
            assert set(map(address_of, cluster.nodes)) <= set(log.read_text().split())
            ca = tmp_path / "ca.crt"
            ca.write_text(outputs["caCertificate"])
            login = docker_config(tmp_path / "login", {host: (outputs["username"], outputs["password"])})
            with_both = ["env", f"SSL_CERT_FILE={ca}", f"DOCKER_CONFIG={login}"]
            before = log.read_text().split().count(FRONT)
            cluster.run(*with_both, "crane", "push", str(app_image), f"{host}/team/app:1")
            assert log.read_text().split().count(FRONT) > before, "the client came over IPv6"
            stack.destroy()
        finally:
            untell(cluster, host)
