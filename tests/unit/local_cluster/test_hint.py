"""How to go on after `make up`: what is printed can be pasted."""

import json
from pathlib import Path

import pytest

from local_cluster.__main__ import main


@pytest.mark.parametrize("username", ["registry-2", None])
def test_the_hint_logs_in_before_it_pushes_if_there_is_a_password(
    username: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    outputs = {"registryUrl": "registry.example.com", **({"username": username} if username else {})}
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f"#!/bin/sh\necho '{json.dumps(outputs)}'\n")
    pulumi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert main(["hint", "dev"]) == 0
    printed = capfd.readouterr().out
    login = (
        "  pulumi stack output --stack dev --show-secrets password |\n"
        f"    crane auth login registry.example.com --username {username} --password-stdin\n"
    )
    push = "  crane push app.tar registry.example.com/team/app:1\n"
    assert (login + push in printed) == (username is not None)
    assert push in printed
    assert "None" not in printed
