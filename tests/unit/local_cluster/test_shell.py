"""The environment of a shell on the cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_cluster import shell
from local_cluster.paths import BIN

VARIABLES = st.dictionaries(st.from_regex(r"[A-Z]{1,20}_", fullmatch=True), st.text("ab $'\"\\\n`*~;&"), max_size=3)


@given(VARIABLES)
@settings(max_examples=20)
def test_export_lines_give_a_shell_the_values_unchanged(variables: dict[str, str]) -> None:
    script = 'eval "$EXPORTS"; exec "$PYTHON" -c "import os, json; print(json.dumps(dict(os.environ)))"'
    lines = shell.exports({**variables, "GONE": None})
    environment = {"EXPORTS": lines, "PYTHON": sys.executable, "GONE": "a value"}
    output = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=True)
    found = json.loads(output.stdout)
    assert {name: found[name] for name in variables} == variables
    assert "GONE" not in found


def test_wrappers_come_before_the_programs_that_they_wrap() -> None:
    path = shell.applied(shell.environment())["PATH"].split(":")
    assert path[0] == str(shell.WRAPPERS)
    assert path.index(str(shell.WRAPPERS)) < path.index(str(BIN))


def test_the_passphrase_is_in_a_file_that_only_its_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passphrase = tmp_path / "passphrase"
    monkeypatch.setattr(shell, "PASSPHRASE", passphrase)
    monkeypatch.setattr(shell, "PULUMI_HOME", tmp_path / "home")
    monkeypatch.setattr(shell, "STACKS", tmp_path / "stacks")
    variables = shell.own_backend()
    assert variables["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(passphrase)
    assert passphrase.stat().st_mode & 0o777 == 0o600
    first = passphrase.read_text()
    assert len(first) >= 32
    assert first not in str(variables)
    shell.own_backend()
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another one")
    for made in (shell.own_backend(), shell.environment()):
        assert shell.applied(made)["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(passphrase)
        assert "PULUMI_CONFIG_PASSPHRASE" not in shell.applied(made), "Pulumi would take it instead of the file"
    assert passphrase.read_text() == first  # or the secrets of existing stacks would be lost
