"""The page on failures quotes what kubelets, clients and Pulumi really say: the cluster tests expect the same words."""

import re
from collections.abc import Iterator

import pytest

from tests import docs
from tests.cluster.support import messages

PAGE = (docs.ROOT / "docs" / "troubleshooting.md").read_text()
TESTS = "\n".join(path.read_text() for path in (docs.ROOT / "tests" / "cluster").glob("test_*.py"))
CONSTANTS = {name: value for name, value in vars(messages).items() if name.isupper()}
ELSEWHERE = " (from documents)"
"""What follows words that no test has produced."""


def words(*names: str) -> set[str]:
    """The words of these constants."""
    values = (CONSTANTS[name] for name in names)
    return {each for value in values for each in ((value,) if isinstance(value, str) else value)}


def first_columns(*sections: str) -> Iterator[str]:
    """The first cells of the tables in these sections of the page."""
    for section in sections:
        text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
        yield from (cells[0] for cells in docs.rows(text))


def quoted(cell: str, *, also_elsewhere: bool = False) -> list[str]:
    """The words that a cell quotes, without what stands for any text, and without those from documents."""
    found = re.findall(r"`([^`]+)`( \(from documents\))?", cell)
    return [text.removeprefix("...").split(" ...")[0] for text, mark in found if also_elsewhere or not mark]


def test_what_kubelets_and_clients_say_is_what_a_test_expects_or_from_documents() -> None:
    cells = list(first_columns("What kubelets say", "What clients say"))
    assert len(cells) > 12
    assert {text for cell in cells for text in quoted(cell)} - words(*CONSTANTS) == set()


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_word_is_in_the_page_and_is_expected_by_a_test(name: str) -> None:
    sections = ("Messages of `pulumi up` and `pulumi destroy`", "What kubelets say", "What clients say")
    page = {text for cell in first_columns(*sections) for text in quoted(cell)}
    assert words(name) <= page
    assert re.search(rf"\bmessages\.{name}\b", TESTS), f"no test on the cluster expects {name}"
