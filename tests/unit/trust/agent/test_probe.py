"""What the doctor's probe in an agent's pod finds out about its node."""

import json
import os
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, CERTIFICATE, EXPLICIT, FixtureNode
from trust.agent import probe
from trust.agent.certificates import fingerprints
from trust.agent.node import Node
from trust.doctor.facts import Probe


def node_with_agent(tmp_path: Path) -> tuple[FixtureNode, Node]:
    made = FixtureNode(tmp_path, files={"/etc/containerd/config.toml": EXPLICIT})
    made.agent().tick(CA)
    return made, Node(made.proc, os.getpid(), made.tell_version, made.listener)


def test_files_are_compared_with_what_was_written(tmp_path: Path) -> None:
    made, node = node_with_agent(tmp_path)
    assert probe.files(node, "pr-42") == {CERTIFICATE: True}
    made.write(CERTIFICATE, "broken")
    assert probe.files(node, "pr-42") == {CERTIFICATE: False}
    (made.root / CERTIFICATE[1:]).unlink()
    assert probe.files(node, "pr-42") == {CERTIFICATE: False}
    assert probe.files(node, "pr-43") == {}


def test_the_agents_process_is_found_and_the_probe_is_not_mistaken_for_it(tmp_path: Path) -> None:
    made, node = node_with_agent(tmp_path)
    assert probe.agent_state(node) == "S", "the fixture's node has an agent"
    made.process(os.getpid(), ("python3", "-m", "agent.probe"))
    assert probe.agent_state(node) == ""
    made.process(90, ("python3", "-m", "agent"))
    (made.proc / "90/ns/mnt").unlink()
    (made.proc / "90/ns/mnt").symlink_to("mnt:[9]")
    assert probe.agent_state(node) == "", "that is the agent of another stack"


def test_a_registry_that_cannot_be_reached_is_an_outcome() -> None:
    found = probe.connection("registry.invalid", CA, "node-a", Node())
    assert found is not None
    assert (found["reason"], found["details"]["host"]) == ("NAME_NOT_RESOLVED", "registry.invalid")
    assert "on node node-a" in found["sentence"]


def test_the_doctor_can_read_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, node = node_with_agent(tmp_path / "node")
    (tmp_path / "ca.crt").write_text(CA)
    (tmp_path / "status.json").write_text('{"reason": "READY"}')
    environment = {
        "REGISTRY_HOST": "registry.invalid",
        "OWNER": "pr-42",
        "NODE_NAME": "node-a",
        "CA_FILE": str(tmp_path / "ca.crt"),
        "READY_FILE": str(tmp_path / "ready"),
    }
    probe.main(environment, node)
    found = Probe(**json.loads(capsys.readouterr().out))
    assert (found.process, found.status, found.files) == ("S", {"reason": "READY"}, {CERTIFICATE: True})
    assert found.ca == list(fingerprints(CA))
    assert found.connection is not None
    assert found.connection["reason"] == "NAME_NOT_RESOLVED"
