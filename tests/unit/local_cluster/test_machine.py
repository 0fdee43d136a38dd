"""The commands that boot, isolate and enter machines."""

import os
import subprocess
from pathlib import Path

import pytest

from local_cluster import cgroups, machine


def test_options_go_to_systemd_nspawn_and_the_rest_to_the_machines_own_systemd() -> None:
    command = machine.nspawn("name", Path("/root"), "--private-network", init=["--unit=basic.target"])
    first = next(number for number, word in enumerate(command[1:], 1) if not word.startswith("--"))
    assert {"--boot", "--directory=/root", "--machine=name", "--private-network"} <= set(command[1:first])
    assert command[first + 1 :] == ["--unit=basic.target"]


def test_a_command_runs_in_every_control_group_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    joins = [tmp_path / "one", tmp_path / "two"]
    monkeypatch.setattr(cgroups, "create", lambda name: joins if name == "name" else [])
    command = machine.in_control_groups("name", "sh", "-c", 'echo $$ "$1"', "sh", "two words")
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    pid, _, words = process.stdout.strip().partition(" ")
    assert words == "two words"
    assert [join.read_text().strip() for join in joins] == [pid, pid]


def test_a_command_does_not_run_outside_of_its_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "create", lambda _: [tmp_path / "no such folder" / "cgroup.procs"])
    process = subprocess.run(machine.in_control_groups("name", "echo", "ran"), capture_output=True, text=True)
    assert process.returncode != 0
    assert process.stdout == ""


def test_a_machine_is_entered_by_the_namespaces_that_it_has() -> None:
    words = ["nsenter", "--target=7", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", "id", "-u"]
    assert machine.enter(7, "id", "-u") == words
    assert machine.enter(7, "id", namespaces=("mount", "pid")) == [
        "nsenter",
        "--target=7",
        "--mount",
        "--pid",
        "--",
        "id",
    ]


def test_a_process_that_is_not_in_a_pid_namespace_of_its_own_is_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(cgroups, "processes", lambda _: {ended.pid, os.getpid()})
    assert machine.init_process("name") is None
