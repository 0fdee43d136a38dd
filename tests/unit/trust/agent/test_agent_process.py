"""The agent runs as a process of its own, as in the pod, and its reports, log and reaction to signals are checked."""

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.unit.trust.agent.fixture_node import CA, EXPLICIT, HOST, FixtureNode, fault_of, wait_for
from trust.agent import __main__ as main_module
from trust.agent import outcome
from trust.agent.__main__ import log
from trust.agent.client import Client
from trust.agent.faults import Fault, Reason, Stopped
from trust.agent.report import Reports


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ready_then_cleaned(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    node = FixtureNode(tmp_path / "node", files={"/etc/containerd/config.toml": EXPLICIT})
    before = node.tree()
    (tmp_path / "ready").touch()  # left by an agent that was killed
    process = start(node)
    wait_for(tmp_path / "status.json", process)
    wait_for(tmp_path / "ready", process)
    assert node.trusts()
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["reason"], status["runtime"], status["version"]) == ("READY", "containerd", "1.7.24")
    assert status["roots"] == [f"/etc/containerd/certs.d/{HOST}"]
    message = outcome.last((tmp_path / "termination-log").read_text())
    assert message is not None
    assert (message.reason, message.sentence) == ("READY", status["sentence"])
    asked = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    assert time.monotonic() - asked < 3
    assert (process.returncode, output.splitlines()[-1]) == (0, "cleaned")
    assert node.tree() == before


def test_younger_pod_keeps_the_files(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    node = FixtureNode(tmp_path / "node", files={"/etc/containerd/config.toml": EXPLICIT})
    process = start(node)
    wait_for(tmp_path / "ready", process)
    node.agent(pod="pod-2").tick(CA)
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert output.splitlines()[-1] == "kept"
    assert node.trusts()


def test_fault_is_told_once_and_the_process_goes_on(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    node = FixtureNode(tmp_path / "node", runtime="frakti", files={"/etc/containerd/config.toml": "version = = 2"})
    process = start(node)
    wait_for(tmp_path / "status.json", process)
    time.sleep(2.5)  # one more look
    assert not (tmp_path / "ready").exists()
    node.write("/etc/containerd/config.toml", EXPLICIT)
    os.utime(node.root / "etc/containerd/config.toml", (1, 1))  # as if the runtime had been started with it
    wait_for(tmp_path / "ready", process)
    process.terminate()
    output, _ = process.communicate(timeout=10)
    assert output.count("CONFIG_INVALID") == 1
    ended = outcome.last(output)
    assert ended is not None
    assert ended.reason == "READY"


def test_lost_connection_is_logged_once_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = FixtureNode(tmp_path / "node", files={"/etc/containerd/config.toml": EXPLICIT}).agent()
    reports = Reports(agent, tmp_path / "ready", tmp_path / "no-termination-log", log)
    agent.tick(CA)
    reports.ready()

    def down(_host: str, _ca: str, _client: Client) -> None:
        raise Fault(Reason.NO_CONNECTION, "down", error="no route")

    up, agent.check = agent.check, down
    reports.connection(CA)
    reports.connection(CA)
    agent.check = up
    reports.connection(CA)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        '{"reason": "NO_CONNECTION", "sentence": "down", "details": {"error": "no route"}}',
        "the node stays configured",
        '{"reason": "READY", "sentence": "The registry answers again.", "details": {}}',
    ]
    assert (tmp_path / "ready").exists()


def test_a_connection_that_is_still_lost_is_the_last_word_after_another_fault_has_passed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = FixtureNode(tmp_path / "node", files={"/etc/containerd/config.toml": EXPLICIT}).agent()
    reports = Reports(agent, tmp_path / "ready", tmp_path / "no-termination-log", log)
    agent.tick(CA)
    reports.ready()

    def down(_host: str, _ca: str, _client: Client) -> None:
        raise Fault(Reason.NO_CONNECTION, "down")

    agent.check = down
    reports.connection(CA)
    reports.fault(Fault(Reason.RUNTIME_UNKNOWN, "It restarts."))
    reports.ready()
    reports.connection(CA)
    assert not reports.reachable
    found = outcome.last(capsys.readouterr().out)
    assert found is not None
    assert found.reason == "NO_CONNECTION"


def looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_down: Callable[[int], bool], until: float
) -> list[float]:
    """The times at which an agent asks for the registry that is down at some of these questions, until some time."""
    node = FixtureNode(tmp_path / "node", files={"/etc/containerd/config.toml": EXPLICIT})
    now, checks = [0.0], list[float]()

    def check(_host: str, _ca: str, _client: Client) -> None:
        checks.append(now[0])
        if is_down(len(checks)):
            raise Fault(Reason.NO_CONNECTION, "down")

    def wait(seconds: float) -> None:
        now[0] += seconds
        if now[0] > until:
            raise Stopped

    monkeypatch.setattr(main_module, "pause", wait)
    monkeypatch.setattr(main_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    agent = node.agent()
    agent.check = check
    reports = Reports(agent, tmp_path / "ready", tmp_path / "no-termination-log", log)
    (tmp_path / "ca.crt").write_text(CA)
    with pytest.raises(Stopped):
        main_module._look_again_and_again(agent, reports, tmp_path / "ca.crt")  # pyright: ignore
    return checks


def test_a_lost_registry_is_asked_for_again_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked_at(tmp_path, monkeypatch, lambda number: number in (2, 3), 90) == [0, 32, 38, 44, 76]


def test_a_registry_that_starts_is_reached_as_soon_as_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked_at(tmp_path, monkeypatch, lambda number: number < 4, 20) == [0, 0.5, 1, 1.5]


def test_a_registry_that_does_not_come_is_asked_for_rarely_after_half_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked_at(tmp_path, monkeypatch, lambda _: True, 35) == [*(each / 2 for each in range(61)), 32, 34]


@pytest.mark.parametrize(
    ("system", "fix"),
    [
        ("talos", "machine.registries.config"),
        ('"bottlerocket"', "settings.pki"),
        ("cos", "privateRegistryAccessConfig"),
        ("flatcar", "CONTAINERD_CONFIG=/etc/containerd/config.toml"),
        ("nixos", "virtualisation.containerd.settings"),
        ("debian", "no pod can configure such a node"),
    ],
)
def test_read_only_node_names_the_setting_of_its_vendor(tmp_path: Path, system: str, fix: str) -> None:
    files = {"/etc/os-release": f"NAME=x\nID={system}\n", "/etc/containerd/config.toml": EXPLICIT}
    node = FixtureNode(tmp_path, files=files)

    def read_only(operation: str, path: str) -> None:
        if path.startswith("/etc"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"{node.proc}/1/root{path}")

    before = node.tree()
    agent = node.agent(before=read_only)
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.READ_ONLY
    assert "/etc/containerd/certs.d on node node-a cannot be written (Read-only file system)" in fault.sentence
    assert fix in fault.sentence
    agent.remove()
    assert node.tree() == before


@pytest.mark.parametrize(
    ("error", "reason", "sentence"),
    [
        (errno.EROFS, Reason.READ_ONLY, "(Read-only file system); no pod can configure such a node"),
        (errno.ENOSPC, Reason.DISK_FULL, "(No space left on device); free some space or inodes"),
        (errno.EDQUOT, Reason.DISK_FULL, "(Disk quota exceeded); free some space or inodes"),
        (errno.EACCES, Reason.NOT_WRITABLE, "(Permission denied); look for an immutable attribute"),
        (errno.EPERM, Reason.NOT_WRITABLE, "(Operation not permitted); look for an immutable attribute"),
        (errno.EBUSY, Reason.NOT_WRITABLE, "(Device or resource busy); another file is mounted there"),
        (errno.EIO, Reason.NOT_WRITABLE, "(Input/output error); repair it"),
    ],
)
def test_a_full_disk_a_read_only_one_and_one_without_permission_are_three_sentences(
    tmp_path: Path, error: int, reason: Reason, sentence: str
) -> None:
    node = FixtureNode(tmp_path, files={"/etc/containerd/config.toml": EXPLICIT})

    def fail(operation: str, path: str) -> None:
        if operation == "write" and path.startswith("/etc"):
            raise OSError(error, os.strerror(error), path)

    before = node.tree()
    agent = node.agent(before=fail)
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == reason
    assert f"on node node-a cannot be written {sentence}" in fault.sentence
    agent.remove()
    assert node.tree() == before
