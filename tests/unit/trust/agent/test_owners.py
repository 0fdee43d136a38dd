"""Several stacks on one node, and several pods of one stack."""

import tomllib
from collections import Counter

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
    OTHER_CA,
    MakeNode,
    fault_of,
)
from trust.agent.agent import LOOK_AROUND_EVERY
from trust.agent.files import Tree
from trust.agent.node import Node
from trust.agent.placement import GONE_FOR_GOOD


@pytest.mark.parametrize("config", [EXPLICIT, DEFAULT_1_6, MIRRORS, None])
def test_two_owners_come_and_go_in_any_order(make_node: MakeNode, config: str | None) -> None:
    for first_leaves in (0, 1):
        node = make_node("1.7.24", config)
        before = node.tree()
        hosts = [HOST, "registry-pr-43.10-99-0-201.nip.io"]
        agents = [node.agent(f"pr-{42 + i}", f"pod-{i}", hosts[i]) for i in (0, 1)]
        cas = [CA, OTHER_CA]
        for agent, ca in zip(agents, cas, strict=True):
            assert agent.tick(ca)
        assert node.trusts(CA, hosts[0])
        assert node.trusts(OTHER_CA, hosts[1])
        stays = 1 - first_leaves
        assert agents[first_leaves].remove()
        assert agents[stays].tick(cas[stays])
        node.start_runtime()
        assert agents[stays].tick(cas[stays])
        assert node.trusts(cas[stays], hosts[stays])
        assert not node.trusts(cas[first_leaves], hosts[first_leaves])
        restarts = len(node.restarts)
        assert restarts == {EXPLICIT: 0, MIRRORS: 2}.get(config or "", 1)
        assert agents[stays].remove()
        assert node.tree() == before


def test_pod_that_was_passed_over_takes_the_files_back_when_the_younger_one_leaves(make_node: MakeNode) -> None:
    node = make_node()
    old, new = node.agent(pod="old"), node.agent(pod="new")
    old.tick(CA)
    new.tick(CA)
    (node.root / CERTIFICATE[1:]).unlink()
    assert old.tick(CA)
    assert node.read(CERTIFICATE) is None, "not its business any more"
    new.tick(CA)
    assert not old.remove()
    assert node.trusts()
    assert new.remove()
    assert old.tick(CA)
    assert node.trusts()


@pytest.mark.parametrize("config", [EXPLICIT, DEFAULT_1_6, MIRRORS])
def test_pod_that_was_passed_over_takes_the_files_back_when_the_younger_one_is_gone_without_a_word(
    make_node: MakeNode, config: str
) -> None:
    """As when somebody ends it by force, after an `up` to another host that has failed."""
    node = make_node("1.6.20", config)
    before = node.tree()
    old, new = node.agent(pod="old"), node.agent(pod="new", host="new.example")
    old.tick(CA)
    new.tick(CA)
    (node.root / "etc/containerd/certs.d" / HOST / "pr-42.crt").unlink(missing_ok=True)
    for _ in range(5):
        node.clock += LOOK_AROUND_EVERY
        assert old.tick(CA)
    assert not node.trusts(), "not its business"
    node.end_pods("new")
    for _ in range(5):
        node.clock += LOOK_AROUND_EVERY / 4
        assert old.tick(CA)
    assert node.trusts()
    assert old.remove()
    assert node.tree() == before


def test_a_pod_that_was_passed_over_asks_whether_the_younger_one_runs_once_a_minute_at_most(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[set[str]] = []
    pods = Node.pods
    monkeypatch.setattr(Node, "pods", lambda node, uids: asked.append(uids) or pods(node, uids))
    node = make_node()
    old, new = node.agent(pod="old"), node.agent(pod="new")
    old.tick(CA)
    new.tick(CA)
    for _ in range(90):
        node.clock += 2
        assert old.tick(CA)
    assert asked == [{"new"}] * 3


def test_agents_take_turns(make_node: MakeNode) -> None:
    node = make_node()
    agent, other = node.agent(), node.agent("pr-43")
    with other._state.lock(seconds=0) as held:  # pyright: ignore[reportPrivateUsage]
        assert held
        assert not agent.tick(CA)
    assert agent.tick(CA)


def test_owner_whose_pod_is_gone_for_good_is_cleaned_up_after(make_node: MakeNode) -> None:
    """Its node was down while its stack was deleted, so no pod of it was ever told to end there."""
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.agent("pr-41", "uid-of-pr-41", "registry-pr-41.example").tick(CA)
    agent = node.agent()
    agent.tick(CA)
    node.clock += 2 * GONE_FOR_GOOD
    agent.tick(CA)
    node.end_pods("uid-of-pr-41")
    node.clock += LOOK_AROUND_EVERY
    agent.tick(CA)
    node.clock += GONE_FOR_GOOD / 2
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry-pr-41.example/pr-41.crt") == CA, "it may only be between two starts"
    node.clock += GONE_FOR_GOOD
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry-pr-41.example/pr-41.crt") is None
    assert node.trusts()
    agent.remove()
    assert node.tree() == before
    assert len(node.restarts) == 1


def test_stacks_leave_each_other_alone_where_the_kubelet_makes_no_control_group_for_a_pod(make_node: MakeNode) -> None:
    """Its setting is `cgroupsPerQOS: false`."""
    node = make_node()
    node.cgroups_per_pod = False
    before = node.tree()
    other = node.agent("pr-41", "pod-41", "registry-pr-41.example")
    agent = node.agent()
    for number in range(4):
        node.clock = number * GONE_FOR_GOOD
        assert other.tick(CA)
        assert agent.tick(CA)
    assert not [line for line in node.log if "removed" in line]
    assert not node.agent(pod="pod-2").remove(), "the pod whose files these are still runs"
    node.end_pods("pod-41")
    for _ in range(2):
        node.clock += GONE_FOR_GOOD + LOOK_AROUND_EVERY
        agent.tick(CA)
    assert "pod-41 is gone for 600 s" in node.log[-1]
    assert agent.remove()
    assert node.tree() == before


@pytest.mark.parametrize("obstacle", ["broken configuration", "no runtime", "link", "no CA", "no look at all"])
def test_the_last_pod_takes_away_what_a_pod_has_left_that_is_gone_although_its_own_looks_have_failed(
    make_node: MakeNode, obstacle: str
) -> None:
    """The node had no power, and when it returned there was another pod."""
    node = make_node()
    before = node.tree()
    node.agent().tick(CA)
    node.boot()
    agent = node.agent(pod="pod-2")
    folder = node.root / CERTIFICATE[1:].rpartition("/")[0]
    if obstacle == "broken configuration":
        node.write(CONFIG, "x = \n")
    elif obstacle == "no runtime":
        node.end(node.pid)
    elif obstacle == "link":
        folder.rename(node.root / "moved")
        folder.symlink_to("/etc")
    if obstacle != "no look at all":
        assert fault_of(agent, "garbage" if obstacle == "no CA" else CA) is not None
    assert agent.remove()
    if obstacle == "broken configuration":
        node.write(CONFIG, EXPLICIT)
    elif obstacle == "link":
        folder.unlink()
        folder.parent.rmdir()
    assert node.tree() == before


def test_marker_of_another_version_of_the_agent_is_understood(make_node: MakeNode) -> None:
    node = make_node()
    before = node.tree()
    node.agent().tick(CA)
    path = "/var/lib/private-registry-trust/pr-42.json"
    node.write(path, (node.read(path) or "").replace('"owner"', '"news": 1, "owner"'))
    successor = node.agent(pod="pod-2")
    successor.tick(CA)
    assert successor.remove()
    assert node.tree() == before


def test_96_an_idle_agent_costs_the_same_however_many_stacks_there_are(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens the same files with twenty others as with none, and looks at every process once a minute at most.

    Nearly all of its looks open one file, and the one in a minute that reads what counts parses no configuration.
    """
    opened: list[str] = []
    real = Tree.open
    monkeypatch.setattr(Tree, "open", lambda tree, path, *more: opened.append(path) or real(tree, path, *more))
    parse = tomllib.loads
    monkeypatch.setattr(tomllib, "loads", lambda text: opened.append(f"parsed {len(text)} characters") or parse(text))
    looks = 0
    pods = Node.pods

    def count(node: Node, uids: set[str]) -> set[str]:
        nonlocal looks
        looks += 1
        return pods(node, uids)

    monkeypatch.setattr(Node, "pods", count)
    node = make_node("1.7.24", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    costs: list[tuple[str, ...]] = []
    for others in (0, 20):
        for number in range(others):
            node.agent(f"pr-{number}", f"pod-{number}", f"registry-{number}.example").tick(CA)
        for _ in range(4):
            node.clock += 2
            agent.tick(CA)
        looks, minutes = 0, 3
        seen: Counter[tuple[str, ...]] = Counter()
        for _ in range(30 * minutes):
            node.clock += 2
            opened.clear()
            agent.tick(CA)
            seen[tuple(opened)] += 1
        [(usual, number)] = seen.most_common(1)
        assert number >= 28 * minutes
        costs.append(usual)
        assert looks <= minutes
        parsed = {entry for look in seen for entry in look if entry.startswith("parsed")}
        assert parsed == {"parsed 0 characters"}, "that is a hosts.toml, which is not there"
    assert costs[0] == costs[1] == ("/proc/sys/kernel/random/boot_id",)
