"""The table of programs agrees with requirements.txt and with the go.mod files."""

import re
from collections import Counter
from pathlib import Path

import pytest

from local_cluster import programs
from local_cluster.paths import REPOSITORY


def test_the_providers_have_the_versions_of_the_python_packages() -> None:
    requirements = (REPOSITORY / "requirements.txt").read_text()
    pins = dict(re.findall(r"^pulumi-(\w+)==(\S+)$", requirements, re.MULTILINE))
    assert pins == programs.PROVIDERS


@pytest.mark.parametrize("name", programs.GROUPS)
def test_every_version_that_a_program_reports_is_one_of_its_go_mod(name: str) -> None:
    group = programs.GROUPS[name]
    required = (programs.MODULES / group.module / "go.mod").read_text()
    reported = [program.module for program in group.programs if program.module]
    assert [module for module in reported if f"\t{module} v" not in required] == []


def test_no_two_programs_have_the_same_name() -> None:
    names = [
        name
        for group in programs.GROUPS.values()
        for program in group.programs
        for name in (program.name, *program.links)
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_what_only_the_bench_needs_is_built_for_nobody_else() -> None:
    parts = (programs.DEFAULT, programs.TESTED, programs.EXTRA, programs.MEASURED)
    assert sorted(name for part in parts for name in part) == sorted(programs.GROUPS)


@pytest.mark.parametrize(
    ("given", "built", "fetched"),
    [
        ({}, "HOME/.cache/go-build", "HOME/go/pkg/mod"),
        ({"XDG_CACHE_HOME": "/x", "GOPATH": "/a:/b"}, "/x/go-build", "/a/pkg/mod"),
        ({"PRIVATE_REGISTRY_LOCAL": "/big"}, "/big/go-build", "/big/go-modules"),
        ({"PRIVATE_REGISTRY_LOCAL": "/big", "GOCACHE": "/c", "GOMODCACHE": "/m"}, "/c", "/m"),
        ({"PRIVATE_REGISTRY_LOCAL": "/big", "GOPATH": "/a"}, "/big/go-build", "/a/pkg/mod"),
    ],
)
def test_go_s_caches_are_in_the_folder_that_the_user_has_chosen_and_else_where_go_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], built: str, fetched: str
) -> None:
    for name in ("GOCACHE", "GOMODCACHE", "GOPATH", "PRIVATE_REGISTRY_LOCAL", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(programs, "LOCAL", Path(given.get("PRIVATE_REGISTRY_LOCAL", tmp_path / "local")))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    wanted = {"GOCACHE": built, "GOMODCACHE": fetched}
    wanted = {name: path.replace("HOME", str(tmp_path)) for name, path in wanted.items()}
    assert {name: str(path) for name, path in programs.go_caches().items()} == wanted
    environment = programs._environment()  # pyright: ignore[reportPrivateUsage]
    passed = {name: environment[name] for name in wanted if name in environment}
    assert passed == (wanted if "PRIVATE_REGISTRY_LOCAL" in given else {}), "Go's own default is left to Go"
