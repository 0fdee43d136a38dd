"""The agent's file leaves the node for the time of one pull, and is back whatever happens."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CERTIFICATE,
    CERTS_D,
    EXPLICIT,
    HOST,
    MIRRORS,
    OTHER_CA,
    FixtureNode,
    Killed,
    killer,
)
from trust.agent.agent import Agent
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


CRI_O = ("/root/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
LIST = (CERTS_D, "/etc/docker/certs.d")
"""The folders of CRI-O, and a list of containerd's; both look into the first that exists for a host, and no other."""


def node_with_its_own_setting(tmp_path: Path, roots: tuple[str, ...]) -> tuple[FixtureNode, Agent, dict[str, str]]:
    """A node that gets its own setting, in the last folder, while an agent is there; and what is to stay in the end."""
    if roots == CRI_O:
        made = FixtureNode(tmp_path, "1.33.0", runtime="cri-o")
    else:
        made = FixtureNode(tmp_path, files={"/etc/containerd/config.toml": EXPLICIT.replace(CERTS_D, ":".join(LIST))})
    setting = f"{roots[-1]}/{HOST}/ca.crt"
    made.write(setting, OTHER_CA)
    alone = made.tree()
    for path in (setting, *(setting.rsplit("/", number)[0] for number in (1, 2))):
        file = made.root / path[1:]
        file.unlink() if file.is_file() else file.rmdir()
    agent = made.agent()
    agent.tick(CA)
    made.write(setting, OTHER_CA)
    agent.tick(CA)
    return made, agent, alone


def pulls(made: FixtureNode, roots: tuple[str, ...]) -> Callable[..., bool]:
    """Pulls as the runtime does: by what is in the first folder that exists."""

    def pull(*_: str) -> bool:
        folder = next((folder for root in roots if (folder := made.root / root[1:] / HOST).is_dir()), None)
        return folder is not None and any(file.read_text() in (CA, OTHER_CA) for file in folder.glob("*.crt"))

    return pull


@pytest.mark.parametrize("roots", [CRI_O, LIST])
def test_no_empty_folder_of_the_agent_hides_the_nodes_own_setting(tmp_path: Path, roots: tuple[str, ...]) -> None:
    made, _, _ = node_with_its_own_setting(tmp_path, roots)
    before, pull = made.tree(), pulls(made, roots)
    node = Node(made.proc, os.getpid(), made.tell_version, made.listener)
    answer = without(node, "pr-42", WANTED, pull)
    assert answer == {"with": True, "without": True, "changes": [], "error": ""}
    assert made.tree() == before
    (made.root / roots[-1][1:] / HOST / "ca.crt").unlink()
    assert without(node, "pr-42", WANTED, pull)["without"] is False


@pytest.mark.parametrize("roots", [CRI_O, LIST])
def test_the_agent_repairs_what_was_cut_off(tmp_path: Path, roots: tuple[str, ...]) -> None:
    for place in range(100):
        made, agent, alone = node_with_its_own_setting(tmp_path / str(place), roots)
        node = Node(made.proc, os.getpid(), made.tell_version, made.listener, killer(place))
        killed = False
        try:
            without(node, "pr-42", WANTED, pulls(made, roots))
        except Killed:
            killed = True
        assert agent.tick(CA)
        assert made.read(f"{agent.status.roots[0]}/pr-42.crt") == CA
        assert pulls(made, roots)()
        assert agent.remove()
        assert made.tree() == alone
        if not killed:
            assert place > 3, "there were changes to be cut off at"
            return
    raise AssertionError("no end")


def test_a_runtime_that_was_told_to_read_the_agents_file_is_not_said_to_lack_its_own_setting(tmp_path: Path) -> None:
    made = FixtureNode(tmp_path, files={"/etc/containerd/config.toml": MIRRORS})
    made.agent().tick(CA)
    before = made.tree()
    node = Node(made.proc, os.getpid(), made.tell_version, made.listener)
    answer = without(node, "pr-42", WANTED, lambda *_: pytest.fail("it would refuse every pull"))
    assert str(answer["error"]).startswith("containerd was told by ca_file in its configuration")
    assert made.tree() == before
