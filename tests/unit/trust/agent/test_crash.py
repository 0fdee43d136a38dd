"""The agent is killed at every single change it makes; whoever comes next reaches the same end."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CONFIG,
    DEFAULT_1_6,
    EXPLICIT,
    HOST,
    LAYOUTS,
    OTHER_CA,
    FixtureNode,
    Killed,
    Stop,
    killer,
)
from trust.agent.agent import Agent
from trust.agent.placement import HOST_KEPT

CASES = {
    "explicit path": ("1.7.24", EXPLICIT, 0),
    "literal list": ("2.4.2", (LAYOUTS / "default-2.4.toml").read_text(), 0),
    "generated": ("1.6.20", (LAYOUTS / "default-1.6.toml").read_text(), 1),
    "no file": ("1.7.24", None, 1),
    "inline mirrors": ("1.7.24", (LAYOUTS / "gke-1.32.toml").read_text(), 1),
}
MOVED = DEFAULT_1_6.replace('config_path = ""', 'config_path = "/etc/containerd/hosts.d"')
"""An administrator's own folder."""


def killed_at_each_change(make: Callable[[Stop], Agent], act: Callable[[Agent], object]) -> Iterator[None]:
    """Let `act` be cut off at its first change, second change, ...; yields after each until it runs to its end."""
    for place in range(1000):
        try:
            act(make(killer(place)))
        except Killed:
            yield
        else:
            assert place > 3, "there were changes to be cut off at"
            return
    raise AssertionError("no end")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Iterator[FixtureNode], int]:
    """Nodes that are all alike, and how often the runtime of each has to be restarted."""
    version, config, restarts = CASES[request.param]
    files = {} if config is None else {CONFIG: config}
    return (FixtureNode(tmp_path / str(number), version, files=files) for number in range(1000)), restarts


def with_kill(node: FixtureNode, stop: Stop, pod: str = "pod-1") -> Agent:
    """An agent for which a restart of the runtime is a change, too: it can be killed right before and right after."""

    def run(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] not in ("restart", "stop"):
            return node.run(program, *arguments)
        stop("restart", arguments[1])
        result = node.run(program, *arguments)
        stop("restarted", arguments[1])
        return result

    return node.agent(pod=pod, before=stop, run=run)


@pytest.mark.parametrize("next_is", ["the same pod", "another pod", "SIGTERM"])
def test_killed_while_it_sets_up(case: tuple[Iterator[FixtureNode], int], next_is: str) -> None:
    nodes, restarts = case
    node = next(nodes)
    original = node.tree()
    node.agent(pod="pod-2" if next_is == "another pod" else "pod-1").tick(CA)
    applied = _stable(node)

    def make(stop: Stop) -> Agent:
        nonlocal node
        node = next(nodes)
        return with_kill(node, stop)

    for _ in killed_at_each_change(make, lambda agent: agent.tick(CA)):
        successor = node.agent(pod="pod-2" if next_is == "another pod" else "pod-1")
        if next_is != "SIGTERM":
            assert successor.tick(CA)
            assert node.trusts()
            assert _stable(node) == applied
            assert len(node.restarts) == restarts
            assert not node.armed
        successor.remove()
        assert node.tree() == original
        assert len(node.restarts) <= restarts


@pytest.mark.parametrize("next_is", ["the same pod", "another pod", "SIGTERM"])
def test_killed_while_it_cleans_up(case: tuple[Iterator[FixtureNode], int], next_is: str) -> None:
    nodes, restarts = case
    node = next(nodes)
    original = node.tree()

    def make(stop: Stop) -> Agent:
        nonlocal node
        node = next(nodes)
        node.agent().tick(CA)
        return node.agent(before=stop)

    for _ in killed_at_each_change(make, lambda agent: agent.remove()):
        successor = node.agent(pod="pod-2" if next_is == "another pod" else "pod-1")
        if next_is != "SIGTERM":
            assert successor.tick(CA)
            assert node.trusts()
            assert len(node.restarts) == restarts
        successor.remove()
        assert node.tree() == original


@pytest.mark.parametrize("ca", [OTHER_CA, CA + OTHER_CA])
def test_killed_while_it_rotates(case: tuple[Iterator[FixtureNode], int], ca: str) -> None:
    nodes, restarts = case
    node = next(nodes)
    original = node.tree()

    def make(stop: Stop) -> Agent:
        nonlocal node
        node = next(nodes)
        node.agent().tick(CA)
        return node.agent(before=stop)

    for _ in killed_at_each_change(make, lambda agent: agent.tick(ca)):
        assert node.trusts(CA) or node.trusts(ca), "never neither of them"
        successor = node.agent()
        assert successor.tick(ca)
        assert node.trusts(ca)
        assert len(node.restarts) == restarts
        successor.remove()
        assert node.tree() == original


@pytest.mark.parametrize("next_is", ["the same pod", "SIGTERM"])
def test_killed_while_the_host_changes(case: tuple[Iterator[FixtureNode], int], next_is: str) -> None:
    """No folder of a host is without its CA at any time; with inline mirrors there is one host only."""
    nodes, restarts = case
    node = next(nodes)
    original = node.tree()
    mirrors = "mirrors" in str(original)

    def make(stop: Stop) -> Agent:
        nonlocal node
        node = next(nodes)
        node.agent().tick(CA)
        node.end_pods("pod-1")
        return node.agent(pod="pod-2", host="new.example", before=stop)

    for _ in killed_at_each_change(make, lambda agent: agent.tick(CA)):
        successor = node.agent(pod="pod-2", host="new.example")
        if next_is != "SIGTERM":
            assert mirrors or node.trusts()
            assert successor.tick(CA)
            assert mirrors or node.trusts()
            assert node.trusts(CA, "new.example")
            assert len(node.restarts) <= restarts + mirrors
            for _ in range(3):
                node.clock += HOST_KEPT
                assert successor.tick(CA)
            assert not node.trusts()
        successor.remove()
        assert node.tree() == original


EVENTS = (
    *("up", "tick", "rollout", "settings", "delete pod", "kill", "destroy"),
    *("reboot", "runtime", "wipe", "comment", "folder", "no folder"),
)


@pytest.mark.parametrize("seed", range(100))
def test_any_order_of_events_ends_well(seed: int, tmp_path: Path) -> None:
    """Stacks come, roll out, change their host, lose pods, are killed and go.

    The runtime and the node restart in between, and an administrator edits the runtime's configuration.
    """
    dice = random.Random(seed)
    version, config, _ = CASES[dice.choice(list(CASES))]
    his = config
    node = FixtureNode(tmp_path, version, files={} if config is None else {CONFIG: config})
    node.write("/etc/containerd/certs.d/other.example/ca.crt", OTHER_CA)
    original = node.tree()
    hosts = {"a": HOST, "b": "registry-b.10-99-0-201.nip.io", "c": "registry-c.10-99-0-202.nip.io"}
    agents: dict[str, Agent] = {}
    pods = iter(f"pod-{number}" for number in range(1000))
    outside = 0

    def start(owner: str, pod: str, stop: Stop | None = None) -> Agent:
        return node.agent(owner, pod, hosts[owner], before=stop)

    def tick(agent: Agent) -> None:
        assert agent.tick(CA)

    for _ in range(dice.randint(5, 30)):
        owner = dice.choice(list(hosts))
        event = dice.choice(EVENTS)
        if event == "up" and owner not in agents:
            agents[owner] = start(owner, next(pods))
            tick(agents[owner])
        elif event == "tick" and owner in agents:
            tick(agents[owner])
        elif event == "rollout" and owner in agents:
            old, agents[owner] = agents[owner], start(owner, next(pods))
            tick(agents[owner])
            assert not old.remove()
        elif event == "settings" and owner in agents:
            hosts[owner] = f"registry-{owner}-{dice.random()}.example"
            old, agents[owner] = agents[owner], start(owner, next(pods))
            tick(agents[owner])
            assert not old.remove()
            outside += 1  # inline mirrors need a restart for each host
        elif event == "delete pod" and owner in agents:
            assert agents[owner].remove()
            agents[owner] = start(owner, next(pods))
            tick(agents[owner])
        elif event == "kill" and owner in agents:
            pod = agents[owner].settings.pod
            killed = start(owner, pod, killer(dice.randint(0, 12)))
            try:
                killed.tick(dice.choice([CA, OTHER_CA]))
                killed.remove()
            except Killed:
                pass
            agents[owner] = start(owner, pod)
            tick(agents[owner])
        elif event == "destroy" and owner in agents:
            assert agents.pop(owner).remove()
        elif event == "reboot":
            node.boot()
            outside += 1
            agents = {owner: start(owner, agent.settings.pod) for owner, agent in agents.items()}
        elif event == "runtime":
            node.start_runtime()
            outside += 1
        elif event == "wipe" and owner in agents:
            for file in (node.root / "etc/containerd/certs.d").glob(f"{hosts[owner]}/*"):
                file.unlink()
            tick(agents[owner])
        elif event == "comment" and agents and his is not None:
            for agent in agents.values():
                tick(agent)
            his += "# a comment of the administrator\n"
            node.write(CONFIG, (node.read(CONFIG) or "") + "# a comment of the administrator\n")
        elif event in ("folder", "no folder") and version < "2":
            # Each time it is another content: the same one again would be something that reverts our change for ever.
            his = (MOVED if event == "folder" else DEFAULT_1_6) + f"# {dice.random()}\n"
            node.write(CONFIG, his)
            node.start_runtime()
            outside += 1
    for agent in agents.values():
        tick(agent)
    for owner in agents:
        assert node.trusts(CA, hosts[owner]), owner
    needed = 3 if config and "mirrors" in config and "config_path" not in config else 1
    assert len(node.restarts) <= needed * (outside + 1)
    for agent in agents.values():
        assert agent.remove()
    assert node.tree() == original | ({} if his is None else {CONFIG: f"100644 {his}"})


def _stable(node: FixtureNode) -> dict[str, str]:
    """The tree without what differs from run to run: process ids."""
    return {path: "" if "/config-" in path else text for path, text in node.tree().items()}
