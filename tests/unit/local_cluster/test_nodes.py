"""The table of nodes, and the configuration that each of them gives to its containerd."""

import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from local_cluster import network, nodes
from local_cluster.__main__ import main

DEBIAN_CONFIG = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
"""
GENERATED_CONFIG = """\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = false

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = ""
"""


# The table of nodes


def test_each_node_has_addresses_of_its_own_that_nothing_else_uses() -> None:
    every = nodes.TABLE.values()
    addresses = {ip_address(node.address) for node in every}
    pods = {ip_network(node.pods) for node in every}
    first, last = map(ip_address, network.LOAD_BALANCERS.split("-"))
    assert len(addresses) == len(pods) == len(nodes.TABLE)
    for address in addresses:
        assert address in network.SUBNET
        assert address != ip_address(network.CONTROL_PLANE)
        assert not int(first) <= int(address) <= int(last)
    assert all(subnet.subnet_of(ip_network(network.PODS)) for subnet in pods)  # type: ignore[arg-type]


def test_the_default_nodes_are_three_generations_of_containerd() -> None:
    assert {(nodes.TABLE[name].suite, nodes.TABLE[name].containerd) for name in nodes.DEFAULT} == {
        ("bookworm", "debian"),
        ("trixie", "debian"),
        ("bookworm", "built"),
    }


@pytest.mark.parametrize(
    "command", [["node", "node-x"], ["node", "node-x", "--remove"], ["up", "--nodes", "node-a,node-x"]]
)
def test_an_unknown_node_is_one_sentence_and_nothing_is_started(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "start", lambda *_, **__: pytest.fail("a node was started"))
    assert main(command) == 1
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "'node-x'" in output
    assert "node-a, node-b, node-c" in output


# containerd's configuration


def config(kind: nodes.Config, *, restricted: bool) -> dict[str, Any] | None:
    text = nodes.containerd_config(kind, debian=DEBIAN_CONFIG, generated=GENERATED_CONFIG, restricted=restricted)
    return None if text is None else tomllib.loads(text)


@pytest.mark.parametrize("restricted", [False, True])
def test_the_generated_config_keeps_its_empty_config_path(restricted: bool) -> None:
    cri = config("generated", restricted=restricted)["plugins"]["io.containerd.grpc.v1.cri"]  # type: ignore[index]
    assert cri["registry"] == {"config_path": ""}
    assert cri["restrict_oom_score_adj"] is restricted


@pytest.mark.parametrize("restricted", [False, True])
def test_a_config_path_is_added_to_what_debian_ships(restricted: bool) -> None:
    cri = config("config-path", restricted=restricted)["plugins"]["io.containerd.grpc.v1.cri"]  # type: ignore[index]
    assert cri["registry"] == {"config_path": "/etc/containerd/certs.d"}
    assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"}
    assert cri.get("restrict_oom_score_adj", False) is restricted


def test_a_stock_containerd_has_no_config_file() -> None:
    assert config("stock", restricted=False) is None


def test_a_stock_containerd_on_a_restricted_machine_is_told_only_that() -> None:
    assert config("stock", restricted=True) == {
        "version": 3,
        "plugins": {"io.containerd.cri.v1.runtime": {"restrict_oom_score_adj": True}},
    }


@pytest.mark.parametrize(
    ("blobs", "size", "grown"), [(0, 0, False), (50, 1000, False), (2001, 1, True), (2, 6 * 10**8, True)]
)
def test_a_store_that_has_grown_by_many_images_or_by_large_ones_is_made_anew(
    tmp_path: Path, blobs: int, size: int, grown: bool
) -> None:
    folder = tmp_path / "io.containerd.content.v1.content" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    for number in range(blobs):
        with (folder / str(number)).open("wb") as blob:
            blob.truncate(size)
    assert nodes.has_grown(tmp_path, []) is grown
    assert not nodes.has_grown(tmp_path / "none", [])
