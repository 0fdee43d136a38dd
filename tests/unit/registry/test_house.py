"""The shape of the package: few rooms, arrows that run one way, and programs that need the standard library alone."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.support.settings import ROOT

PACKAGE = ROOT / "registry"
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The full name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """The full names of the modules that a module imports."""
    package = name_of(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in NAMES else base


def room(name: str) -> str:
    """The module or folder on the package's top floor that a module belongs to."""
    return name.split(".")[1] if "." in name else ""


def needs_of(path: Path) -> set[str]:
    """Every module that a module imports, directly or through modules of the package."""
    found: set[str] = set()
    left = [path]
    while left:
        for name in set(imports(left.pop())) - found:
            found.add(name)
            left += [other for other in MODULES if name_of(other) == name]
    return found


def foreign(names: set[str]) -> set[str]:
    """Those that are neither in the package nor in the standard library."""
    return {name for name in names if name not in NAMES and name.split(".")[0] not in sys.stdlib_module_names}


def test_the_top_floor_has_few_rooms() -> None:
    files = {path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    folders = {path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert len(files | folders) <= 14


def test_a_package_imports_nothing_by_itself() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert list(imports(path)) == [], path
        assert len(ast.parse(path.read_text()).body) == 1, f"{path} has more than a docstring"


def test_the_arrows_between_the_rooms_make_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for path in MODULES:
        own = room(name_of(path))
        arrows.setdefault(own, set()).update({room(name) for name in imports(path) if name in NAMES} - {own, ""})
    while arrows:
        floor = {own for own, others in arrows.items() if not others}
        assert floor, f"a circle among {sorted(arrows)}"
        arrows = {own: others - floor for own, others in arrows.items() if own not in floor}


def test_the_registry_does_not_know_the_trust_on_nodes() -> None:
    assert not [name for path in MODULES for name in imports(path) if name.split(".")[0] == "trust"]


@pytest.mark.parametrize("path", sorted((PACKAGE / "pod").glob("*.py")), ids=lambda path: path.name)
def test_what_runs_in_the_registrys_pod_imports_the_standard_library_alone(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] not in sys.stdlib_module_names]


@pytest.mark.parametrize("name", ["names.py", "clients/__main__.py"])
def test_what_runs_with_the_systems_python_imports_the_standard_library_alone_and_parses_with_3_9(name: str) -> None:
    path = PACKAGE / name
    needs = needs_of(path)
    assert foreign(needs) == set()
    for other in (path, *(other for other in MODULES if name_of(other) in needs)):
        tree = ast.parse(other.read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Match), other
            is_union = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
            assert not is_union, f"{other}:{getattr(node, 'lineno', 0)}: X | Y is no type before 3.10"
            if isinstance(node, ast.keyword):
                assert node.arg not in ("kw_only", "slots", "strict"), other


def test_the_snippets_command_runs_without_the_programs_libraries() -> None:
    script = "import json, sys, registry.clients.__main__ as m; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not {"pulumi", "kubernetes", "yaml"} & set(json.loads(done.stdout))
