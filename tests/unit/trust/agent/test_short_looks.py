"""An agent with nothing to do asks for the times of files only, and still sees at its next look what has changed."""

import os
from collections.abc import Callable

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CERTIFICATE,
    CERTS_D,
    CONFIG,
    EXPLICIT,
    HOST,
    OTHER_CA,
    FixtureNode,
    MakeNode,
    fault_of,
)
from trust.agent.agent import Agent
from trust.agent.faults import Reason
from trust.agent.files import Tree


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are opened, but for the one that tells the boot."""
    found: list[str] = []
    real = Tree.open

    def note(tree: Tree, path: str, flags: int, mode: int = 0o600) -> int:
        found.extend([path] if not path.endswith("/boot_id") else [])
        return real(tree, path, flags, mode)

    monkeypatch.setattr(Tree, "open", note)
    return found


def calm(node: FixtureNode, opened: list[str]) -> Agent:
    """An agent whose looks are short ones."""
    agent = node.agent()
    for _ in range(4):
        opened.clear()
        assert agent.tick(CA)
        node.clock += 2
    assert not opened
    return agent


def unlink(node: FixtureNode) -> None:
    (node.root / CERTIFICATE[1:]).unlink()


def overwrite(node: FixtureNode) -> None:
    """As many bytes as before, in the same file."""
    node.write(CERTIFICATE, CA[::-1])


def lead_away(node: FixtureNode) -> None:
    """The hosts directory becomes an absolute link, which leads elsewhere in the node than in the agent's container."""
    (node.root / CERTS_D[1:]).rename(node.root / "etc/containerd/before")
    (node.root / "data").mkdir()
    (node.root / CERTS_D[1:]).symlink_to("/data")


def name_another_folder(node: FixtureNode) -> None:
    node.write(CONFIG, EXPLICIT.replace(CERTS_D, "/etc/other"))
    node.start_runtime()


@pytest.mark.parametrize(
    ("change", "folder"),
    [(unlink, CERTS_D), (overwrite, CERTS_D), (lead_away, "/data"), (name_another_folder, "/etc/other")],
)
def test_what_somebody_has_changed_is_mended_at_the_next_look(
    make_node: MakeNode, opened: list[str], change: Callable[[FixtureNode], None], folder: str
) -> None:
    node = make_node()
    agent = calm(node, opened)
    change(node)
    assert not node.trusts()
    assert agent.tick(CA)
    assert node.read(f"{folder}/{HOST}/pr-42.crt") == CA


def test_a_folder_that_was_moved_and_replaced_by_a_link_to_it_keeps_its_file(
    make_node: MakeNode, opened: list[str]
) -> None:
    node = make_node()
    before = node.tree()
    agent = calm(node, opened)
    (node.root / "data").mkdir()
    (node.root / CERTS_D[1:]).rename(node.root / "data/certs.d")
    (node.root / CERTS_D[1:]).symlink_to("../../data/certs.d")
    for _ in range(31):
        node.clock += 2
        assert agent.tick(CA)
        assert node.trusts()
    assert agent.remove()
    assert node.tree().keys() - before.keys() == {CERTS_D}, "his link"
    assert [path.name for path in (node.root / "data").rglob("*")] == ["certs.d"]


def test_a_file_that_appears_where_there_was_none_is_seen_at_the_next_look(
    make_node: MakeNode, opened: list[str]
) -> None:
    node = make_node()
    agent = calm(node, opened)
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", 'server = "https://mirror"\n')
    for _ in range(2):
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.FOREIGN_HOSTS_TOML


def test_another_ca_is_written_at_the_next_look(make_node: MakeNode, opened: list[str]) -> None:
    node = make_node()
    agent = calm(node, opened)
    assert agent.tick(OTHER_CA)
    assert node.trusts(OTHER_CA)


def test_a_file_that_changes_twice_at_one_moment_of_its_disk_is_read_again(
    make_node: MakeNode, opened: list[str]
) -> None:
    """Two looks in a row have to meet the same, and there is time between them."""
    node = make_node()
    agent = node.agent()
    for _ in range(5):
        opened.clear()
        assert agent.tick(CA)
        assert CERTIFICATE in opened
    assert os.listdir(node.root / CERTIFICATE[1:].rpartition("/")[0]) == ["pr-42.crt"]


def test_a_whole_look_follows_once_a_minute(make_node: MakeNode, opened: list[str]) -> None:
    node = make_node()
    agent = calm(node, opened)
    for _ in range(31):
        node.clock += 2
        assert agent.tick(CA)
    assert CERTIFICATE in opened
