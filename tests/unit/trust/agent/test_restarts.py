"""When the agent restarts a runtime, and what happens if the runtime does not come back."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, CONFIG, CONTAINERD, DEFAULT_1_6, FixtureNode, MakeNode, fault_of
from trust.agent import host
from trust.agent.faults import Reason, Stopped


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
    "cgroup", ["0::/../../system.slice/containerd.service\n", "3:name=systemd:/a.slice/containerd.service\n2:cpu:/\n"]
)
def test_unit_is_found_in_both_generations_of_cgroups(make_node: MakeNode, cgroup: str) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.proc / f"{node.pid}/cgroup").write_text(cgroup)
    assert node.agent().tick(CA)
    assert node.restarts == ["containerd.service"]


def test_unit_with_another_main_process_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    fault = fault_of(node.agent(run=lambda *_arguments: (0, "77")))
    assert fault is not None
    assert "containerd.service" in fault.sentence


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
