"""The hand-over waits until every node with a ready agent has the new CA, and takes none away."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pulumi
import pytest

from tests.unit.trust.agent.fixture_node import CA, OTHER_CA
from trust import handover, listening
from trust.agent.certificates import fingerprints
from trust.agent.outcome import READY, Outcome
from trust.handover import both, hand_over, has

NEW, OLD = CA, OTHER_CA


def ready(*certificates: str) -> str:
    prints = [each for pem in certificates for each in fingerprints(pem)]
    return Outcome(READY, "reads the CA", {"trusted": prints}).line()


@dataclass
class Nodes:
    """A cluster whose agents write what a test says into their logs, one look after the other."""

    logs: dict[str, list[str | Exception]]
    present: str | None = OLD
    """What the ConfigMap holds; None: there is none."""
    unready: tuple[str, ...] = ()
    agents: bool = True
    """Whether there are agents, and not somebody else who makes the nodes trust the CA."""
    asked: list[str] = field(default_factory=list[str])
    put: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list[tuple[str, str, Mapping[str, str]]])

    def ask(self, path: str, **_: str) -> str:
        self.asked.append(path)
        if "/configmaps/" in path:
            if self.present is None:
                raise LookupError(path)
            return json.dumps({"data": {"ca.crt": self.present}})
        if path.endswith("/log"):
            left = self.logs[path.split("/")[-2].removeprefix("trust-")]
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Exception):
                raise found
            return found
        conditions = {name: "False" if name in self.unready else "True" for name in self.logs}
        return json.dumps(
            {
                "items": [
                    {
                        "metadata": {"name": f"trust-{name}"},
                        "spec": {"nodeName": name, "initContainers": [{"name": "agent"}] if self.agents else []},
                        "status": {"conditions": [{"type": "Ready", "status": status}]},
                    }
                    for name, status in conditions.items()
                ]
            }
        )

    def put_data(self, namespace: str, config_map: str, data: Mapping[str, str]) -> None:
        self.put.append((namespace, config_map, data))
        self.present = data["ca.crt"]


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(pulumi.log, "info", lines.append)
    monkeypatch.setattr(handover, "_INTERVAL", 0.01)
    return lines


def hand(cluster: Nodes, wanted: str = NEW + OLD) -> None:
    asyncio.run(hand_over(cluster, "registry", wanted))


def test_nodes_get_both_and_are_waited_for(said: list[str]) -> None:
    cluster = Nodes({"node-a": [ready(OLD), ready(NEW, OLD)], "node-b": [f"wrote a file\n{ready(OLD, NEW)}"]})
    hand(cluster)
    assert cluster.put == [("registry", "private-registry", {"ca.crt": NEW + OLD})]
    [line] = said
    assert "Waiting for the new CA beside the old one on node-a" in line
    # An agent that has said so is not asked again.
    assert [path for path in cluster.asked if path.endswith("trust-node-b/log")] == [
        "/api/v1/namespaces/registry/pods/trust-node-b/log"
    ]


def test_what_a_run_before_has_given_to_the_nodes_is_not_taken_away() -> None:
    cluster = Nodes({"node-a": [ready(NEW, OLD)]}, present=OLD + NEW)
    hand(cluster, NEW)
    assert cluster.present == NEW + OLD
    assert both(NEW, NEW) == NEW


def test_a_run_that_was_killed_is_gone_on_with() -> None:
    cluster = Nodes({"node-a": [ready(NEW, OLD)]}, present=NEW + OLD)
    hand(cluster)
    assert cluster.put == []


def test_without_the_config_map_there_is_nobody_to_wait_for() -> None:
    cluster = Nodes({"node-a": [ready(OLD)]}, present=None)
    hand(cluster)
    assert cluster.put == []


def test_nodes_whose_agent_is_not_ready_are_not_waited_for() -> None:
    hand(Nodes({"node-a": [ready(NEW, OLD)], "node-b": [ready(OLD)]}, unready=("node-b",)))


def test_a_node_that_does_not_get_it_ends_the_wait_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_TIMEOUT", 0.05)
    with pytest.raises(pulumi.RunError) as caught:
        hand(Nodes({"node-a": [ready(OLD)], "node-b": [ready(NEW, OLD)]}))
    text = str(caught.value)
    assert text.startswith("node-a: the agent has not got the new CA within 0.05 s, so its certificate is not served")
    assert "kubectl delete pods -n registry -l app.kubernetes.io/name=trust, then pulumi up" in text


def test_whoever_may_not_read_logs_waits_as_long_as_a_kubelet_may_take(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(handover, "PROPAGATION", 0.1)
    since = time.monotonic()
    hand(Nodes({"node-a": [PermissionError("pods/log")]}))
    assert time.monotonic() - since > 0.1
    assert "may not read the agents' logs" in said[0]


def test_kubelets_that_the_api_server_cannot_reach_get_the_time_that_a_kubelet_may_take(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    monkeypatch.setattr(handover, "PROPAGATION", 1.0)
    since = time.monotonic()
    hand(Nodes({"node-a": [ConnectionError("i/o timeout")], "node-b": [ready(NEW, OLD)]}))
    assert time.monotonic() - since > 1.0
    assert "on node-a: the kubelets bring it within two minutes; no kubelet gives a log" in said[0]


def test_a_node_that_says_that_it_lacks_the_ca_is_waited_for_beside_one_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "PROPAGATION", 0.0)
    monkeypatch.setattr(handover, "_TIMEOUT", 0.1)
    with pytest.raises(pulumi.RunError, match="^node-b: the agent has not got the new CA"):
        hand(Nodes({"node-a": [ConnectionError("i/o timeout")], "node-b": [ready(OLD)]}))


@dataclass
class Slow(Nodes):
    """A cluster that takes a second for each log. Kubelets bring the CA in a hundred seconds, or never."""

    now: float = 0.0
    without: tuple[str, ...] = ()

    def monotonic(self) -> float:
        return self.now

    def ask(self, path: str, **query: str) -> str:
        if not path.endswith("/log"):
            return super().ask(path, **query)
        self.now += 1.0
        has_it = self.now > 100 and path.split("/")[-2].removeprefix("trust-") not in self.without
        self.asked.append(path)
        return ready(NEW, OLD) if has_it else ready(OLD)


@pytest.mark.parametrize("count", [20, 120, 400])
def test_no_node_is_left_unasked_however_long_it_takes_to_ask_them_all(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What an agent said before the time was over is no fault of its node."""
    names = [f"n{each:03}" for each in range(count)]
    cluster = Slow({name: [] for name in names}, without=(names[3], names[-1]))
    for module in (handover, listening):
        monkeypatch.setattr(module, "time", cluster)
    monkeypatch.setattr(handover, "_INTERVAL", 0.0)
    monkeypatch.setattr(handover, "_PER_SECOND", 1e6)
    monkeypatch.setattr(listening, "_AT_ONCE", 1)
    with pytest.raises(pulumi.RunError, match=f"^{names[3]}, {names[-1]}: the agent has not got the new CA"):
        hand(cluster)


def test_a_request_that_fails_is_said_once_and_outlasted(said: list[str]) -> None:
    class Restarting(Nodes):
        left = 3

        def ask(self, path: str, **query: str) -> str:
            if path.endswith("/pods"):
                assert query["resourceVersion"] == "0", "the list is not read from etcd"
                self.left -= 1
                if self.left >= 0:
                    raise (ConnectionError, PermissionError, LookupError)[self.left]("too many requests")
            return super().ask(path, **query)

    cluster = Restarting({"node-a": [ready(NEW, OLD)]})
    hand(cluster)
    assert said == ["The cluster does not say which nodes have the new CA: too many requests"]
    assert cluster.left == -1


def test_a_cluster_that_does_not_answer_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Nodes):
        def ask(self, path: str, **query: str) -> str:
            if path.endswith("/pods"):
                raise ConnectionError("i/o timeout")
            return super().ask(path, **query)

    monkeypatch.setattr(handover, "_TIMEOUT", 0.05)
    with pytest.raises(pulumi.RunError, match="its certificate is not served yet: i/o timeout"):
        hand(Silent({"node-a": [ready(OLD)]}))


def test_of_many_nodes_the_first_ones_are_named(said: list[str]) -> None:
    hand(Nodes({f"n{each:03}": [ready(OLD), ready(NEW, OLD)] for each in range(100)}))
    [line] = said
    assert "n009 and 90 more: the kubelets" in line


@pytest.mark.parametrize("error", [ConnectionError, PermissionError])
def test_a_cluster_that_refuses_or_is_silent_is_named(error: Callable[[str], Exception]) -> None:
    class Refusing(Nodes):
        def put_data(self, *_: object) -> None:
            raise error("configmaps is forbidden")

    with pytest.raises(pulumi.RunError, match="its certificate is not served yet: configmaps is forbidden"):
        hand(Refusing({"node-a": [ready(OLD)]}))


def test_the_last_ready_of_a_log_counts() -> None:
    wanted = fingerprints(NEW)
    assert has("\n".join([ready(OLD), ready(NEW), Outcome("NO_CONNECTION", "lost").line()]), wanted)
    assert not has("\n".join([ready(NEW), ready(OLD)]), wanted)
    assert not has("no outcome", wanted)


def test_a_node_that_has_lost_the_registry_and_reaches_it_again_still_has_what_it_had() -> None:
    again = Outcome(READY, "The registry answers again.").line()
    assert has("\n".join([ready(NEW), Outcome("NO_CONNECTION", "lost").line(), again]), fingerprints(NEW))
    assert not has("\n".join([ready(NEW), ready(OLD), again]), fingerprints(NEW))
    assert not has(again, fingerprints(NEW))


def test_nodes_without_an_agent_get_it_from_somebody_else_and_are_not_waited_for() -> None:
    cluster = Nodes({"node-a": [ready(OLD)]}, agents=False)
    hand(cluster)
    assert cluster.present == NEW + OLD
    assert not [path for path in cluster.asked if path.endswith("/log")]
