"""The demo's image is made from its own file, and what it needs is said at once."""

import json
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from local_cluster import demo
from local_cluster.__main__ import main
from local_cluster.image_archive import ARCHITECTURES


def unpacked(archive: Path, folder: Path) -> tuple[dict[str, object], Path]:
    """The configuration of an archive's image, and a folder with its files."""
    with tarfile.open(archive) as outer:
        outer.extractall(folder, filter="data")
    [manifest] = json.loads((folder / "manifest.json").read_text())
    [layer] = manifest["Layers"]
    with tarfile.open(folder / layer) as inner:
        inner.extractall(folder / "root", filter="data")
    return json.loads((folder / manifest["Config"]).read_text()), folder / "root"


@pytest.mark.parametrize(("kind", "machine"), [("amd64", 62), ("arm64", 183)])
def test_an_image_for_each_processor_says_that_it_is_for_it(kind: str, machine: int, tmp_path: Path) -> None:
    config, root = unpacked(demo.image(tmp_path, kind), tmp_path)
    assert config["architecture"] == kind
    assert int.from_bytes((root / "say").read_bytes()[18:20], "little") == machine  # e_machine of ELF


@pytest.mark.skipif(platform.system() != "Linux", reason="it is a program for Linux")
def test_its_program_prints_its_argument(tmp_path: Path) -> None:
    _, root = unpacked(demo.image(tmp_path, ARCHITECTURES[platform.machine()]), tmp_path)
    assert subprocess.run([root / "say", "it runs\n"], capture_output=True, check=True).stdout == b"it runs\n"


def test_without_crane_it_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["demo", "dev"]) == 1
    assert "there is no program crane on PATH, which pushes the demo's image: install it (https://" in (
        capfd.readouterr().err
    )


def test_a_stack_that_is_not_up_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, prints in {"pulumi": "{}", "crane": ""}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{prints}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert main(["demo", "dev"]) == 1
    assert "the stack dev has no registry yet: bring it up (make up STACK=dev)" in capfd.readouterr().err
