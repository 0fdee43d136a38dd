"""What goes on failing is tried ever more rarely, so that a fault that stays costs a node next to nothing."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, CONFIG, DEFAULT_1_6, OTHER_CA, FixtureNode, MakeNode, fault_of
from trust.agent.agent import Agent
from trust.agent.backoff import LONGEST, Backoff
from trust.agent.faults import Fault, Reason
from trust.agent.report import Reports

TEMPORARY = f"{os.path.dirname(CONFIG)}/.config.toml.private-registry-trust"


class Programs:
    """The node's programs, counted."""

    def __init__(self, node: FixtureNode) -> None:
        self.node, self.calls = node, list[tuple[str, ...]]()
        self.broken = ""
        """An argument with which none of them works."""

    def __call__(self, program: str, *arguments: str) -> tuple[int, str]:
        self.calls.append((program, *arguments))
        return (1, "no good") if self.broken in arguments else self.node.run(program, *arguments)


def ticks(node: FixtureNode, agent: Agent, minutes: int, ca: str = CA) -> None:
    """Let the agent look at the node every two seconds; it must not be ready."""
    for _ in range(minutes * 30):
        assert fault_of(agent, ca) is not None
        node.clock += 2


def until_ready(node: FixtureNode, agent: Agent, ca: str = CA) -> float:
    """How long (s) it takes."""
    start = node.clock
    while fault_of(agent, ca):
        node.clock += 2
        assert node.clock - start < 600
    return node.clock - start


def test_a_pause_is_a_quarter_of_the_time_of_failure_and_none_if_what_decides_has_changed() -> None:
    now, tried = 0.0, list[float]()
    backoff = Backoff(lambda: now)

    def attempt(given: str) -> None:
        with backoff.attempt(given):
            tried.append(now)
            raise Fault(Reason.DISK_FULL, "full")

    while now < 1200:
        with pytest.raises(Fault, match="full"):
            attempt("a")
        now += 2
    assert tried[:5] == [0, 2, 4, 6, 8]
    pauses = [after - before for before, after in zip(tried, tried[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST
    before = len(tried)
    with pytest.raises(Fault):
        attempt("b")
    assert len(tried) == before + 1
    with backoff.attempt("b"):
        tried.append(now)
    assert len(tried) == before + 2


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC])
def test_a_configuration_that_cannot_be_written_starts_no_timer_and_few_programs(
    make_node: MakeNode, error: int
) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    programs, full = Programs(node), True

    def before(operation: str, path: str) -> None:
        if full and (operation, path) == ("write", TEMPORARY):
            raise OSError(error, os.strerror(error), path)

    agent = node.agent(before=before, run=programs)
    ticks(node, agent, 4)
    assert "systemd-run" not in {call[0] for call in programs.calls}
    programs.calls.clear()
    ticks(node, agent, 4)
    assert 0 < len(programs.calls) <= 12
    node.write(CONFIG, (node.read(CONFIG) or "") + "# somebody's\n")  # what was wrong with the file may be right now
    programs.calls.clear()
    assert fault_of(agent) is not None
    assert programs.calls
    ticks(node, agent, 2)
    full = False
    assert until_ready(node, agent) <= LONGEST
    assert node.trusts()


def test_the_timer_stands_before_the_configuration_changes_and_after_it_could_be_written(make_node: MakeNode) -> None:
    node, events = make_node("1.6.20", DEFAULT_1_6), list[str]()

    def run(program: str, *arguments: str) -> tuple[int, str]:
        events.append(program)
        return node.run(program, *arguments)

    node.agent(before=lambda operation, path: events.append(f"{operation} {path}"), run=run).tick(CA)
    order = [events.index(event) for event in (f"write {TEMPORARY}", "systemd-run", f"rename {CONFIG}")]
    assert order == sorted(order)


def test_a_configuration_with_which_the_runtime_would_not_come_back_is_asked_about_rarely(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    node.accepts = lambda _node: False
    agent = node.agent()
    ticks(node, agent, 10)
    node.dumps.clear()
    ticks(node, agent, 10)
    assert 0 < len(node.dumps) <= 12
    node.accepts = lambda _node: True
    assert until_ready(node, agent) <= LONGEST


def test_a_timer_that_cannot_be_stopped_is_tried_rarely(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    programs = Programs(node)

    def until_it_runs(program: str, *arguments: str) -> tuple[int, str]:
        programs.broken = "show" if program == "systemd-run" else programs.broken  # from the moment that it is started
        return programs(program, *arguments)

    agent = node.agent(run=until_it_runs)
    ticks(node, agent, 10)
    programs.calls.clear()
    ticks(node, agent, 10)
    assert 0 < len(programs.calls) <= 24
    programs.broken = ""
    assert until_ready(node, agent) <= LONGEST


def test_a_runtime_that_is_not_found_is_searched_for_rarely_and_found_again(make_node: MakeNode) -> None:
    node, asked = make_node(), list[str]()
    listener = node.listener

    def counted(path: str) -> int:
        asked.append(path)
        return listener(path)

    node.listener = counted
    node.end(node.pid)
    agent = node.agent()
    ticks(node, agent, 10)
    asked.clear()
    ticks(node, agent, 10)
    assert 0 < len(asked) <= 12
    node.pid += 1
    node.process(node.pid, node.arguments, start=5)
    assert until_ready(node, agent) <= LONGEST


def refusing(folder: str, tried: list[str]) -> Callable[[str, str], None]:
    def before(operation: str, path: str) -> None:
        if operation in ("mkdir", "write") and path.startswith(folder):
            tried.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return before


def test_a_certificate_that_does_not_fit_on_the_disk_is_tried_rarely_and_another_one_at_once(
    make_node: MakeNode,
) -> None:
    node, tried = make_node(), list[str]()
    agent = node.agent(before=refusing("/etc", tried))
    ticks(node, agent, 10)
    tried.clear()
    ticks(node, agent, 10)
    assert 0 < len(tried) <= 12
    tried.clear()
    assert fault_of(agent, OTHER_CA) is not None
    assert tried


def test_a_file_that_the_running_runtime_does_not_read_is_tried_rarely(make_node: MakeNode) -> None:
    node, tried = make_node("2.2.0", None), list[str]()
    agent = node.agent(before=refusing("/etc/docker", tried))
    for _ in range(300):
        agent.tick(CA)
        node.clock += 2
    assert 0 < len(tried) <= 11
    assert node.trusts()


def test_what_the_probe_looks_for_is_written_once(make_node: MakeNode, tmp_path: Path) -> None:
    agent, ready = make_node().agent(), tmp_path / "ready-file"
    reports = Reports(agent, ready, tmp_path / "none", lambda _line: None)
    agent.tick(CA)
    reports.ready()
    os.utime(ready, (1, 1))
    reports.ready()
    assert ready.stat().st_mtime == 1
