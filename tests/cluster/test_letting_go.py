"""An agent steps back for one pull: whether a real container runtime pulls without it, on a machine without a cluster.

`test_external.py` tests the same with kubelets, and the change of a stack that hangs on it.
"""

import json
import shlex
from collections.abc import Iterator

import pytest

from registry.clients.nodes import node_setup

from .support.matrix import steps
from .support.matrix.layouts import Cell
from .support.matrix.machine import HOST, IMAGE, RuntimeMachine

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

IN_POD = (
    "systemd-run --quiet --pipe --wait --property=RootDirectory=/opt/pod --property=MountAPIVFS=yes "
    "--property=BindReadOnlyPaths='/opt/agent:/app /etc/hosts' --property=BindPaths=/run/pod "
    "--property=WorkingDirectory=/app --setenv=PYTHONDONTWRITEBYTECODE=1 --setenv=OWNER=pr-42 "
    "/usr/bin/python3 -m agent.without"
)
"""Runs the program as `pulumi up` does in the agent's container."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeMachine]:
    with RuntimeMachine(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


def asked(machine: RuntimeMachine, image: str = IMAGE) -> dict[str, object]:
    """What the agent's program says of the machine."""
    question = shlex.quote(json.dumps({"image": f"{HOST}/{image}"}))
    done = machine.run("sh", "-c", f"echo {question} | {IN_POD}", check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("version", "configuration"),
    [("1.6.20", "version 2, one folder"), ("1.7.24", "version 2, one folder"), ("2.4.2", "no file")],
)
def test_a_real_runtime_pulls_without_the_agents_file_only_by_its_own_setting(
    machine: RuntimeMachine, version: str, configuration: str
) -> None:
    runtime = steps.containerd(machine, Cell(version=version, configuration=configuration))
    assert steps.UNTRUSTED in runtime.pull()
    assert runtime.start_agent()["reason"] == "READY"
    assert runtime.pull() == ""
    applied = runtime.snapshot()
    answer = asked(machine)
    assert answer == {"with": True, "without": False, "changes": [], "error": ""}
    assert runtime.snapshot().keys() == applied.keys()
    assert runtime.pull() == "", "the agent's file is back"
    assert asked(machine, "team/nobody:1")["with"] is False

    setting = node_setup(HOST, (machine.root / "run/pod/ca.crt").read_text())["containerd"]
    machine.write("/run/setting", setting)
    assert machine.run("sh", "/run/setting").stdout == f"containerd trusts {HOST}\n"
    assert asked(machine) == {"with": True, "without": True, "changes": [], "error": ""}
    machine.run("systemctl", "stop", "agent.service")
    assert machine.agent_log().splitlines()[-1] == "cleaned"
    assert runtime.pull() == "", "by the node's own setting alone"


def test_a_change_of_the_runtimes_configuration_that_goes_with_the_agent_is_named(machine: RuntimeMachine) -> None:
    runtime = steps.containerd(machine, Cell(version="1.7.24", configuration='version 2, config_path = ""'))
    assert runtime.start_agent()["reason"] == "READY"
    assert asked(machine)["changes"] == ["/etc/containerd/config.toml"]
    steps.stop_agent(runtime)


def test_no_empty_folder_of_the_agent_hides_a_setting_in_the_second_folder_of_a_list(machine: RuntimeMachine) -> None:
    runtime = steps.containerd(machine, Cell(version="1.7.24", configuration="version 2, list"))
    assert runtime.start_agent()["reason"] == "READY"
    machine.write(f"/etc/docker/certs.d/{HOST}/ca.crt", (machine.root / "run/pod/ca.crt").read_text())
    applied = runtime.snapshot()
    assert asked(machine) == {"with": True, "without": True, "changes": [], "error": ""}
    assert runtime.snapshot().keys() == applied.keys()
    machine.run("systemctl", "stop", "agent.service")
    assert machine.agent_log().splitlines()[-1] == "cleaned"
    assert runtime.pull() == "", "by the node's own setting alone"


def test_a_runtime_that_was_told_to_read_the_agents_file_is_named(machine: RuntimeMachine) -> None:
    runtime = steps.containerd(machine, Cell(version="1.7.24", configuration="version 2, mirrors"))
    assert runtime.start_agent()["reason"] == "READY"
    answer = asked(machine)
    assert answer["without"] is False
    assert "was told by ca_file in its configuration" in str(answer["error"])
    assert runtime.pull() == ""
    steps.stop_agent(runtime)
