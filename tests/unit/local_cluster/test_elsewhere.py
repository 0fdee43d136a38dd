"""With KUBECONFIG or CONTEXT nothing of a local cluster is built, and what is missing is said at once."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import elsewhere, programs, shell
from local_cluster.__main__ import main
from local_cluster.errors import ClusterError
from local_cluster.paths import KUBECONFIG, REPOSITORY
from registry import kubeconfig
from tests.unit.support.api_server import api_server, old_certificates, write_kubeconfig


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a user with nothing: no kubeconfig, no Pulumi, no place for stacks."""
    for name in [name for name in os.environ if name.startswith("PULUMI_")] + ["KUBECONFIG", "CONTEXT", "BUILD"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name, path in {"SHELL": "", "_CONTEXTS": "contexts"}.items():
        monkeypatch.setattr(elsewhere, name, tmp_path / "shell" / path)
    for name in ("PASSPHRASE", "PULUMI_HOME", "STACKS", "WRAPPERS"):
        monkeypatch.setattr(shell, name, tmp_path / "shell" / name)
    monkeypatch.setattr(programs, "ensure", lambda *_groups: pytest.fail("something is built"))
    return tmp_path


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of an API server, to which the file `mine` leads; ~/.kube/config leads to none."""
    with monkeypatch.context() as before:
        before.setenv("PATH", os.defpath)
        ca, leaf, key = old_certificates(tmp_path_factory.mktemp("certificates"))
    with api_server(leaf, key) as url:
        (home / ".kube").mkdir()
        write_kubeconfig(home / "mine", url, ca, "mine")
        write_kubeconfig(home / ".kube" / "config", "https://127.0.0.1:1", ca, "other")
        yield url


def with_pulumi(home: Path) -> None:
    """Put a program pulumi on PATH."""
    (home / "bin").mkdir()
    (home / "bin" / "pulumi").write_text("#!/bin/sh\n")
    (home / "bin" / "pulumi").chmod(0o755)


def take(monkeypatch: pytest.MonkeyPatch, variables: shell.Variables) -> None:
    """Do what a shell does with the lines that `make shell-env` prints."""
    for name, value in variables.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)


def test_the_local_cluster_is_meant_unless_another_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not elsewhere.is_named()
    monkeypatch.setenv("KUBECONFIG", str(KUBECONFIG))
    assert not elsewhere.is_named()
    monkeypatch.setenv("CONTEXT", "mine")
    assert elsewhere.is_named()
    monkeypatch.delenv("CONTEXT")
    monkeypatch.setenv("KUBECONFIG", str(home))
    assert elsewhere.is_named()


def test_without_pulumi_its_install_page_is_named_and_nothing_is_built(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(home / "mine"))
    assert main(["env", "--start"]) == 1
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "there is no program pulumi on PATH: install it (https://www.pulumi.com/" in printed.err
    assert "make up BUILD=1" in printed.err


def test_with_pulumi_nothing_is_built(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_pulumi(home)
    monkeypatch.setenv("KUBECONFIG", str(home / "mine"))
    variables = elsewhere.environment()
    assert (variables["PATH"] or "").split(":")[:2] == [str(REPOSITORY / ".venv" / "bin"), str(home / "bin")]
    assert variables["PULUMI_BACKEND_URL"] == f"file://{shell.STACKS}"
    assert variables["KUBECONFIG"] == str(home / "mine"), "the line that `make up` prints gives it to another shell"
    take(monkeypatch, variables)
    assert elsewhere.environment() == variables, "it is the same in a shell that has it"


@pytest.mark.parametrize(
    ("variables", "file"),
    [
        ({"PULUMI_BACKEND_URL": "s3://stacks"}, ""),
        ({"PULUMI_ACCESS_TOKEN": "pul-1"}, ""),
        ({}, ".pulumi"),
        ({"PULUMI_HOME": "HOME/elsewhere"}, "elsewhere"),
        ({"PULUMI_HOME": "HOME/other", "PULUMI_CREDENTIALS_PATH": "HOME/elsewhere"}, "elsewhere"),
    ],
)
def test_who_has_a_place_for_stacks_keeps_it(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], file: str
) -> None:
    with_pulumi(home)
    monkeypatch.setenv("KUBECONFIG", str(home / "mine"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace("HOME", str(home)))
    if file:
        assert "PULUMI_BACKEND_URL" in elsewhere.environment(), "nobody has logged in there yet"
        (home / file).mkdir()
        (home / file / "credentials.json").write_text("{}")
    assert set(elsewhere.environment()) == {"PATH", "KUBECONFIG"}
    assert not shell.PASSPHRASE.exists() or file


def test_a_shell_without_pulumi_is_for_kubectl(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(home / "mine"))
    monkeypatch.setenv("BUILD", "1")
    assert set(elsewhere.environment(pulumi=False)) == {"PATH", "KUBECONFIG"}


def test_what_a_shell_has_from_the_local_cluster_is_taken_from_it(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".kube" / "config").write_text((home / "mine").read_text())
    shell.WRAPPERS.mkdir(parents=True)
    (shell.WRAPPERS / "pulumi").touch(mode=0o755)
    for module in (elsewhere, shell):
        monkeypatch.setattr(module, "BIN", home / "built")
    local = shell.environment()
    take(monkeypatch, local)
    monkeypatch.setenv("CONTEXT", "mine")
    with pytest.raises(ClusterError, match="there is no program pulumi on PATH"):
        elsewhere.environment()
    take(monkeypatch, local)
    (home / "built").mkdir()
    (home / "built" / "pulumi").touch(mode=0o755)
    assert shutil.which("pulumi", path=elsewhere.environment()["PATH"]) == str(home / "built" / "pulumi")
    take(monkeypatch, local)
    with_pulumi(home)
    found = shell.applied(elsewhere.environment())
    assert shutil.which("pulumi", path=found["PATH"]) == str(home / "bin" / "pulumi")
    assert str(KUBECONFIG) not in found["KUBECONFIG"].split(os.pathsep)
    assert found["PULUMI_BACKEND_URL"] == f"file://{shell.STACKS}"
    assert {"PULUMI_HOME", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION"} & set(found) == set()


def test_a_context_becomes_the_current_one_of_every_program_and_nothing_is_copied(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pulumi(home)
    monkeypatch.setenv("KUBECONFIG", f"{home / '.kube' / 'config'}:{home / 'mine'}")
    monkeypatch.setenv("CONTEXT", "mine")
    variables = elsewhere.environment()
    files = (variables["KUBECONFIG"] or "").split(os.pathsep)
    assert files[1:] == [str(home / ".kube" / "config"), str(home / "mine")]
    assert "token" not in Path(files[0]).read_text()
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(files))
    assert elsewhere.environment()["KUBECONFIG"] == variables["KUBECONFIG"], "it is the same in a shell that has it"
    found = kubeconfig.connect()
    assert (found.context, found.client.configuration.host) == ("mine", server)


def test_a_shell_on_another_context_moves_no_shell_that_is_open(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_pulumi(home)
    text = (home / "mine").read_text()
    (home / "too").write_text(text.replace("mine", "too"))
    monkeypatch.setenv("KUBECONFIG", f"{home / 'mine'}:{home / 'too'}")
    monkeypatch.setenv("CONTEXT", "mine")
    first = (elsewhere.environment()["KUBECONFIG"] or "").split(os.pathsep)[0]
    before = Path(first).read_text()
    monkeypatch.setenv("CONTEXT", "too")
    second = (elsewhere.environment()["KUBECONFIG"] or "").split(os.pathsep)[0]
    assert (json.loads(before)["current-context"], Path(first).read_text()) == ("mine", before)
    assert json.loads(Path(second).read_text())["current-context"] == "too"


def test_a_cluster_that_does_not_answer_and_a_context_that_is_missing_are_one_sentence(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTEXT", "other")
    assert main(["env", "--start"]) == 1
    assert "the cluster of CONTEXT=other does not answer" in capfd.readouterr().err
    monkeypatch.setenv("CONTEXT", "missing")
    assert main(["env", "--start"]) == 1
    said = capfd.readouterr().err
    assert "There is no usable kubeconfig in" in said
    assert "missing" in said
