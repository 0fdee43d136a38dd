"""The node's container runtime as a client of the registry: whose environment counts, and whose files."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, HOST, FixtureNode
from trust.agent import discover
from trust.agent.client import Client, runtime_client
from trust.agent.node import Node
from trust.agent.proxies import Proxy

PROXY = Proxy("http", "proxy.example", 3128)


def environ(made: FixtureNode, pid: int, *entries: str) -> None:
    (made.proc / str(pid) / "environ").write_text("\0".join([*entries, ""]))


def client_of(made: FixtureNode) -> Client:
    node = Node(made.proc, os.getpid(), made.tell_version, made.listener)
    return runtime_client(node, discover.runtime(node), "node-a", HOST, CA)


@pytest.mark.parametrize("runtime", ["containerd", "cri-o"])
def test_the_environment_of_the_running_runtime_counts(tmp_path: Path, runtime: str) -> None:
    made = FixtureNode(tmp_path, runtime=runtime)
    assert client_of(made).proxy is None
    environ(made, 1, "HTTPS_PROXY=http://init.example")
    environ(made, made.pid, "PATH=/bin", "HTTPS_PROXY=http://proxy.example:3128", "NO_PROXY=10.0.0.0/8", "broken")
    found = client_of(made)
    assert (found.place, found.program, found.proxy) == ("node node-a", runtime, PROXY)
    assert found.root == made.proc / "1/root"
    environ(made, made.pid, "HTTPS_PROXY=http://proxy.example:3128", "HTTPS_PROXY=http://second.example", "NO_PROXY=a")
    assert client_of(made).proxy == PROXY
    environ(made, made.pid, "HTTPS_PROXY=http://proxy.example:3128", "NO_PROXY=10.0.0.0/8,.nip.io")
    assert client_of(made).proxy is None


def test_before_a_runtime_is_found_the_node_itself_is_the_client(tmp_path: Path) -> None:
    made = FixtureNode(tmp_path)
    node = Node(made.proc, os.getpid(), made.tell_version, made.listener)
    assert runtime_client(node, None, "node-a", HOST, CA) == Client("node node-a", root=made.proc / "1/root")


def test_a_runtime_with_mounts_of_its_own_has_its_own_resolver_files(tmp_path: Path) -> None:
    made = FixtureNode(tmp_path)
    (made.proc / f"{made.pid}/ns/mnt").unlink()
    (made.proc / f"{made.pid}/ns/mnt").symlink_to("mnt:[2]")
    assert client_of(made).root == made.proc / f"{made.pid}/root"


def docker_node(folder: Path, *cri_dockerd: str) -> FixtureNode:
    """A node with cri-dockerd, process 101, and with dockerd, process 200."""
    made = FixtureNode(
        folder, "26.1.5", ("/usr/bin/cri-dockerd", *cri_dockerd), socket="/run/cri.sock", runtime="docker"
    )
    made.process(50, ("/usr/bin/kubelet", "--container-runtime-endpoint=unix:///run/cri.sock"))
    environ(made, made.pid, "HTTPS_PROXY=http://cri.example")
    return made


@pytest.mark.parametrize("endpoint", ["", "/run/other.sock"])
def test_dockers_own_environment_counts_and_not_that_of_cri_dockerd(tmp_path: Path, endpoint: str) -> None:
    made = docker_node(tmp_path, *([f"--docker-endpoint=unix://{endpoint}"] if endpoint else []))
    socket = endpoint or "/run/docker.sock"
    made.write(socket, "")
    (made.root / "var/run").symlink_to("../run")
    made.listeners[socket] = 200
    made.process(200, ("/usr/bin/dockerd",))
    environ(made, 200, "HTTPS_PROXY=http://proxy.example:3128")
    assert client_of(made).proxy == PROXY


def test_dockers_configuration_and_arguments_overrule_its_environment(tmp_path: Path) -> None:
    made = docker_node(tmp_path)
    made.write("/var/run/docker.sock", "")
    made.listeners["/var/run/docker.sock"] = 200
    made.process(200, ("/usr/bin/dockerd",))
    environ(made, 200, "HTTPS_PROXY=http://environment.example")
    made.write("/etc/docker/daemon.json", json.dumps({"proxies": {"https-proxy": "http://proxy.example:3128"}}))
    assert client_of(made).proxy == PROXY
    made.write("/etc/docker/daemon.json", json.dumps({"proxies": {"no-proxy": "nip.io"}}))
    assert client_of(made).proxy is None
    for text in ("broken", "[]", '{"proxies": null}'):
        made.write("/etc/docker/daemon.json", text)
        assert client_of(made).proxy == replace(PROXY, host="environment.example", port=80)
    made.process(200, ("/usr/bin/dockerd", "--https-proxy", "http://proxy.example:3128", "--config-file=/etc/d.json"))
    environ(made, 200)
    made.write("/etc/d.json", json.dumps({"proxies": {"no-proxy": "10.0.0.0/8"}}))
    assert client_of(made).proxy == PROXY
