"""The logs of agents whose kubelets cannot be reached take a small part of a wait, and hide no other log."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from trust import listening
from trust.listening import Listener


@dataclass
class Kubelets:
    """A cluster whose clock a test owns. Kubelets that cannot be reached take a time to say so."""

    dead: Callable[[str], bool]
    takes: float
    """Seconds until the API server says that it does not reach one; all at one time pass together."""
    now: float = 0.0
    asked: list[str] = field(default_factory=list[str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, path: str, **_: str) -> str:
        pod = path.split("/")[-2]
        with self._lock:
            self.asked.append(pod)
            if self.dead(pod):
                self.now += self.takes / 16
                raise ConnectionError("i/o timeout")
        return f"log of {pod}"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Kubelets:
    made = Kubelets(dead=lambda _: True, takes=15.0)
    monkeypatch.setattr(listening.time, "monotonic", lambda: made.now)
    return made


def test_a_thousand_kubelets_that_cannot_be_reached_take_a_fifth_of_the_time_at_most(cluster: Kubelets) -> None:
    listener, spent = Listener(cluster, "ns"), 0.0
    pods = [f"t{each:04}" for each in range(1000)]
    while cluster.now < 600:
        began = cluster.now
        assert listener.read(pods) == {}
        assert cluster.now - began <= 30
        spent += cluster.now - began
        cluster.now += 1.0  # the wait's own interval
    assert spent < 600 / 4


@pytest.mark.parametrize(("count", "rate"), [(30, 0.3), (1000, 20.0)])
def test_nodes_that_join_behind_a_firewall_take_no_larger_part_of_the_time(
    cluster: Kubelets, count: int, rate: float
) -> None:
    listener, spent = Listener(cluster, "ns"), 0.0
    while cluster.now < 600:
        began = cluster.now
        assert listener.read([f"t{each:04}" for each in range(min(count, int(began * rate)))]) == {}
        spent += cluster.now - began
        cluster.now += 1.0
    assert spent < 600 / 4


def test_one_kubelet_that_cannot_be_reached_keeps_no_log_away_that_has_come_before(cluster: Kubelets) -> None:
    cluster.dead = lambda pod: pod == "t2"
    listener = Listener(cluster, "ns")
    assert listener.read(["t1"]).keys() == {"t1"}
    assert listener.read(["t1", "t2"]).keys() == {"t1"}
    assert listener.read(["t1", "t2", "t3"]).keys() == {"t1"}
    cluster.now += 61.0
    assert listener.read(["t1", "t2", "t3"]).keys() == {"t1", "t3"}


def test_where_not_all_logs_are_read_at_once_the_next_time_begins_with_the_others(cluster: Kubelets) -> None:
    class Slow(Kubelets):
        def ask(self, path: str, **query: str) -> str:
            with self._lock:
                cluster.now += 0.1
            return super().ask(path, **query)

    slow, pods = Slow(dead=lambda _: False, takes=0.0), [f"t{each:04}" for each in range(400)]
    listener = Listener(slow, "ns")
    heard = [listener.read(pods).keys() for _ in range(3)]
    assert all(len(each) < 150 for each in heard)
    assert len(heard[0] | heard[1] | heard[2]) == sum(map(len, heard))


def test_a_log_that_can_be_had_is_read_behind_many_that_cannot(cluster: Kubelets) -> None:
    cluster.dead = lambda pod: pod < "t0100"
    listener, heard = Listener(cluster, "ns"), set[str]()
    pods = [f"t{each:04}" for each in range(110)]
    for _ in range(12):  # each time ten more seconds of kubelets that do not answer are known
        heard |= listener.read(pods).keys()
        cluster.now += 61.0
    assert heard == {f"t{each:04}" for each in range(100, 110)}


def test_the_logs_that_count_most_are_read_first_and_one_that_fails_at_once_is_soon_read_again(
    cluster: Kubelets,
) -> None:
    cluster.takes = 0.0
    listener = Listener(cluster, "ns")
    listener.read(["a", "b", "c"], first=["c"])
    assert cluster.asked[0] == "c"
    cluster.dead = lambda _: False
    assert listener.read(["a", "b", "c"]) == {"a": "log of a", "b": "log of b", "c": "log of c"}


def test_whoever_may_not_read_one_log_asks_for_no_further_one(cluster: Kubelets) -> None:
    class Refusing(Kubelets):
        def ask(self, path: str, **query: str) -> str:
            self.asked.append(path)
            raise PermissionError("pods/log")

    refusing = Refusing(dead=lambda _: True, takes=0.0)
    listener = Listener(refusing, "ns")
    assert listener.read([f"t{each}" for each in range(1000)]) == {}
    assert listener.forbidden
    assert len(refusing.asked) <= 16
