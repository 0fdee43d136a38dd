"""Where the CA goes on a node, and that what others have there is left alone."""

import os
import shutil
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CERTIFICATE,
    CERTS_D,
    DEFAULT_1_6,
    EXPLICIT,
    HOST,
    LAYOUTS,
    MIRRORS,
    OTHER_CA,
    FixtureNode,
    MakeNode,
    fault_of,
)
from trust.agent.agent import LOOK_AROUND_EVERY, Agent
from trust.agent.client import Client
from trust.agent.faults import Fault, Reason
from trust.agent.placement import HOST_KEPT


def test_files_of_strangers_are_never_touched(make_node: MakeNode) -> None:
    node = make_node()
    node.write(f"{CERTS_D}/_default/hosts.toml", 'server = "https://mirror"\n')
    node.write(f"{CERTS_D}/{HOST}/ca.crt", OTHER_CA)
    node.write(f"/etc/docker/certs.d/{HOST}/ca.crt", OTHER_CA)
    before = node.tree()
    agent = node.agent()
    agent.tick(CA)
    node.write(f"{CERTS_D}/other.example/ca.crt", OTHER_CA)
    agent.remove()
    (node.root / f"{CERTS_D}/other.example/ca.crt"[1:]).unlink()
    (node.root / f"{CERTS_D}/other.example"[1:]).rmdir()
    assert node.tree() == before


def test_folder_that_a_stranger_uses_meanwhile_stays(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent()
    agent.tick(CA)
    node.write(f"{CERTS_D}/{HOST}/ca.crt", OTHER_CA)
    agent.remove()
    assert node.read(f"{CERTS_D}/{HOST}/ca.crt") == OTHER_CA


def test_hosts_toml_of_a_stranger_is_named_and_left(make_node: MakeNode) -> None:
    node = make_node()
    text = f'server = "https://{HOST}"\nca = "/theirs.crt"\n'
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", text)
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.FOREIGN_HOSTS_TOML
    assert f"{CERTS_D}/{HOST}/hosts.toml" in fault.sentence
    assert node.read(f"{CERTS_D}/{HOST}/hosts.toml") == text
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", text.replace('"/theirs.crt"', f'["/theirs.crt", "{CERTIFICATE}"]'))
    assert fault_of(agent) is None


@pytest.mark.parametrize("text", ["broken", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_broken_certificate_of_a_stranger_is_named_and_left(make_node: MakeNode, text: str) -> None:
    """With it there, containerd 1.6 to 2.4 fails every pull from this host: unable to load CA cert."""
    node = make_node()
    path = f"{CERTS_D}/{HOST}/ca.crt"
    node.write(path, text)
    (node.root / f"{CERTS_D}/{HOST}/folder.crt"[1:]).mkdir()
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.CONFIG_INVALID
    assert path in fault.sentence
    assert node.read(path) == text
    node.write(path, text + OTHER_CA)
    assert fault_of(agent) is None
    node.write(path, text)
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", f'ca = "{CERTIFICATE}"\n')
    assert fault_of(agent) is None, "containerd does not look at it beside a hosts.toml"


def test_folder_with_an_escaped_port_wins(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent(host="registry.example:5000")
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry.example:5000/pr-42.crt") == CA
    (node.root / f"{CERTS_D}/registry.example_5000_"[1:]).mkdir()
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry.example_5000_/pr-42.crt") == CA
    assert not (node.root / f"{CERTS_D}/registry.example:5000"[1:]).exists()
    agent.remove()
    assert os.listdir(node.root / CERTS_D[1:]) == ["registry.example_5000_"], "it was not ours"


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "/nowhere"])
def test_link_out_of_the_hosts_directory_is_refused(make_node: MakeNode, target: str) -> None:
    node = make_node()
    (node.root / CERTS_D[1:]).mkdir()
    (node.root / f"{CERTS_D}/{HOST}"[1:]).symlink_to(target)
    before = node.tree()
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.SYMLINK_LEAVES_TREE
    agent.remove()
    assert node.tree() == before


def test_link_to_the_hosts_directory_is_followed_inside_the_node(make_node: MakeNode) -> None:
    node = make_node()
    (node.root / "data/certs.d").mkdir(parents=True)
    (node.root / CERTS_D[1:]).symlink_to("/data/certs.d")
    agent = node.agent()
    agent.tick(CA)
    assert node.read(f"/data/certs.d/{HOST}/pr-42.crt") == CA
    agent.remove()
    assert os.listdir(node.root / "data/certs.d") == []


def test_microk8s_current_link(tmp_path: Path) -> None:
    text = (LAYOUTS / "microk8s.toml").read_text()
    config = "/var/snap/microk8s/8511/args/containerd.toml"
    arguments = ("/snap/microk8s/8511/bin/containerd", "--config", config, "--address", "/x.sock")
    node = FixtureNode(tmp_path, "v1.7.27", arguments, files={config: text})
    (node.root / "var/snap/microk8s/current").symlink_to("8511")
    assert node.agent().tick(CA)
    assert node.read(f"/var/snap/microk8s/8511/args/certs.d/{HOST}/pr-42.crt") == CA


def test_a_folder_that_was_copied_with_our_file_in_it_goes_as_well(tmp_path: Path) -> None:
    """A refresh of MicroK8s's snap copies its data to a new folder, and the link `current` leads there from then on."""
    data = tmp_path / "root/var/snap/microk8s"
    node = FixtureNode(
        tmp_path, arguments=("containerd", "--config", "/var/snap/microk8s/current/args/containerd.toml")
    )
    node.write(
        "/var/snap/microk8s/1/args/containerd.toml",
        EXPLICIT.replace("/etc/containerd", "/var/snap/microk8s/current/args"),
    )
    node.write("/var/snap/microk8s/1/args/certs.d/docker.io/hosts.toml", "#")
    (data / "current").symlink_to("1")
    before = {path.relative_to(data / "1") for path in (data / "1").rglob("*")}
    node.start_runtime()
    agent = node.agent()
    agent.tick(CA)
    assert (data / f"1/args/certs.d/{HOST}/pr-42.crt").read_text() == CA
    shutil.copytree(data / "1", data / "2")
    (data / "current").unlink()
    (data / "current").symlink_to("2")
    node.start_runtime()
    agent.tick(CA)
    assert (data / f"2/args/certs.d/{HOST}/pr-42.crt").read_text() == CA
    assert agent.remove()
    for revision in ("1", "2"):
        assert {path.relative_to(data / revision) for path in (data / revision).rglob("*")} == before


NEW_HOST = "new.example"
NEW_CERTIFICATE = CERTIFICATE.replace(HOST, NEW_HOST)


def not_there(_host: str, _ca: str, _client: Client) -> None:
    raise Fault(Reason.NAME_NOT_RESOLVED, "no such name")


def look_for(node: FixtureNode, seconds: float, *agents: Agent, ca: str = CA) -> None:
    """Let agents look again and again for some time, and more often than anything is due."""
    until = node.clock + seconds
    while node.clock < until:
        node.clock += 20
        for agent in agents:
            fault_of(agent, ca)


@pytest.mark.parametrize("old_pod_runs", [True, False])
def test_the_host_before_is_trusted_as_long_as_the_new_one_is_not_reached(
    make_node: MakeNode, old_pod_runs: bool
) -> None:
    node = make_node()
    old = node.agent()
    old.tick(CA)
    new = node.agent(pod="pod-2", host=NEW_HOST, check=not_there)
    if not old_pod_runs:
        node.end_pods("pod-1")
    look_for(node, 2 * HOST_KEPT, new, *([old] if old_pod_runs else []))
    assert node.trusts(CA)
    (node.root / CERTIFICATE[1:]).unlink()
    look_for(node, LOOK_AROUND_EVERY, new, ca=CA + OTHER_CA)
    assert node.trusts(CA + OTHER_CA), "it is kept as it was when it was the host"


def test_the_host_before_is_trusted_while_its_pod_runs_and_then_until_up_has_ended_for_sure_and_leaves_nothing(
    make_node: MakeNode,
) -> None:
    """A pod ends once the one that follows is ready on its node; with an `up` that has failed it stays."""
    node = make_node()
    before = node.tree()
    old = node.agent()
    old.tick(CA)
    new = node.agent(pod="pod-2", host=NEW_HOST)
    new.tick(CA)
    kept = node.tree()
    assert {CERTIFICATE, NEW_CERTIFICATE} <= kept.keys()
    look_for(node, 2 * HOST_KEPT, new, old)
    assert not old.remove()
    node.end_pods("pod-1")
    look_for(node, HOST_KEPT - LOOK_AROUND_EVERY, new)
    assert node.tree() == kept
    look_for(node, 2 * LOOK_AROUND_EVERY, new)
    assert node.trusts(CA, NEW_HOST)
    assert f"{CERTS_D}/{HOST}" not in node.tree()
    new.remove()
    assert node.tree() == before


@pytest.mark.parametrize("config", [EXPLICIT, DEFAULT_1_6, MIRRORS])
def test_an_agent_that_was_killed_keeps_the_host_before_no_shorter_and_not_for_ever(
    make_node: MakeNode, config: str
) -> None:
    node = make_node("1.6.20", config)
    node.agent().tick(CA)
    for check in (not_there, not_there, lambda *_: None):
        kept = [path for path in node.tree() if HOST in path]
        agent = node.agent(pod="pod-2", host=NEW_HOST, check=check)
        look_for(node, HOST_KEPT - LOOK_AROUND_EVERY, agent)
        assert [path for path in node.tree() if HOST in path] == kept
    node.end_pods("pod-1")
    look_for(node, HOST_KEPT + 2 * LOOK_AROUND_EVERY, agent)
    assert not [path for path in node.tree() if HOST in path]
    assert '"before": []' in (node.read("/var/lib/private-registry-trust/pr-42.json") or ""), "it asks for no pod now"
    assert node.trusts(CA, NEW_HOST)


def test_an_agent_that_goes_takes_the_host_before_with_it(make_node: MakeNode) -> None:
    node = make_node()
    before = node.tree()
    node.agent().tick(CA)
    agent = node.agent(pod="pod-2", host="new.example")
    agent.tick(CA)
    agent.remove()
    assert node.tree() == before
