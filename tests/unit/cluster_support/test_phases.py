"""Every test on the cluster runs alone, or in one group beside other groups; what disturbs a node runs alone."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_cluster.paths import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text()

DISTURBING = re.compile(
    r"\b(config_trees|restarts|assert_restarts)\("  # compares a node with what it was
    r"|\blocal_cluster\.(add|remove)\(|\brestart_node\b|\bjoined\("  # nodes come and go
    r"|\bexec_in_node\("  # changes a node by hand
)
"""What only a test may say, or a fixture of a test, that runs alone."""

ONE_OF_A_KIND = ("bare", "cert_manager", "gateway_controller", "rows")
"""Fixtures of which there can be one at a time: a fixed port, kinds of the whole cluster, a file."""


class Collected:
    """Takes what pytest has collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Function] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = [item for item in session.items if isinstance(item, pytest.Function)]


@pytest.fixture(scope="module")
def tests() -> list[pytest.Function]:
    """Every test on the cluster."""
    collected = Collected()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CI", raising=False)  # with it, a machine that cannot run the cluster is an error
        options = ["--collect-only", "--quiet", "--quiet", "-p", "no:cacheprovider", "--rootdir", str(REPOSITORY)]
        assert pytest.main([*options, str(REPOSITORY / "tests" / "cluster")], plugins=[collected]) == 0
    return collected.items


def groups(test: pytest.Item) -> set[str]:
    return {mark.args[0] for mark in test.iter_markers("xdist_group")}


def is_alone(test: pytest.Item) -> bool:
    return test.get_closest_marker("alone") is not None


def functions(test: pytest.Function) -> set[Callable[..., Any]]:
    """The function of a test, and those of its fixtures."""
    definitions = test._fixtureinfo.name2fixturedefs.values()
    return {test.function, *(each.func for fixture in definitions for each in fixture)}


def disturbs(test: pytest.Function) -> bool:
    own = (function for function in functions(test) if "/tests/cluster/" in inspect.getfile(function))
    return any(DISTURBING.search(inspect.getsource(function)) for function in own)


def test_every_test_on_the_cluster_says_whether_it_runs_alone_or_in_which_group(tests: list[pytest.Function]) -> None:
    assert len(tests) > 400
    assert not [test.nodeid for test in tests if test.get_closest_marker("cluster") is None]
    assert not [test.nodeid for test in tests if not is_alone(test) and len(groups(test)) != 1]


def test_what_disturbs_a_node_or_compares_it_with_what_it_was_runs_alone(tests: list[pytest.Function]) -> None:
    disturbing = [test for test in tests if disturbs(test)]
    assert {Path(inspect.getfile(test.function)).stem for test in disturbing} >= {
        "test_doctor",
        "test_faults",
        "test_interleavings",
        "test_life_of_a_stack",
        "test_promise",
        "test_release_lines",
    }
    assert not [test.nodeid for test in disturbing if not is_alone(test)]


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_what_there_is_only_one_of_is_used_by_one_group(tests: list[pytest.Function], name: str) -> None:
    users = [test for test in tests if name in test.fixturenames]
    assert users
    assert len({group for test in users if not is_alone(test) for group in groups(test)}) == 1


def test_make_runs_both_phases_of_both_tiers() -> None:
    phases = set(re.findall(r"-m '\$\(1\) and (not )?alone'", MAKEFILE))
    tiers = set(re.findall(r"\$\(call cluster_tests,((?:not )?slow)\)", MAKEFILE))
    assert (phases, tiers) == ({"", "not "}, {"not slow", "slow"})
