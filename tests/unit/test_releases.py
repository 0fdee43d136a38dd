"""What has been released does not change, and what changes has a version of its own."""

import re
import tomllib
from pathlib import Path

import pytest

from local_cluster.paths import REPOSITORY
from registry.names import VERSION
from tests.cluster.support.releases import FOLDER, PRODUCT, releases, unpack


def product_files(folder: Path) -> dict[str, bytes]:
    """What the program in a folder consists of, by path."""
    paths = [path for name in PRODUCT for path in (folder / name, *(folder / name).rglob("*"))]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


def test_the_changes_begin_with_this_version_and_have_an_entry_for_every_release() -> None:
    entries = re.findall(r"^## (\S+?),? (.*)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [version for version, _ in entries]
    assert versions[0] == VERSION
    assert set(releases()) <= set(versions)
    for version, when in entries:
        wanted = r"\d{4}-\d{2}-\d{2}" if version in releases() else "unreleased"
        assert re.fullmatch(wanted, when), (version, when)


@pytest.mark.parametrize("version", releases())
def test_the_program_of_a_released_version_is_what_was_released(version: str, tmp_path: Path) -> None:
    assert (FOLDER / f"{version}.tar.xz").stat().st_size < 200_000
    if version == VERSION:
        assert product_files(REPOSITORY) == product_files(unpack(version, tmp_path)), (
            f"{version} is released: give what has changed since a version of its own in registry/names.py"
        )
