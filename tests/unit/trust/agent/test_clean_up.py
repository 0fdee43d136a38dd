"""The last thing an agent does: each step is tried by itself, again and again, and what stays is said."""

import errno
import hashlib
import os
import signal
import subprocess
import time
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
    FixtureNode,
    MakeNode,
    wait_for,
)
from trust.agent import __main__ as process
from trust.agent.faults import Left

STATE = "/var/lib/private-registry-trust"


def failing(error: int, *paths: str) -> Callable[[str, str], None]:
    """Lets every change of these paths fail."""

    def before(_operation: str, path: str) -> None:
        if path in paths:
            raise OSError(error, os.strerror(error), path)

    return before


def test_m6_a_configuration_that_cannot_be_restored_keeps_no_file_of_ours(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.agent().tick(CA)
    agent = node.agent(before=failing(errno.ENOSPC, f"{os.path.dirname(CONFIG)}/.config.toml.private-registry-trust"))
    for _ in range(2):
        with pytest.raises(Left, match=r"/etc/containerd/config\.toml still has our key: No space left on device"):
            agent.remove()
        assert node.read(CERTIFICATE) is None
        assert not (node.root / CERTS_D[1:]).exists()
        assert [path.name for path in (node.root / STATE[1:]).iterdir()] == ["config-" + change_name()]
    assert node.agent().remove() is False, "its marker is gone"
    assert node.tree() == before


def change_name() -> str:
    return hashlib.sha256(CONFIG.encode()).hexdigest()[:8]


def test_m6_a_file_that_cannot_be_removed_keeps_nothing_else_and_stays_known(make_node: MakeNode) -> None:
    node = make_node("2.4.2", EXPLICIT.replace(CERTS_D, f"{CERTS_D}:/etc/docker/certs.d"))
    before = node.tree()
    node.agent().tick(CA)
    agent = node.agent(before=failing(errno.EROFS, CERTIFICATE))
    with pytest.raises(Left, match=f"{CERTIFICATE} is still there: Read-only file system"):
        agent.remove()
    assert [path for path in node.tree() if path.endswith(".crt")] == [CERTIFICATE]
    assert node.read(f"{STATE}/pr-42.json") is not None, "another stack's agent can remove it later"
    assert node.agent().remove()
    assert node.tree() == before


def test_m6_a_configuration_that_is_no_text_any_more_is_left_and_all_else_goes(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    (node.root / CONFIG[1:]).write_bytes(b"\xff")
    assert agent.remove()
    assert (node.root / CONFIG[1:]).read_bytes() == b"\xff"
    left = {str(path.relative_to(node.root)) for top in ("etc", "var/lib") for path in (node.root / top).rglob("*")}
    assert left == {"etc/containerd", CONFIG[1:]}


def test_m6_a_lock_that_another_agent_holds_is_no_reason_to_say_kept(
    make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node()
    before = node.tree()
    agent, other = node.agent(), node.agent("pr-43")
    agent.tick(CA)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with other._state.lock(seconds=0), pytest.raises(Left, match="another agent"):  # pyright: ignore[reportPrivateUsage]
        agent.remove()
    assert agent.remove()
    assert node.tree() == before


def test_m6_what_a_stack_could_not_take_out_of_a_configuration_another_one_takes_out(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.agent().tick(CA)
    other = node.agent("pr-43", "pod-43", "registry-pr-43.example")
    other.tick(CA)
    temporary = f"{STATE}/.config-{change_name()}.private-registry-trust"
    with pytest.raises(Left):
        node.agent(before=failing(errno.ENOSPC, temporary)).remove()
    other.tick(CA)
    node.clock += 60
    other.tick(CA)
    assert node.trusts(CA, "registry-pr-43.example")
    assert other.remove()
    assert node.tree() == before


def test_m6_the_process_tries_until_it_works_and_says_what_stays(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    node = FixtureNode(tmp_path / "node", files={CONFIG: EXPLICIT})
    before = node.tree()
    running = start(node)
    wait_for(tmp_path / "ready", running)
    with node.agent("pr-43")._state.lock(seconds=5) as held:  # pyright: ignore[reportPrivateUsage]
        assert held
        running.send_signal(signal.SIGTERM)
        time.sleep(7)
        assert running.poll() is None
    output, _ = running.communicate(timeout=10)
    assert (running.returncode, output.splitlines()[-1]) == (0, "cleaned")
    assert "not cleaned yet: nothing was removed: another agent" in output
    assert node.tree() == before


def test_m6_what_stays_is_said_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    class Stuck:
        def remove(self) -> bool:
            raise Left("all of it")

    assert process._clean_up(Stuck()) == 1  # pyright: ignore
    assert process.CLEAN_UP_FOR < next(now) < process.CLEAN_UP_FOR + 5
    assert capsys.readouterr().out == "not cleaned yet: all of it\nnot cleaned: all of it\n"


def test_l16_a_damaged_record_of_the_original_is_refused(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    changed = node.read(CONFIG)
    record = f"{STATE}/config-{change_name()}"
    text = node.read(record) or ""
    for damaged in (text.replace("oom_score", "oom_scare"), text[: len(text) // 2], "", text + " "):
        node.write(record, damaged)
        for again in (agent, node.agent()):
            with pytest.raises(Exception, match=f"CONFIG_INVALID: {record}.* is damaged"):
                again.tick(CA)
        assert node.read(CONFIG) == changed, "nothing takes it for the original"
    with pytest.raises(Left, match=f"{record}.* is damaged"):
        agent.remove()
    assert node.read(CERTIFICATE) is None
    assert (node.read(CONFIG), HOST in str(node.tree())) == (changed, False)
    node.write(record, text)
    node.agent().remove()
    assert node.read(CONFIG) == DEFAULT_1_6
