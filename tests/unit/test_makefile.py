"""What the make targets do around the programs that they call, which are stand-ins here."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import docs

SALT = "encryptionsalt: v1:abc=:v1:def:ghi==\n"
SETTING = "config:\n  private-registry:storageSize: 5Gi\n"
SECURE_SETTING = "  private-registry:imagePullSecret:\n    secure: v1:abc:def=\n"
PYTHON = """\
#!/bin/sh
echo "$@" >> python.log
[ "$*" = "-m local_cluster env" ] && echo 'pulumi() { echo "$@" >> pulumi.log; }'
[ "$*" = "-m local_cluster env --without-pulumi" ] && echo 'kubectl() { echo the namespaces; }'
exit 0
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with the Makefile, and a Python that stands in for what the targets run."""
    shutil.copy(docs.ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements-dev.lock").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    return tmp_path


def make(tree: Path, *arguments: str, path: str = os.defpath) -> str:
    """What `make` prints. It fails the test if it fails."""
    done = subprocess.run(
        ["make", "-s", *arguments], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["down", "clean"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SALT + SETTING, SETTING),
        (SETTING + SALT, SETTING),
        (SALT, None),
        (SALT + SETTING + SECURE_SETTING, SALT + SETTING + SECURE_SETTING),
        (None, None),
    ],
    ids=["salt", "salt at the end", "only the salt", "salt of a secret setting", "no file"],
)
def test_the_salt_goes_unless_a_secret_setting_needs_it(
    tree: Path, target: str, before: str | None, after: str | None
) -> None:
    file = tree / "Pulumi.dev.yaml"
    if before is not None:
        file.write_text(before)
    make(tree, target)
    assert (file.read_text() if file.exists() else None) == after
    assert list(tree.glob("*.bak")) == []


@pytest.mark.parametrize("stack", ["pr-42", "org/project/pr-42"])
def test_down_takes_the_full_name_of_a_stack_and_its_file_is_that_of_the_last_part(tree: Path, stack: str) -> None:
    (tree / "Pulumi.pr-42.yaml").write_text(SALT + SETTING)
    make(tree, "down", f"STACK={stack}")
    assert (tree / "Pulumi.pr-42.yaml").read_text() == SETTING
    assert (tree / "pulumi.log").read_text().splitlines() == [
        f"destroy --yes --skip-preview --stack {stack}",
        f"stack rm --yes --preserve-config {stack}",
    ]


def test_leftovers_are_listed_by_kubectl_alone(tree: Path) -> None:
    assert make(tree, "leftovers") == "the namespaces\n"
    assert not (tree / "pulumi.log").exists()


def test_help_lists_the_targets_with_awk_alone(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("make", "awk"):
        (folder / name).symlink_to(shutil.which(name) or "")
    lines = make(tree, "help", path=str(folder)).splitlines()
    assert "up            Set up what is missing" in "\n".join(lines)
    assert [line for line in lines if line.endswith('eval "$(make -s shell-env)"')] == [
        'shell-env     Print the environment of a shell on the cluster: eval "$(make -s shell-env)"'
    ]
    assert len(lines) > 15


def without_venv(tmp_path: Path, python3: str, uid: int = 1000) -> subprocess.CompletedProcess[str]:
    """`make .venv/.installed` by a user with this python3."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"python3": python3, "id": f"echo {uid}", "apt-get": "echo installed"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    for name in ("Makefile", "requirements-dev.lock"):
        shutil.copy(docs.ROOT / name, tmp_path)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", ".venv/.installed"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("uid", [0, 1000])
def test_a_venv_that_fails_for_another_reason_is_told_in_pythons_own_words(tmp_path: Path, uid: int) -> None:
    denied = "Error: [Errno 13] Permission denied: '.venv'"
    done = without_venv(tmp_path, f'[ "$1" = -c ] || {{ echo "{denied}" >&2; exit 1; }}', uid)
    assert done.returncode != 0
    assert f"python3 cannot make the folder .venv: {denied}" in done.stderr
    assert "apt-get" not in done.stderr
    assert "installed" not in done.stdout


def test_a_user_who_cannot_install_packages_is_told_which_one_is_missing(tmp_path: Path) -> None:
    done = without_venv(tmp_path, "exit 1")
    assert done.returncode != 0
    assert "sudo apt-get install python3-venv" in done.stderr
    assert "installed" not in done.stdout
