"""Every containerd on every configuration: what the agent does there, and whether images are pulled then.

The runtime, the registry, the systemd that restarts the runtime and the agent are real, on a machine of their own
(see `support/matrix/machine.py`). There is no kubelet: the pull is the CRI call that a kubelet makes, and the agent
finds the runtime by a process that has the kubelet's name and argument. `test_promise.py` tests nodes with a kubelet.

The run is written to test-results/matrix.md and compared with the reviewed table, `data/runtimes_expected.md`.
"""

from collections.abc import Iterator

import pytest

from local_cluster import programs

from .support.commands import wait_until
from .support.matrix import others, steps, table
from .support.matrix.layouts import CELLS, CORE, Cell
from .support.matrix.machine import HOST, RuntimeMachine
from .support.matrix.others import OTHERS, Other
from .support.matrix.table import Row
from .support.places import RESULTS

pytestmark = pytest.mark.cluster

OTHER_CONTAINERDS = tuple(name for name in programs.GROUPS if name.startswith("containerd-"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeMachine]:
    with RuntimeMachine(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture(scope="module")
def full_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeMachine]:
    """With the programs that only the whole matrix needs."""
    folder = tmp_path_factory.mktemp("full-machine")
    with RuntimeMachine(folder, trees=("clients", "trixie"), groups=OTHER_CONTAINERDS) as machine:
        yield machine


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """What was run; written in the end."""
    rows: list[Row] = []
    yield rows
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "matrix.md").write_text(table.text(rows))


def compare(row: Row, rows: list[Row]) -> None:
    rows.append(row)
    assert row == table.read().get(row.key), f"not in {table.EXPECTED}"


def run(machine: RuntimeMachine, cell: Cell, rows: list[Row]) -> None:
    runtime = steps.containerd(machine, cell)
    if not cell.layout.broken:
        assert steps.UNTRUSTED in runtime.pull()
    compare(steps.walk(runtime, lambda *found: Row("containerd", cell.version, cell.configuration, *found)), rows)


def name(cell: Cell) -> str:
    return f"{cell.version} {cell.configuration}"


@pytest.mark.parametrize("cell", CORE, ids=name)
def test_core(machine: RuntimeMachine, cell: Cell, rows: list[Row]) -> None:
    run(machine, cell, rows)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_containerd(full_machine: RuntimeMachine, cell: Cell, rows: list[Row]) -> None:
    run(full_machine, cell, rows)


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: f"{other.runtime} {other.configuration}")
def test_docker_and_the_library_of_crio(full_machine: RuntimeMachine, other: Other, rows: list[Row]) -> None:
    runtime = others.start(full_machine, other)
    assert steps.UNTRUSTED in runtime.pull()
    compare(steps.walk(runtime, lambda *found: Row(other.runtime, other.version, other.configuration, *found)), rows)


REFUSED = Cell(version="1.7.24", configuration='version 2, config_path = ""')
CONFIG = "etc/containerd/config.toml"


def test_containerd_that_refuses_the_change_gets_its_file_back_once(machine: RuntimeMachine) -> None:
    """The unit has a check of its own in front of containerd, and that one knows no config_path."""
    runtime = steps.containerd(machine, REFUSED, check="! grep -q certs.d /etc/containerd/config.toml")
    status = runtime.start_agent()
    assert status["reason"] == "RESTART_FAILED"
    assert "is not tried again" in str(status["sentence"])
    assert runtime.restarts == 2, "once with the change, once without"
    assert steps.UNTRUSTED in runtime.pull(), "it serves again"
    steps.kill_agent(machine)
    assert runtime.start_agent()["reason"] == "RESTART_FAILED"
    steps.stop_agent(runtime)
    assert runtime.restarts == 2


@pytest.mark.parametrize("version", ["1.6.20", "2.4.2"])
def test_broken_certificate_of_a_stranger_is_named(machine: RuntimeMachine, version: str) -> None:
    runtime = steps.containerd(machine, Cell(version=version, configuration="version 2, one folder"))
    path = f"/etc/containerd/certs.d/{HOST}/ca.crt"
    machine.write(path, "broken")
    status = runtime.start_agent()
    assert status["reason"] == "CONFIG_INVALID"
    assert path in str(status["sentence"])
    assert f'unable to load CA cert \\"{path}' in runtime.pull(), "why the agent minds"
    (machine.root / path[1:]).unlink()
    wait_until(lambda: runtime.pull() == "", "the agent is content", timeout=10)


def test_containerd_that_would_not_come_back_anyway_is_not_restarted(machine: RuntimeMachine) -> None:
    """Somebody has broken its file since it was started."""
    runtime = steps.containerd(machine, REFUSED)
    text = (machine.root / CONFIG).read_text()
    machine.write(f"/{CONFIG}", f'oom_score = "high"\n{text}')
    status = runtime.start_agent()
    assert status["reason"] == "CONFIG_INVALID"
    assert "Can't convert high(string) to int" in str(status["sentence"])
    assert runtime.restarts == 0
    assert steps.UNTRUSTED in runtime.pull(), "it still serves"
    machine.write(f"/{CONFIG}", text)
    wait_until(lambda: runtime.pull() == "", "the agent goes on once the file is repaired", timeout=30)
    steps.stop_agent(runtime)
    assert runtime.restarts == 1


def test_a_pod_whose_looks_have_all_failed_takes_away_what_one_has_left_that_is_gone(machine: RuntimeMachine) -> None:
    runtime = steps.containerd(machine, Cell(version="1.7.24", configuration="version 2, one folder"))
    text = (machine.root / CONFIG).read_text()
    assert runtime.start_agent()["reason"] == "READY"
    steps.kill_agent(machine)
    machine.write(f"/{CONFIG}", "x = \n")
    machine.agent_log()
    assert runtime.start_agent(pod="pod-2")["reason"] == "CONFIG_INVALID"
    machine.run("systemctl", "stop", "agent.service")
    assert machine.agent_log().splitlines()[-1] == "cleaned"
    machine.write(f"/{CONFIG}", text)
    assert runtime.changed() == []
    assert steps.UNTRUSTED in runtime.pull()


@pytest.mark.slow
def test_agent_killed_while_containerd_is_down_leaves_it_to_systemd(machine: RuntimeMachine) -> None:
    """Nobody could start another agent then; so systemd puts the file back (after 300 s, here after 6)."""
    check = "grep -q certs.d /etc/containerd/config.toml || exit 0; touch /run/refusing; sleep 3; exit 1"
    (machine.root / "run/refusing").unlink(missing_ok=True)
    runtime = steps.containerd(machine, REFUSED, check=check)
    before = (machine.root / CONFIG).read_bytes()
    machine.start_agent(before="from agent import host; host.UNDO_AFTER = 6")
    wait_until((machine.root / "run/refusing").exists, "containerd is being restarted", timeout=20, interval=0.05)
    steps.kill_agent(machine)
    assert (machine.root / CONFIG).read_bytes() != before
    assert runtime.pull() != ""
    wait_until(lambda: steps.UNTRUSTED in runtime.pull(), "containerd serves again", timeout=40)
    assert (machine.root / CONFIG).read_bytes() == before
    restarts = runtime.restarts
    assert runtime.start_agent()["reason"] == "CONFIG_REVERTED"
    steps.stop_agent(runtime)
    assert runtime.restarts == restarts
