"""Fixtures for the tests that let agents work on a node."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, CONFIG, EXPLICIT, HOST, FixtureNode, MakeNode

PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from agent.__main__ import main
from agent.node import Node
proc = Path(sys.argv[2])
(proc / str(os.getpid())).symlink_to(sys.argv[3])  # this process joins the fixture's
node = Node(proc, os.getpid(), lambda _path: ("containerd", "1.7.24"), lambda _path: int(sys.argv[4]))
sys.exit(main(node=node, check=lambda _host, _ca, _place: None))
"""


@pytest.fixture(autouse=True)
def disk_that_never_loses_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of fsync calls are most of the time these tests take, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def make_node(tmp_path: Path) -> MakeNode:
    """Makes nodes with a version of containerd and the text of its configuration; None: there is no such file."""

    def make(version: str = "1.7.24", config: str | None = EXPLICIT, **more: object) -> FixtureNode:
        files = {} if config is None else {CONFIG: config}
        return FixtureNode(tmp_path / str(len(list(tmp_path.iterdir()))), version, files=files, **more)  # pyright: ignore

    return make


@pytest.fixture
def start(tmp_path: Path) -> Callable[[FixtureNode], subprocess.Popen[str]]:
    """Starts the agent's own process, with plain imports as in the pod, on a fixture's files."""
    (tmp_path / "ca.crt").write_text(CA)
    (tmp_path / "termination-log").touch()

    def begin(node: FixtureNode, owner: str = "pr-42") -> subprocess.Popen[str]:
        environment = {
            "REGISTRY_HOST": HOST,
            "OWNER": owner,
            "POD_UID": "pod-1",
            "NODE_NAME": "node-a",
            "CA_FILE": str(tmp_path / "ca.crt"),
            "READY_FILE": str(tmp_path / "ready"),
            "TERMINATION_LOG": str(tmp_path / "termination-log"),
        }
        trust = Path(__file__).parents[4] / "trust"
        command = [sys.executable, "-c", PROGRAM, str(trust), str(node.proc), str(os.getpid()), str(node.pid)]
        return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return begin
