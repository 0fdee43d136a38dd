"""Agents on a node, from the first look to the last: what they write, and that nothing is left of it."""

from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CERTIFICATE,
    CERTS_D,
    CONFIG,
    CONTAINERD,
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
from trust.agent.client import Client
from trust.agent.faults import Fault, Reason


@pytest.mark.parametrize(
    ("version", "config", "files", "restarts"),
    [
        ("1.7.24", EXPLICIT, [CERTIFICATE], 0),
        ("1.6.20~ds1", DEFAULT_1_6, [CERTIFICATE], 1),
        ("v1.6.36", None, [CERTIFICATE], 1),
        ("1.7.29", MIRRORS, ["/var/lib/private-registry-trust/pr-42.crt"], 1),
        ("v2.1.9", None, [CERTIFICATE], 1),
        (
            "2.4.2+unknown",
            (LAYOUTS / "default-2.4.toml").read_text(),
            [f"{CERTS_D}:/etc/docker/certs.d/{HOST}/pr-42.crt", CERTIFICATE, f"/etc/docker/certs.d/{HOST}/pr-42.crt"],
            0,
        ),
        ("v2.2.1-k3s1", (LAYOUTS / "list-discard-v3.toml").read_text(), [CERTIFICATE], 0),
    ],
)
def test_node_is_trusted_and_left_as_it_was(
    make_node: MakeNode, version: str, config: str | None, files: list[str], restarts: int
) -> None:
    node = make_node(version, config)
    before = node.tree()
    assert not node.trusts()
    agent = node.agent()
    assert agent.tick(CA)
    assert node.trusts()
    assert [path for path in node.tree() if path.endswith(".crt")] == sorted(files)
    assert agent.status.roots[0] == files[0].rpartition("/")[0]
    applied = node.tree()
    for again in (agent, node.agent(), node.agent(pod="pod-2")):
        assert again.tick(CA)
    assert {**node.tree(), **applied}.keys() == applied.keys()
    assert not agent.remove(), "pod-2 has taken over"
    assert node.trusts()
    assert node.agent(pod="pod-2").remove()
    assert node.tree() == before
    assert not node.trusts()
    assert node.agent(pod="pod-3").tick(CA)
    assert node.trusts()
    assert len(node.restarts) == restarts, "once, since the same process has the change in memory the second time"


def test_rotated_ca_replaces_the_file_and_may_hold_two_certificates(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent()
    agent.tick(CA)
    agent.tick(OTHER_CA + CA)
    assert node.read(CERTIFICATE) == OTHER_CA + CA
    assert len(agent.status.ca) == 2


def test_without_a_ca_the_node_trusts_what_it_trusts_anyway_and_nothing_is_written(make_node: MakeNode) -> None:
    node = make_node()
    node.write("/etc/ssl/certs/ca-certificates.crt", f"# public roots\n{OTHER_CA}\n{CA}")
    before = node.tree()
    asked: list[tuple[str, str, str]] = []
    agent = node.agent(check=lambda host, ca, client: asked.append((host, ca, client.public)))
    assert agent.tick("\n")
    assert agent.tick("")
    # The node's own CAs count, as for its runtime, and not those of the agent's image.
    assert asked == [(HOST, "", OTHER_CA + CA)]
    assert (agent.status.roots, agent.status.ca) == ([], [])
    assert {path: what for path, what in node.tree().items() if "private-registry-trust" not in path} == before
    assert agent.remove()


@pytest.mark.parametrize("config", [EXPLICIT, DEFAULT_1_6])
def test_a_ca_that_is_needed_no_longer_goes_once_the_node_reaches_the_registry_without_it(
    make_node: MakeNode, config: str
) -> None:
    node = make_node("1.6.20", config)
    untouched, refused = node.read(CONFIG), [True]

    def check(_host: str, ca: str, _client: Client) -> None:
        if not ca and refused:
            raise Fault(Reason.CERTIFICATE_MISMATCH, "not yet")

    agent = node.agent(check=check)
    agent.tick(CA)
    fault = fault_of(agent, "")
    assert fault is not None
    assert fault.reason == Reason.CERTIFICATE_MISMATCH
    assert node.read(CERTIFICATE) == CA
    refused.clear()
    assert agent.tick("")
    assert node.read(CERTIFICATE) is None
    assert node.read(CONFIG) == untouched
    assert agent.tick(CA), "and back"
    assert node.read(CERTIFICATE) == CA


@pytest.mark.parametrize("ca", ["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM"])
def test_ca_that_is_none_is_never_written(make_node: MakeNode, ca: str) -> None:
    node = make_node()
    before = node.tree()
    fault = fault_of(node.agent(), ca)
    assert fault is not None
    assert fault.reason == Reason.CA_INVALID
    assert node.tree() == before


def test_wiped_folders_and_spoiled_files_come_back(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent()
    agent.tick(CA)
    applied = node.tree()
    for spoil in (
        lambda: (node.root / CERTIFICATE[1:]).unlink(),
        lambda: (node.root / CERTIFICATE[1:]).write_text("broken"),
        lambda: (node.root / CERTIFICATE[1:]).write_text(""),
        lambda: (node.root / CERTS_D[1:]).rename(node.root / "wiped"),
        lambda: (node.root / "var/lib/private-registry-trust/pr-42.json").unlink(),
    ):
        spoil()
        agent.tick(CA)
        assert node.tree().keys() == applied.keys()
        assert node.read(CERTIFICATE) == CA


def test_arguments_of_the_runtime_name_its_configuration(tmp_path: Path) -> None:
    config = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    for number, arguments in enumerate(
        [(*CONTAINERD, "-c", config), (*CONTAINERD, f"--config={config}", "-l", "debug")]
    ):
        files = {config: (LAYOUTS / "k3s-v3.toml").read_text()}
        node = FixtureNode(tmp_path / str(number), "2.0.5-k3s1", arguments, files=files)
        assert node.agent().tick(CA)
        assert node.read(f"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/{HOST}/pr-42.crt") == CA


@pytest.mark.parametrize(
    ("runtime", "existing", "wanted"),
    [
        ("docker", [], "/etc/docker/certs.d"),
        ("cri-o", [], "/etc/containers/certs.d"),
        ("cri-o", [f"/etc/docker/certs.d/{HOST}"], "/etc/docker/certs.d"),
        ("cri-o", [f"/etc/containers/certs.d/{HOST}", f"/etc/docker/certs.d/{HOST}"], "/etc/containers/certs.d"),
        ("cri-o", [f"/root/.config/containers/certs.d/{HOST}"], "/root/.config/containers/certs.d"),
    ],
)
def test_other_runtimes(tmp_path: Path, runtime: str, existing: list[str], wanted: str) -> None:
    node = FixtureNode(tmp_path, "29.1", runtime=runtime)
    for folder in existing:
        (node.root / folder[1:]).mkdir(parents=True)
    before = node.tree()
    agent = node.agent()
    assert agent.tick(CA)
    assert agent.tick(CA)
    assert node.read(f"{wanted}/{HOST}/pr-42.crt") == CA
    agent.remove()
    assert node.tree() == before


def test_unknown_runtime_is_named(tmp_path: Path) -> None:
    fault = fault_of(FixtureNode(tmp_path, runtime="frakti").agent())
    assert fault is not None
    assert str(fault).startswith("RUNTIME_UNKNOWN: 'frakti' serves")


def refuse(_host: str, _ca: str, _client: Client) -> None:
    raise Fault(Reason.NO_CONNECTION, "down")


def test_nothing_is_edited_or_restarted_before_the_registry_answers(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent(check=refuse)
    for _ in range(2):
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.NO_CONNECTION
    assert (node.read(CONFIG), node.restarts) == (DEFAULT_1_6, [])
    agent.check = lambda _host, _ca, _node: None
    assert agent.tick(CA)
    agent.check = refuse
    assert agent.tick(CA), "a node that lost the registry stays configured"


def test_runtime_restarted_by_others_is_looked_at_again(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    node.version = "2.4.0"
    node.start_runtime()
    agent.tick(CA)
    assert agent.status.version == "2.4.0"
    assert node.trusts()
    assert len(node.restarts) == 1
