"""The demo's image is made from its own file, and what it needs is said at once."""

import io
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
    """The configuration of an archive's image, and its only file."""
    with tarfile.open(archive) as outer:
        read = {name: file.read() for name in outer.getnames() if (file := outer.extractfile(name))}
    [manifest] = json.loads(read["manifest.json"])
    with tarfile.open(fileobj=io.BytesIO(read[manifest["Layers"][0]])) as inner:
        [name] = inner.getnames()
        file = inner.extractfile(name)
        assert file
        program = folder / name
        program.write_bytes(file.read())
        program.chmod(inner.getmember(name).mode)
    return json.loads(read[manifest["Config"]]), program


@pytest.mark.parametrize(("kind", "machine"), [("amd64", 62), ("arm64", 183)])
def test_an_image_for_each_processor_says_that_it_is_for_it(kind: str, machine: int, tmp_path: Path) -> None:
    config, program = unpacked(demo.image(tmp_path, kind), tmp_path)
    assert config["architecture"] == kind
    assert int.from_bytes(program.read_bytes()[18:20], "little") == machine  # e_machine of ELF


@pytest.mark.skipif(platform.system() != "Linux", reason="it is a program for Linux")
def test_its_program_prints_its_argument(tmp_path: Path) -> None:
    _, program = unpacked(demo.image(tmp_path, ARCHITECTURES[platform.machine()]), tmp_path)
    assert subprocess.run([program, "it runs\n"], capture_output=True, check=True).stdout == b"it runs\n"


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
