"""What disturbs other tests runs alone, and what there is only one of is used by one group of tests."""

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from local_cluster import host_machine
from local_cluster.paths import REPOSITORY
from tests.cluster.support.side_by_side import TOGETHER, group

MAKEFILE = (REPOSITORY / "Makefile").read_text()

DISTURBING = re.compile(
    r"\b(config_trees|restarts|assert_restarts)\("  # compares a node with what it was
    r"|\blocal_cluster\.(add|remove)\(|\brestart_node\b|\bjoined\("  # nodes come and go
    r"|\bexec_in_node\("  # changes a node by hand
)
"""What only a test may say, or a fixture of a test, that runs alone."""

ONE_OF_A_KIND = ("bare", "cert_manager", "gateway_controller", "rows")
"""Fixtures of which there can be one at a time: they take a port, make kinds of the whole cluster, or write a file."""


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
        patch.setattr(host_machine, "check", lambda: None)  # collecting needs no machine that can run the cluster
        options = ["--collect-only", "--quiet", "--quiet", "-p", "no:cacheprovider", "--rootdir", str(REPOSITORY)]
        assert pytest.main([*options, str(REPOSITORY / "tests" / "cluster")], plugins=[collected]) == 0
    return collected.items


def is_alone(test: pytest.Item) -> bool:
    return test.get_closest_marker("alone") is not None


def functions(test: pytest.Function) -> set[Callable[..., Any]]:
    """The function of a test, and those of its fixtures."""
    definitions = test._fixtureinfo.name2fixturedefs.values()
    return {test.function, *(each.func for fixture in definitions for each in fixture)}


def disturbs(test: pytest.Function) -> bool:
    own = (function for function in functions(test) if "/tests/cluster/" in inspect.getfile(function))
    return any(DISTURBING.search(inspect.getsource(function)) for function in own)


def groups(tests: Iterable[pytest.Item]) -> set[str]:
    """The groups of those tests that run side by side with others."""
    return {group(test.nodeid) for test in tests if not is_alone(test)}


def test_every_test_on_the_cluster_is_marked_as_one(tests: list[pytest.Function]) -> None:
    assert len(tests) > 400
    assert not [test.nodeid for test in tests if test.get_closest_marker("cluster") is None]


def test_what_disturbs_others_or_is_disturbed_by_them_runs_alone(tests: list[pytest.Function]) -> None:
    disturbing = [test for test in tests if disturbs(test)]
    assert {Path(inspect.getfile(test.function)).stem for test in disturbing} >= {
        "test_doctor",
        "test_faults",
        "test_interleavings",
        "test_life_of_a_stack",
        "test_release_lines",
    }
    assert not [test.nodeid for test in disturbing if not is_alone(test)]


@pytest.mark.parametrize("name", ONE_OF_A_KIND)
def test_what_there_is_only_one_of_is_used_by_one_group(tests: list[pytest.Function], name: str) -> None:
    assert len(groups(test for test in tests if name in test.fixturenames)) == 1


def test_one_group_advertises_a_registry(tests: list[pytest.Function]) -> None:
    advertising = [test for test in tests if '"advertise": "true"' in inspect.getsource(test.function)]
    assert len(advertising) > 2
    assert len(groups(advertising)) == 1


def test_modules_that_share_a_worker_are_there(tests: list[pytest.Function]) -> None:
    modules = {Path(inspect.getfile(test.function)).stem for test in tests}
    together = [module for group in TOGETHER.values() for module in group]
    assert len(together) == len(set(together))
    assert set(together) <= modules
    assert len(groups(tests)) > len(TOGETHER) + 4, "there is something to run side by side"


def test_make_runs_every_test_in_one_phase_and_repeats_some_with_the_unchanged_provider() -> None:
    commands = re.findall(
        r"pytest tests/cluster -m '?([a-z ]+?)'?( -n \$\(WORKERS\))?(?: \|\| failed=1; \\)?\n", MAKEFILE
    )
    assert commands == [
        ("not slow and not alone", " -n $(WORKERS)"),
        ("not slow and alone", ""),
        ("slow", ""),
        ("provider", ""),
    ]
    assert "PRIVATE_REGISTRY_PROVIDER=unchanged $(PYTHON) -m pytest tests/cluster -m provider" in MAKEFILE
