"""The agent's package as its ConfigMap carries it to the nodes: flat, and nothing but the standard library."""

import ast
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
