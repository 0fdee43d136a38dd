"""When the agent restarts a runtime, and what happens if the runtime does not come back."""

import contextlib
import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import (
    CA,
    CONFIG,
    CONTAINERD,
    DEFAULT_1_6,
    MIRRORS,
    FixtureNode,
    MakeNode,
    fault_of,
)
from trust.agent import host
from trust.agent.client import Client
from trust.agent.faults import Fault, Left, Reason, Stopped


def test_restart_that_is_not_allowed(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    fault = fault_of(node.agent(restart_allowed=False))
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
    assert (node.read(CONFIG), node.restarts) == (DEFAULT_1_6, [])


def test_runtime_outside_of_systemd_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.proc / f"{node.pid}/cgroup").write_text("0::/kubepods/burstable\n")
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
    assert (node.read(CONFIG), node.restarts) == (DEFAULT_1_6, [])


@pytest.mark.parametrize(
    ("program", "fix"),
    [
        ("/var/lib/k0s/bin/containerd", "a file of /etc/k0s/containerd.d/, which k0s reads when its service"),
        ("/opt/any/containerd", "the configuration that its distribution generates"),
    ],
)
def test_a_runtime_that_another_program_starts_has_its_setting_named(
    make_node: MakeNode, program: str, fix: str
) -> None:
    node = make_node("1.7.24", DEFAULT_1_6, arguments=(program, "--config", CONFIG))
    fault = fault_of(node.agent(run=lambda *_arguments: (0, "77")))
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
    assert f"set config_path in {fix}" in fault.sentence


@pytest.mark.parametrize(
    "cgroup", ["0::/../../system.slice/containerd.service\n", "3:name=systemd:/a.slice/containerd.service\n2:cpu:/\n"]
)
def test_unit_is_found_in_both_generations_of_cgroups(make_node: MakeNode, cgroup: str) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.proc / f"{node.pid}/cgroup").write_text(cgroup)
    assert node.agent().tick(CA)
    assert node.restarts == ["containerd.service"]


def test_unit_with_another_main_process_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    fault = fault_of(node.agent(run=lambda *_arguments: (0, "MainPID=77")))
    assert fault is not None
    assert "containerd.service" in fault.sentence


def test_systemd_is_asked_as_its_version_219_can_be(make_node: MakeNode) -> None:
    """That of Amazon Linux 2. `show --value` came with 230, `systemd-run --collect` with 236."""
    node = make_node("1.6.20", DEFAULT_1_6)
    asked: list[tuple[str, ...]] = []
    failed = True

    def run(program: str, *arguments: str) -> tuple[int, str]:
        nonlocal failed
        asked.append((program, *arguments))
        for unknown in {"--value", "--collect"} & set(arguments):
            return 1, f"{program}: unrecognized option '{unknown}'"
        if arguments[0] == "reset-failed" and "private-registry-trust-undo.service" in arguments:
            failed = False
        if program == "systemd-run" and failed:
            return 1, "Failed to start transient timer unit: Unit private-registry-trust-undo.service already exists."
        if "--property=ActiveState" in arguments and failed:
            return 0, "ActiveState=inactive\n\nActiveState=failed"
        return node.run(program, *arguments)

    assert node.agent(run=run).tick(CA)
    assert node.trusts()
    timers = [arguments for arguments in asked if arguments[0] == "systemd-run"]
    assert ["--collect" in arguments for arguments in timers] == [True, False]
    assert (node.restarts, node.armed) == (["containerd.service"], "")
    assert not [line for line in node.log if "will not put" in line]


def test_a_systemd_that_cannot_be_asked_is_not_taken_for_one_that_does_not_run_the_runtime(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    fault = fault_of(node.agent(run=lambda *_arguments: (1, "Connection timed out")))
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
    assert "cannot be found out (systemctl show failed: Connection timed out)" in fault.sentence
    assert "not the main process" not in fault.sentence


def test_runtime_that_refuses_the_change_gets_its_file_back_and_is_left_alone(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.accepts = lambda node: 'config_path = ""' in (node.read(CONFIG) or "")
    for agent in (node.agent(), node.agent(), node.agent(pod="pod-2")):
        for _ in range(3):
            fault = fault_of(agent)
            assert fault is not None
            assert fault.reason == Reason.RESTART_FAILED
            assert "Job for containerd.service failed" in fault.sentence
            assert node.read(CONFIG) == DEFAULT_1_6
    assert node.restarts == ["containerd.service"] * 2, "once with the change, once without"
    assert node.agent(pod="pod-2").remove()
    assert node.tree() == before
    assert fault_of(node.agent(pod="pod-3")) is not None
    assert len(node.restarts) == 2, "remembered beyond the owner, too"
    node.accepts = lambda _node: True
    node.write(CONFIG, DEFAULT_1_6 + "# somebody repaired it\n")
    assert node.agent(pod="pod-3").tick(CA), "another content is another try"
    assert node.trusts()


def test_runtime_that_would_not_come_back_anyway_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.accepts = lambda _node: False  # somebody has broken the file since it was started
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.CONFIG_INVALID
    assert "containerd: no good" in fault.sentence
    assert (node.read(CONFIG), node.restarts, node.armed) == (DEFAULT_1_6, [], "")
    agent.remove()
    assert node.tree() == before


def test_runtime_is_asked_about_the_file_that_it_was_started_with(tmp_path: Path) -> None:
    arguments = (*CONTAINERD, "-c", "/x/config.toml")
    node = FixtureNode(tmp_path, "1.6.20", arguments, files={"/x/config.toml": DEFAULT_1_6})
    assert node.agent().tick(CA)
    assert node.dumps == [("--config", "/x/config.toml", "config", "dump")]


def undo(node: FixtureNode, before: str = "") -> str:
    """Run what systemd's timer runs, on the files of the node; returns what systemctl was told."""
    script = re.sub(r"(?<=[ '])/(etc|var|run)/", rf"{node.root}/\1/", node.armed)
    script = f"systemctl() {{ echo $*; }}\n{before}\n{script.replace('exec ', '')}"
    return subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.parametrize("config", [DEFAULT_1_6, None])
def test_systemd_takes_a_refused_change_back_when_the_agent_is_killed(make_node: MakeNode, config: str | None) -> None:
    """Without containerd nobody starts another agent."""
    node = make_node("1.6.20", config)
    node.accepts = lambda node: "certs.d" not in (node.read(CONFIG) or "")

    def killed(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] == "restart":
            raise Stopped
        return node.run(program, *arguments)

    with pytest.raises(Stopped):
        node.agent(run=killed).tick(CA)
    assert "certs.d" in (node.read(CONFIG) or "")
    for _ in range(2):  # the second time there is nothing to take back
        said = undo(node)
        assert node.read(CONFIG) == config
    assert said == "start containerd.service\n"
    node.start_runtime()
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.CONFIG_REVERTED
    assert node.read(CONFIG) == config


def test_runtime_that_starts_but_does_not_serve_cri_counts_as_refusing(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)

    def answer(_path: str) -> tuple[str, str]:
        if 'config_path = ""' not in node.memory[CONFIG]:
            raise OSError("unknown service runtime.v1.RuntimeService")
        return "containerd", "1.6.20"

    node.tell_version = answer
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.RESTART_FAILED
    assert "unknown service" in fault.sentence
    assert node.read(CONFIG) == DEFAULT_1_6
    assert host.ANSWERS_WITHIN <= node.clock < 3 * host.ANSWERS_WITHIN


def test_change_that_others_keep_taking_back_does_not_become_a_restart_loop(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    for _ in range(3):
        node.write(CONFIG, DEFAULT_1_6)
        agent.tick(CA)
        assert node.trusts(), "the file is put right without a restart: the process has it in memory"
    for _ in range(3):
        node.write(CONFIG, DEFAULT_1_6)
        node.start_runtime()
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.CONFIG_REVERTED
    assert len(node.restarts) == 1


def test_a_host_that_returns_is_not_taken_for_a_change_that_others_take_back(make_node: MakeNode) -> None:
    """With inline mirrors the key names the host, so each other host is one more restart, also one that was before."""
    node = make_node(config=MIRRORS)
    before = node.tree()
    for number, name in enumerate(["a.example", "b.example"] * 3):
        agent = node.agent(pod=f"pod-{number}", host=name)
        assert agent.tick(CA)
        assert node.trusts(CA, name)
        assert len(node.restarts) == number + 1
    node.write(CONFIG, MIRRORS)
    node.start_runtime()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.CONFIG_REVERTED, "these were others"
    assert agent.remove()
    assert node.tree() == before


def test_reboot_brings_trust_back_with_at_most_one_restart(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    node.agent().tick(CA)
    node.boot()
    assert node.agent().tick(CA)
    assert node.trusts()
    assert len(node.restarts) == 1, "the file was there when the runtime started"
    node.write(CONFIG, DEFAULT_1_6)  # /etc/containerd is made anew at each boot on some systems
    node.boot()
    assert node.agent().tick(CA)
    assert node.trusts()
    assert len(node.restarts) == 2


def test_term_during_a_restart_takes_the_change_back(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()

    def stop(_seconds: float) -> None:
        raise Stopped

    agent = node.agent(pause=stop)
    assert agent.tick(CA), "the new process answered already"
    assert agent.remove()
    assert node.tree() == before
    assert node.agent(pod="pod-2").tick(CA)
    assert len(node.restarts) == 1


def test_m4_a_slow_node_gives_up_long_before_systemd_takes_the_change_back(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    since, until = [], []

    def answer(_path: str) -> tuple[str, str]:
        if 'config_path = ""' in node.memory[CONFIG]:
            return "containerd", "1.6.20"
        node.clock += 3  # as a socket that accepts and then says nothing
        raise TimeoutError("timed out")

    def run(program: str, *arguments: str) -> tuple[int, str]:
        if program == "systemd-run":
            since.append(node.clock)
        elif arguments[0] == "stop" and node.armed:
            until.append(node.clock)
        elif arguments[0] == "restart":
            node.clock += 10  # the longest that the agent waits for a command
        return node.run(program, *arguments)

    node.tell_version = answer
    agent = node.agent(run=run)
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.RESTART_FAILED
    assert host.ANSWERS_WITHIN < until[0] - since[0] < host.UNDO_AFTER / 2
    assert node.read(CONFIG) == DEFAULT_1_6


def test_m4_an_agent_that_slept_until_systemd_took_the_change_back_does_not_take_that_for_success(
    make_node: MakeNode,
) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.accepts = lambda node: "certs.d" not in (node.read(CONFIG) or "")

    def run(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] == "restart" and node.armed:
            node.start_runtime()
            undo(node)  # now the agent sleeps, and systemd acts
            node.armed = ""
            node.start_runtime()
            return host.TIMED_OUT, ""
        return node.run(program, *arguments)

    agent = node.agent(run=run)
    for again in (agent, agent, node.agent(), node.agent(pod="pod-2")):
        fault = fault_of(again)
        assert fault is not None
        assert fault.reason == Reason.CONFIG_REVERTED
        assert node.read(CONFIG) == DEFAULT_1_6, "the refused configuration is not written again"
    assert node.restarts == []
    assert node.agent(pod="pod-2").remove()
    assert node.tree() == before


@pytest.mark.parametrize(
    ("obstacle", "before"),
    [
        ("the copy is missing", ""),
        ("no space is left", "ulimit -f 1; trap '' XFSZ"),
    ],
)
def test_m5_systemd_changes_nothing_when_it_cannot_put_the_file_back(
    make_node: MakeNode, obstacle: str, before: str
) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)

    def killed(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] == "restart":
            raise Stopped
        return node.run(program, *arguments)

    with pytest.raises(Stopped):
        node.agent(run=killed).tick(CA)
    changed = node.read(CONFIG)
    assert len((changed or "").encode()) > 1024, "it does not fit into the one kilobyte of ulimit"
    if obstacle == "the copy is missing":
        (node.root / "run/private-registry-trust/undo").unlink()
    assert undo(node, before) == "", "no restart either"
    assert node.read(CONFIG) == changed
    assert [path.name for path in (node.root / "etc/containerd").iterdir() if path.is_file()] == ["config.toml"]


def test_m5_systemd_puts_the_file_back_with_its_mode_through_a_link(make_node: MakeNode) -> None:
    node = make_node("1.6.20", None)
    node.write("/data/config.toml", DEFAULT_1_6)
    (node.root / "data/config.toml").chmod(0o640)
    (node.root / "etc/containerd").mkdir()
    (node.root / CONFIG[1:]).symlink_to("../../data/config.toml")

    def killed(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] == "restart":
            raise Stopped
        return node.run(program, *arguments)

    with pytest.raises(Stopped):
        node.agent(run=killed).tick(CA)
    node.armed = node.armed.replace("/data/", f"{node.root}/data/")
    assert undo(node) == "reset-failed containerd.service\nrestart containerd.service\n"
    assert (node.root / CONFIG[1:]).is_symlink()
    assert (node.root / "data/config.toml").read_text() == DEFAULT_1_6
    assert (node.root / "data/config.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "answer", [(host.TIMED_OUT, "no end within 10 s"), (0, "ActiveState=active\n\nActiveState=inactive"), (0, "")]
)
def test_m5_the_copy_stays_as_long_as_systemds_timer_does(make_node: MakeNode, answer: tuple[int, str]) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    works, copy = False, node.root / "run/private-registry-trust/undo"

    def run(program: str, *arguments: str) -> tuple[int, str]:
        if "--property=ActiveState" in arguments and node.armed and not works:
            return answer
        if arguments[0] == "stop" and not works:
            return 1, "Connection timed out"
        return node.run(program, *arguments)

    agent = node.agent(run=run)
    for _ in range(2):
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.CONFIG_REVERTED
        assert "timer could not be stopped" in fault.sentence
        assert copy.read_text() == DEFAULT_1_6
    other = node.agent("pr-43", "pod-43", "registry-pr-43.example", run=run)
    assert fault_of(other) is not None
    with contextlib.suppress(Left):
        other.remove()
    assert copy.exists(), "another stack that leaves does not take it away"
    works = True
    assert agent.tick(CA)
    assert node.trusts()
    assert (node.armed, copy.exists(), len(node.restarts)) == ("", False, 1)


@pytest.mark.parametrize("when", ["before the restart", "after the restart"])
def test_l1_a_successor_that_cannot_reach_the_registry_stops_systemds_timer_all_the_same(
    make_node: MakeNode, when: str
) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)

    def killed(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] != "restart":
            return node.run(program, *arguments)
        if when == "after the restart":
            node.run(program, *arguments)
        raise Stopped

    with pytest.raises(Stopped):
        node.agent(run=killed).tick(CA)
    assert node.armed

    def down(_host: str, _ca: str, _client: Client) -> None:
        raise Fault(Reason.NO_CONNECTION, "down")

    successor = node.agent(check=down)
    for _ in range(2):
        fault = fault_of(successor)
        assert fault is not None
        assert fault.reason == Reason.NO_CONNECTION
        assert node.armed == ""
    if when == "before the restart":
        assert node.read(CONFIG) == DEFAULT_1_6, "nothing is left half done"
    successor.check = lambda _host, _ca, _place: None
    assert successor.tick(CA)
    assert node.trusts()
    assert len(node.restarts) == 1
