"""Which running cluster `up` keeps: the state of stacks goes with a cluster, so none is removed without need."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from local_cluster import (
    addons,
    cluster,
    control_plane,
    host_machine,
    images,
    network,
    nodes,
    processes,
    programs,
    rootfs,
)
from local_cluster.errors import ClusterError

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns")


class Machine:
    """The machine of a cluster that is complete, and what was done with it."""

    def __init__(self, key: Path) -> None:
        self.key = key
        self.alive = dict.fromkeys((*CONTROL_PLANE, *nodes.DEFAULT), True)
        self.answers: Iterator[bool] = iter([True] * 99)
        self.network = True
        self.done: list[str] = []

    def recorded(self) -> dict[str, processes.Process]:
        """Records of processes: nobody has the process 0, and the others are told by their number."""
        return {name: processes.Process(pid=int(alive), start_time=0) for name, alive in self.alive.items()}

    def start(self, _etcd: Path, *names: str) -> None:
        """Start components."""
        self.done += [f"start {name}" for name in names]
        self.alive |= dict.fromkeys(names, True)

    def remove(self) -> None:
        """Remove the cluster."""
        self.done.append("remove")
        self.key.unlink(missing_ok=True)
        self.network = False

    def start_all(self, *_args: object, **_keywords: object) -> None:
        """Start a new cluster."""
        self.done.append("start all")
        self.network = True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "key")
    made.key.write_text("these files")
    monkeypatch.setattr(cluster, "_KEY", made.key)
    monkeypatch.setattr(cluster, "_key", lambda *_: "these files")
    monkeypatch.setattr(cluster, "_lock", nullcontext)
    monkeypatch.setattr(cluster, "_remove", made.remove)
    monkeypatch.setattr(cluster, "_start", made.start_all)
    monkeypatch.setattr(cluster, "_wait_nodes", lambda _: None)
    for module in (images, programs, rootfs):
        monkeypatch.setattr(module, "ensure", lambda *_: tmp_path)
    monkeypatch.setattr(host_machine, "check", lambda: None)
    monkeypatch.setattr(programs, "install_plugins", lambda _: None)
    monkeypatch.setattr(addons, "wait", lambda **_: None)
    monkeypatch.setattr(network, "exists", lambda: made.network)
    monkeypatch.setattr(processes, "recorded", made.recorded)
    monkeypatch.setattr(processes.Process, "alive", lambda process: process.pid == 1)
    monkeypatch.setattr(processes, "log_tail", lambda _: "its last words")
    monkeypatch.setattr(control_plane, "ready", lambda: next(made.answers))
    monkeypatch.setattr(control_plane, "start", made.start)
    monkeypatch.setattr(control_plane, "wait_dns", lambda: None)
    monkeypatch.setattr(nodes, "running", lambda: [name for name in nodes.DEFAULT if made.alive[name]])
    monkeypatch.setattr(nodes, "restart_node", lambda name: made.start(tmp_path, name))
    return made


def test_a_running_cluster_that_answers_late_is_kept(machine: Machine) -> None:
    machine.answers = iter([False, False, True])
    cluster.up()
    assert machine.done == []
    machine.answers = iter([False, False, True])
    cluster.require()


def test_what_has_ended_is_started_again_in_the_order_in_which_one_needs_the_other(machine: Machine) -> None:
    names = ("coredns", "node-b", "kube-apiserver", "etcd")
    machine.alive |= dict.fromkeys(names, False)
    with pytest.raises(ClusterError, match="etcd, kube-apiserver, coredns, node-b of the local cluster ended: `make"):
        cluster.require()
    cluster.up()
    assert machine.done == ["start etcd", "start kube-apiserver", "start coredns", "start node-b"]
    cluster.require()


def test_a_cluster_that_does_not_answer_is_left_as_it_is_with_its_stacks(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.answers = iter(lambda: False, True)
    bounded = control_plane.wait_ready
    monkeypatch.setattr(control_plane, "wait_ready", lambda **_: bounded(seconds=0.1))  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(ClusterError) as caught:
        cluster.up()
    for part in ("kube-apiserver was not ready after", "its last words", "with its stacks", "`make cluster-down`"):
        assert part in str(caught.value)
    assert machine.done == []
    assert machine.key.exists()
    with pytest.raises(ClusterError, match="kube-apiserver was not ready after"):
        cluster.require()


@pytest.mark.parametrize("why", ["other files", "not finished", "the machine was restarted"])
def test_any_other_cluster_is_removed_and_a_new_one_is_started(machine: Machine, why: str) -> None:
    match why:
        case "other files":
            machine.key.write_text("others")
        case "not finished":
            machine.key.unlink()
        case _:
            machine.network = False
    cluster.up()
    assert machine.done == ["remove", "start all"]
    assert machine.key.read_text() == "these files"


def test_no_cluster_is_one_sentence(machine: Machine) -> None:
    machine.remove()
    with pytest.raises(ClusterError, match="does not run: start it with `make cluster`"):
        cluster.require()


def test_an_interrupted_removal_leaves_nothing_that_is_taken_for_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_text("these files")
    monkeypatch.setattr(cluster, "_KEY", key)
    monkeypatch.setattr(cluster, "CLUSTER", tmp_path)

    def interrupted() -> dict[str, processes.Process]:
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "recorded", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster._remove()  # pyright: ignore[reportPrivateUsage]
    assert not key.exists()
