"""An administrator changes the runtime's configuration while stacks are there: what he sets is his, and is followed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CERTIFICATE,
    CERTS_D,
    CONFIG,
    DEFAULT_1_6,
    EXPLICIT,
    HOST,
    MIRRORS,
    FixtureNode,
    Killed,
    MakeNode,
    fault_of,
    killer,
)
from trust.agent.faults import Reason

THEIRS = "/etc/containerd/hosts.d"
OURS = f"{THEIRS}/{HOST}/pr-42.crt"
"""Our file in his folder."""
MOVED = DEFAULT_1_6.replace('config_path = ""', f'config_path = "{THEIRS}"')
SHORT = f"""\
# made by a tool
version = 2
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox_image = "registry.example/pause:3.9"
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "{CERTS_D}"
"""
"""A whole file of his own, which has the value that we would set."""


def set_by_him(text: str) -> Callable[[FixtureNode], None]:
    def act(node: FixtureNode) -> None:
        node.write(CONFIG, text)
        node.start_runtime()

    return act


def test_h5_a_folder_that_an_administrator_sets_is_followed_and_stays(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agents = [node.agent(), node.agent("pr-43", "pod-43", "registry-pr-43.example")]
    for agent in agents:
        agent.tick(CA)
    set_by_him(MOVED)(node)
    before = node.tree()
    for _ in range(2):
        for agent in agents:
            assert agent.tick(CA)
        assert node.trusts()
    assert node.read(OURS) == CA
    assert node.read(CERTIFICATE) is None
    assert (node.read(CONFIG), len(node.restarts)) == (MOVED, 1)
    for agent in agents:
        assert agent.remove()
    assert node.read(CONFIG) == MOVED
    assert node.tree().keys() == {path for path in before if "certs.d" not in path and "private-registry" not in path}


@pytest.mark.parametrize("restarted", [True, False])
def test_h5_our_value_in_a_file_that_an_administrator_wrote_is_his(make_node: MakeNode, restarted: bool) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, SHORT)
    if restarted:
        node.start_runtime()
    for _ in range(2):
        assert agent.tick(CA)
        assert node.trusts()
    assert len(node.restarts) == 1
    agent.remove()
    assert node.read(CONFIG) == SHORT


def test_h5_an_administrator_who_edits_another_line_has_not_set_ours(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, (node.read(CONFIG) or "").replace("SystemdCgroup = false", "SystemdCgroup = true"))
    node.start_runtime()
    agent.tick(CA)
    assert node.trusts()
    agent.remove()
    assert node.read(CONFIG) == DEFAULT_1_6.replace("SystemdCgroup = false", "SystemdCgroup = true")
    assert len(node.restarts) == 1


def test_h5_a_ca_file_that_an_administrator_sets_for_one_host_is_his_and_the_others_stay_ours(
    make_node: MakeNode,
) -> None:
    node = make_node("1.7.29", MIRRORS)
    first, second = node.agent(), node.agent("pr-43", "pod-43", "registry-pr-43.example")
    first.tick(CA)
    second.tick(CA)
    mine = "/var/lib/private-registry-trust/pr-42.crt"
    his = (node.read(CONFIG) or "").replace(mine, "/etc/theirs.crt")
    node.write(CONFIG, his)
    node.start_runtime()
    fault = fault_of(first)
    assert fault is not None
    assert fault.reason == Reason.INLINE_MIRRORS
    assert "/etc/theirs.crt" in fault.sentence
    assert second.tick(CA)
    assert node.trusts(CA, "registry-pr-43.example")
    assert first.remove()
    assert second.remove()
    assert "/etc/theirs.crt" in (node.read(CONFIG) or "")
    assert "private-registry-trust" not in (node.read(CONFIG) or "")


@pytest.mark.parametrize("config", [DEFAULT_1_6, EXPLICIT, None])
@pytest.mark.parametrize("theirs", [MOVED, SHORT])
def test_h5_an_agent_that_is_killed_while_it_follows(tmp_path: Path, config: str | None, theirs: str) -> None:
    for place in range(1000):
        node = FixtureNode(tmp_path / str(place), "1.6.20", files={} if config is None else {CONFIG: config})
        node.agent().tick(CA)
        restarts = len(node.restarts)
        set_by_him(theirs)(node)
        killed = False
        try:
            node.agent(before=killer(place)).tick(CA)
        except Killed:
            killed = True
        successor = node.agent(pod="pod-2")
        assert successor.tick(CA)
        assert node.trusts()
        assert len(node.restarts) == restarts
        assert successor.remove()
        assert list(node.tree()) == ["/etc/containerd", CONFIG]
        assert node.read(CONFIG) == theirs
        if not killed:
            assert place > 1, "there were changes to be cut off at"
            return
    raise AssertionError("no end")


def test_m7_a_folder_that_is_moved_in_the_file_counts_once_the_runtime_is_restarted(make_node: MakeNode) -> None:
    node = make_node("1.7.24", EXPLICIT)
    agent = node.agent()
    agent.tick(CA)
    moved = EXPLICIT.replace(CERTS_D, THEIRS)
    node.write(CONFIG, moved)
    for again in (agent, node.agent()):
        assert again.tick(CA)
        assert node.trusts(), "the process still reads the old folder"
        assert agent.status.roots[0] == f"{CERTS_D}/{HOST}"
        assert node.read(OURS) == CA, "it is ready for the restart"
    node.start_runtime()
    assert node.trusts(), "at once"
    agent.tick(CA)
    assert node.read(CERTIFICATE) is None
    assert agent.status.roots[0] == f"{THEIRS}/{HOST}"
    assert agent.remove()
    assert (node.read(CONFIG), list(node.tree())) == (moved, ["/etc/containerd", CONFIG])
    assert node.restarts == []


def test_m7_a_file_that_is_copied_with_its_old_time_is_no_news_to_a_running_process(make_node: MakeNode) -> None:
    node = make_node("1.7.24", EXPLICIT)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, EXPLICIT.replace(CERTS_D, THEIRS))
    os.utime(node.root / CONFIG[1:], (1, 1))
    agent.tick(CA)
    assert node.trusts()


def test_m7_a_key_that_is_taken_out_of_the_file_is_set_once_the_runtime_is_restarted(make_node: MakeNode) -> None:
    node = make_node("1.7.24", EXPLICIT)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, "version = 2\n")
    agent.tick(CA)
    assert node.trusts()
    assert (node.read(CONFIG), node.restarts) == ("version = 2\n", [])
    node.start_runtime()
    agent.tick(CA)
    assert node.trusts()
    assert len(node.restarts) == 1
    agent.remove()
    assert node.read(CONFIG) == "version = 2\n"


def test_m7_inline_mirrors_that_are_replaced_in_the_file_keep_our_ca_file_until_the_restart(
    make_node: MakeNode,
) -> None:
    node = make_node("1.7.29", MIRRORS)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, MOVED)
    for _ in range(2):
        agent.tick(CA)
        assert node.read("/var/lib/private-registry-trust/pr-42.crt") == CA, "what the process was told to read"
        assert node.read(OURS) == CA
    node.start_runtime()
    agent.tick(CA)
    assert node.trusts()
    assert node.read("/var/lib/private-registry-trust/pr-42.crt") is None
    agent.remove()
    assert node.read(CONFIG) == MOVED
    assert len(node.restarts) == 1


def test_m7_a_file_that_is_younger_than_the_runtime_needs_a_restart_that_is_not_ours(make_node: MakeNode) -> None:
    """Nobody knows whether the runtime would come back with it, and we could not put back what was there before."""
    node = make_node("1.7.24", DEFAULT_1_6)
    node.write(CONFIG, MOVED)
    agent = node.agent()
    for again in (agent, agent, node.agent(pod="pod-2")):
        fault = fault_of(again)
        assert fault is not None
        assert fault.reason == Reason.RESTART_NOT_ALLOWED
        assert f"{CONFIG} on node node-a names {THEIRS}" in fault.sentence
    assert (node.read(CONFIG), node.restarts) == (MOVED, [])
    node.start_runtime()
    assert node.agent(pod="pod-2").tick(CA)
    assert node.trusts()
    assert node.restarts == []


@pytest.mark.parametrize("right", ["before the first look", "after it"])
def test_a_clock_that_was_behind_at_the_boot_makes_no_file_younger_than_the_runtime(
    make_node: MakeNode, right: str
) -> None:
    """A node without a battery for its clock has eight hours too little until a time server has told it."""
    node = make_node("1.7.24", EXPLICIT)
    start = (node.root / CONFIG[1:]).stat().st_mtime + 600
    node.boot()
    os.utime(node.root / node.socket[1:], (start - 8 * 3600, start - 8 * 3600))
    started = node.pid * 10 / os.sysconf("SC_CLK_TCK")
    agent = node.agent()
    if right == "after it":
        (node.proc / "stat").write_text(f"cpu 1\nbtime {start - 8 * 3600 - started:.0f}\nprocesses 1\n")
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.RESTART_NOT_ALLOWED
    (node.proc / "stat").write_text(f"cpu 1\nbtime {start - started:.0f}\nprocesses 1\n")
    assert agent.tick(CA)
    assert node.trusts()
    os.utime(node.root / CONFIG[1:], (start + 60, start + 60))
    assert node.agent(pod="pod-2").tick(CA), "what the process reads is known by now"


def test_a_file_that_was_changed_after_the_start_is_younger_by_a_clock_that_was_put_right(make_node: MakeNode) -> None:
    node = make_node("1.7.24", DEFAULT_1_6)
    socket = (node.root / node.socket[1:]).stat().st_mtime
    (node.proc / "stat").write_text(f"btime {socket + 8 * 3600:.0f}\n")
    node.write(CONFIG, MOVED)
    os.utime(node.root / CONFIG[1:], (socket + 9 * 3600, socket + 9 * 3600))
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
