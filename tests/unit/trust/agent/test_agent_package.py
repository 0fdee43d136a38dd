"""The agent's package as its ConfigMap carries it to the nodes: flat, and nothing but the standard library."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trust.agent

FOLDER = Path(trust.agent.__file__).parent


def test_the_folder_is_flat() -> None:
    """A ConfigMap's keys cannot name folders."""
    assert [path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.name)
def test_a_module_imports_the_standard_library_and_its_neighbours_only(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            continue
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            assert module.partition(".")[0] in sys.stdlib_module_names, module


@pytest.mark.parametrize(("more", "starts"), [({}, 2), ({"PYTHONDONTWRITEBYTECODE": "1"}, 1)])
def test_the_agent_starts_once_more_when_its_modules_have_been_compiled(
    tmp_path: Path, more: dict[str, str], starts: int
) -> None:
    """What compiling leaves in memory would stay on every node, since the images of Python hold no bytecode."""
    program = (
        f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r}); from agent.__main__ import start_afresh\n"
        "print('start', flush=True); start_afresh(); print(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "an argument"]
    environment = {"PYTHONPYCACHEPREFIX": str(tmp_path), **more}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["start"] * starts + ["['an argument']"]
    compiled = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert {"agent", "files", "ssl"} <= compiled if starts == 2 else not compiled


@pytest.mark.parametrize(
    ("arguments", "blocked"),
    [(["-m", "agent"], True), (["-m", "agent.probe"], False), (["-c", "import agent.__main__"], False)],
)
def test_the_agent_alone_blocks_signals_and_does_so_before_its_long_imports(
    tmp_path: Path, arguments: list[str], blocked: bool
) -> None:
    """One that ends the pod in this moment must not end an agent that has files on the node."""
    shutil.copytree(FOLDER, tmp_path / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    tell = "import signal, sys; print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())); sys.exit()"
    (tmp_path / "agent/connect.py").write_text(tell)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, text=True, capture_output=True, timeout=60, check=True
    )
    assert done.stdout == f"{blocked}\n"


def test_an_idle_agent_has_not_loaded_what_few_agents_ever_use() -> None:
    """Every module that is loaded stays in the memory of every node."""
    rare = {"subprocess", "shlex", "difflib", "ctypes", "asyncio", "multiprocessing", "logging", "unittest"}
    program = f"import sys; sys.path.insert(0, {str(FOLDER.parent)!r}); import agent.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", program], text=True, capture_output=True, timeout=60, check=True)
    assert "agent.agent" in done.stdout.split()
    assert not rare & set(done.stdout.split())
