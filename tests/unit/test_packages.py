"""Every package that is imported is declared with its exact version, and every version is in the lock with hashes."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN = {"agent", "bench", "local_cluster", "registry", "tests", "trust"}
"""Our packages; `agent` is what a pod calls trust.agent."""
PACKAGES = {"google": "protobuf", "grpc": "grpcio", "xdist": "pytest-xdist", "yaml": "PyYAML"}
"""The packages whose modules have other names than they."""
USERS = ("registry", "trust", "__main__.py")
"""What runs at a user's, who installs requirements.txt alone."""


def pins(name: str) -> dict[str, str]:
    """The version of each package that a file of requirements names."""
    lines = re.findall(r"^([A-Za-z][\w.-]*)(?:\[\w,]+)?==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {_normal(package): version for package, version in lines}


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def imported(folders: tuple[str, ...]) -> set[str]:
    """The packages that the Python files in these folders, or these files, import."""
    files = [
        file for name in folders for file in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    modules = found - OWN - set(sys.stdlib_module_names)
    return {_normal(PACKAGES.get(module, module)) for module in modules}


@pytest.mark.parametrize(
    ("folders", "declared"),
    [(USERS, ["requirements.txt"]), ((*OWN, *USERS), ["requirements.txt", "requirements-dev.txt"])],
    ids=["users", "developers"],
)
def test_every_package_that_is_imported_is_declared(folders: tuple[str, ...], declared: list[str]) -> None:
    names = imported(folders)
    assert names >= {"kubernetes", "pulumi", "pyyaml", "urllib3"}
    assert not names - {package for name in declared for package in pins(name)}


def test_the_lock_has_what_is_declared_with_hashes_and_names_no_index() -> None:
    lock = (ROOT / "requirements-dev.lock").read_text()
    declared = pins("requirements.txt") | pins("requirements-dev.txt")
    assert declared.items() <= pins("requirements-dev.lock").items(), "run: make lock"
    entries = re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(extra-)?index|--find-links", lock)
