"""Every module starts, no test depends on another one, and imports between packages go in one direction."""

import ast
import importlib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from local_cluster.paths import REPOSITORY

FLOORS = (
    ("bench",),
    ("tests",),
    ("local_cluster",),
    ("__main__",),
    ("registry", "trust"),
    ("registry.names", "registry.kubeconfig", "registry.pod.pods", "registry.pod.trouble"),
)
"""Top-level packages from the roof to the ground. A package imports only from floors below its own."""

TOPS = sorted({name for floor in FLOORS for name in floor if "." not in name})


def _modules() -> Iterator[tuple[str, Path]]:
    for top in TOPS:
        files = [REPOSITORY / f"{top}.py"] if top == "__main__" else sorted((REPOSITORY / top).rglob("*.py"))
        for file in files:
            parts = file.relative_to(REPOSITORY).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


MODULES = dict(_modules())
"""Every module of the tree by its name, with its file."""


def _imported(module: str) -> set[str]:
    """Return the names of the tree's modules that a module names in its imports, also in those inside of functions."""
    file = MODULES[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*start, *([node.module] if node.module else [])])
            # What is imported from a package is one of its modules, or a name that its `__init__.py` has.
            names |= {name if (name := f"{origin}.{alias.name}") in MODULES else origin for alias in node.names}
    return names & MODULES.keys()


IMPORTS = {module: _imported(module) for module in MODULES}


def _top(module: str) -> str:
    """Return the top-level package of a module; the tests of the bench, which is above all tests, count as its own."""
    return "bench" if module.startswith("tests.unit.bench") else module.partition(".")[0]


def _package(module: str) -> str:
    """Return the part of the tree that a module belongs to: below the two wings, each file and each folder is one."""
    parts = [_top(module), *module.split(".")[1:]]
    return ".".join(parts[:2] if parts[0] in ("registry", "trust") else parts[:1])


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return names of which each imports the next one, the last one being the first one again; none if all is well."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def _is_test(module: str) -> bool:
    name = module.rpartition(".")[2]
    return name.startswith("test_") or name == "conftest"


@pytest.mark.parametrize(
    "module",
    # Pulumi runs the program itself: importing it would make resources. Pytest has imported the unit tests already.
    [name for name in MODULES if name != "__main__" and not (name.startswith("tests.unit.") and _is_test(name))],
)
def test_every_module_can_be_imported(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # In the agent's pod, the folder trust/agent is the package `agent`.
    monkeypatch.syspath_prepend(str(REPOSITORY / "trust"))
    importlib.import_module(module)


def test_no_module_imports_from_a_test_module_or_a_conftest() -> None:
    arrows = [(module, name) for module, names in IMPORTS.items() for name in names]
    assert not sorted((module, name) for module, name in arrows if _is_test(name))


def test_no_import_runs_up() -> None:
    floors = {name: number for number, floor in enumerate(FLOORS) for name in floor}

    def floor(module: str) -> int:
        return floors[module] if module in floors else floors[_top(module)]

    arrows = [(module, name) for module, names in IMPORTS.items() for name in names]
    beside = [(a, b) for a, b in arrows if floor(a) == floor(b) and _top(a) != _top(b)]
    up = [(a, b) for a, b in arrows if floor(a) > floor(b)]
    assert not sorted(up), "a lower package imports from a higher one"
    assert not sorted(beside), "two packages of one floor know each other"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circle(IMPORTS) == []


def test_no_packages_import_each_other_in_a_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for module, names in IMPORTS.items():
        arrows.setdefault(_package(module), set()).update({_package(name) for name in names} - {_package(module)})
    assert _circle(arrows) == []
