"""Processes are recorded and ended, and one that is not ours is never signalled."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_cluster import processes
from local_cluster.processes import Process


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "PROCESSES", tmp_path / "processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    return tmp_path / "processes"


def wait_for_output(name: str) -> None:
    deadline = time.monotonic() + 10
    while not processes.log_tail(name):
        assert time.monotonic() < deadline, f"no output of {name}"


@pytest.mark.usefixtures("records")
def test_a_process_is_recorded_logged_and_stopped() -> None:
    process = processes.start("loop", ["sh", "-c", "echo started; exec sleep 1000"])
    wait_for_output("loop")
    assert processes.recorded() == {"loop": process}
    assert process.alive()
    processes.stop(["loop"], seconds=5)
    assert not process.alive()
    assert processes.recorded() == {}
    assert processes.log_tail("loop") == "started"


@pytest.mark.usefixtures("records")
def test_a_process_keeps_no_lock_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as ours, (tmp_path / "lock").open("w") as theirs:
        fcntl.flock(ours, fcntl.LOCK_EX)
        os.set_inheritable(ours.fileno(), True)  # as flock(1) does for the command that it runs
        process = processes.start("loop", ["sh", "-c", "echo started; exec sleep 1000"])
        wait_for_output("loop")
        ours.close()
        try:
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            processes.stop(["loop"], seconds=5)
    assert not process.alive()


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


@pytest.mark.usefixtures("records")
def test_a_process_that_ignores_the_request_is_killed() -> None:
    process = processes.start("deaf", [sys.executable, "-c", DEAF])
    wait_for_output("deaf")
    processes.stop(["deaf"], seconds=0.2)
    assert not process.alive()


def test_a_process_that_got_the_id_of_an_ended_one_is_never_signalled() -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        ours = Process(pid=stranger.pid, start_time=processes.of(stranger.pid).start_time - 1)
        assert not ours.alive()
        ours.send(signal.SIGKILL)
        assert ours.wait(5)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.of(child.pid).alive()
    child.wait()


def test_a_record_of_an_earlier_boot_is_of_an_ended_process(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = processes.start("loop", ["sleep", "1000"])
    try:
        with monkeypatch.context() as context:
            context.setattr(processes, "_boot", lambda: "another boot")
            assert not processes.recorded()["loop"].alive()
        assert processes.recorded()["loop"].alive()
    finally:
        processes.stop(["loop"], seconds=5)
    assert list(records.iterdir()) == []
    assert not process.alive()
