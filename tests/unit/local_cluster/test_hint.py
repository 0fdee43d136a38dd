"""How to go on after `make up`: what is printed can be pasted."""

import json
from pathlib import Path

import pytest

from local_cluster import elsewhere
from local_cluster.__main__ import main
from local_cluster.paths import KUBECONFIG


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user who has named no cluster."""
    for name in ("KUBECONFIG", "CONTEXT", "BUILD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(elsewhere, "_CONTEXTS", tmp_path / "contexts")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ""),
        ({"BUILD": "1"}, ""),
        ({"KUBECONFIG": str(KUBECONFIG)}, ""),
        ({"CONTEXT": "mine", "BUILD": "1"}, " CONTEXT=mine BUILD=1"),
        ({"KUBECONFIG": "/x"}, " KUBECONFIG=/x"),
        ({"KUBECONFIG": "/a b:/x", "CONTEXT": "a$b"}, " KUBECONFIG='/a b:/x' CONTEXT='a$$b'"),
        ({"KUBECONFIG": "HOME/contexts/1.json:HOME/.kube/config", "CONTEXT": "mine"}, " CONTEXT=mine"),
        ({"KUBECONFIG": "HOME/contexts/1.json:/x", "CONTEXT": "mine"}, " KUBECONFIG=/x CONTEXT=mine"),
        ({"KUBECONFIG": "HOME/.kube/config"}, " KUBECONFIG=HOME/.kube/config"),
    ],
)
def test_the_next_shell_is_told_the_cluster_that_was_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], wanted: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value.replace("HOME", str(home)))
    assert elsewhere.arguments() == wanted.replace("HOME", str(home))


@pytest.mark.parametrize("username", ["registry-2", None])
def test_the_hint_logs_in_before_it_pushes_if_there_is_a_password(
    username: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    outputs = {"registryUrl": "registry.example.com", **({"username": username} if username else {})}
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f"#!/bin/sh\necho '{json.dumps(outputs)}'\n")
    pulumi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("CONTEXT", "mine")
    assert main(["hint", "dev"]) == 0
    printed = capfd.readouterr().out
    login = (
        "  pulumi stack output --stack dev --show-secrets password |\n"
        f"    crane auth login registry.example.com --username {username} --password-stdin\n"
    )
    push = "  crane push app.tar registry.example.com/team/app:1\n"
    assert (login + push in printed) == (username is not None)
    assert push in printed
    assert 'eval "$(make -s shell-env CONTEXT=mine)"\n' in printed
    assert "None" not in printed
