"""What counts as a gap, and that the docs and the tests speak of the same gaps."""

import re

from tests.cluster.support.changes import CHANGES, GAP, REPRESENTATIVE
from tests.cluster.support.loop import Attempt, longest_gap
from tests.docs import ROOT, rows


def attempts(*ends: str) -> list[Attempt]:
    """An attempt each second, which takes half of it; `x`: it failed."""
    return [Attempt(what="", begin=n, end=n + 0.5, error=end.strip("o")) for n, end in enumerate(ends)]


def test_a_gap_is_from_the_beginning_of_a_failure_to_the_end_of_the_last_one_in_a_row() -> None:
    assert longest_gap(attempts(*"ooo")) == 0
    assert longest_gap(attempts(*"oxo")) == 0.5
    assert longest_gap(attempts(*"xoxxxoxx")) == 2.5
    assert longest_gap(attempts(*"oxxxx")) == 3.5


def test_the_docs_have_the_gaps_that_the_tests_allow() -> None:
    section = (ROOT / "docs" / "settings.md").read_text().partition("<!-- changes -->")[2].partition("<!-- /")[0]
    told = {what: gap for what, gap, _ in rows(section)}
    assert told == {each.what: each.gap for each in CHANGES.values()}
    assert {each.allowed for each in CHANGES.values()} == {0, GAP}
    assert GAP <= 15
    assert CHANGES[REPRESENTATIVE].steps


def test_every_change_of_the_docs_is_one_of_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "cluster").glob("test_*.py"))
    tried = {name for name, each in CHANGES.items() if each.steps} | set(re.findall(r'CHANGES\["(\w+)"\]', tests))
    assert tried == set(CHANGES)
