"""The agent's file leaves the node for the time of one pull, and is back whatever happens."""

import os
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, CERTIFICATE, EXPLICIT, FixtureNode
from trust.agent.node import Node
from trust.agent.without import without

WANTED = {"image": "h/proof@sha256:0", "username": "u", "password": "p"}


def node_with_agent(tmp_path: Path) -> tuple[FixtureNode, Node]:
    made = FixtureNode(tmp_path, files={"/etc/containerd/config.toml": EXPLICIT})
    made.agent().tick(CA)
    return made, Node(made.proc, os.getpid(), made.tell_version, made.listener)


@pytest.mark.parametrize("own_setting", [True, False])
def test_the_node_pulls_without_the_file_only_by_its_own_setting(tmp_path: Path, own_setting: bool) -> None:
    made, node = node_with_agent(tmp_path)
    file = made.root / CERTIFICATE[1:]
    before = file.read_bytes()
    seen: list[tuple[bool, str, str, str]] = []

    def pull(_socket: str, *wanted: str) -> bool:
        seen.append((file.exists(), *wanted))  # type: ignore[arg-type]
        return file.exists() or own_setting

    answer = without(node, "pr-42", WANTED, pull)
    assert answer == {"with": True, "without": own_setting, "changes": [], "error": ""}
    assert seen == [(True, "h/proof@sha256:0", "u", "p"), (False, "h/proof@sha256:0", "u", "p")]
    assert file.read_bytes() == before


def test_the_file_is_back_when_the_runtime_does_not_answer(tmp_path: Path) -> None:
    made, node = node_with_agent(tmp_path)

    def pull(*_: str) -> bool:
        if not (made.root / CERTIFICATE[1:]).exists():
            raise OSError("no answer")
        return True

    assert without(node, "pr-42", WANTED, pull)["error"] == "no answer"
    assert (made.root / CERTIFICATE[1:]).read_text() == CA


def test_an_owner_who_has_nothing_there_is_told(tmp_path: Path) -> None:
    _, node = node_with_agent(tmp_path)
    assert "not ready" in without(node, "pr-43", WANTED, lambda *_: True)["error"]
