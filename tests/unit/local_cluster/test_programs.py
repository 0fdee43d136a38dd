"""The table of programs agrees with requirements.txt and with the go.mod files."""

import re
from collections import Counter

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
