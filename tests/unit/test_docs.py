"""What the documentation says is so: its tables are current, and what it names exists."""

import re
from pathlib import Path

import pytest

from tests import docs

TEXTS = {page.relative_to(docs.ROOT): page.read_text() for page in docs.pages()}
README_LINES = 130
"""How long the README may be: what is longer belongs in docs/."""


@pytest.mark.parametrize("page", TEXTS, ids=str)
def test_the_tables_are_those_of_the_settings_and_of_the_tests(page: Path) -> None:
    assert docs.current(TEXTS[page]) == TEXTS[page], "run: make docs"


@pytest.mark.parametrize("name", docs.BLOCKS)
def test_every_table_that_is_made_has_its_markers_once(name: str) -> None:
    whole = "\n".join(TEXTS.values())
    assert whole.count(f"<!-- {name} -->\n") == whole.count(f"<!-- /{name} -->\n") == 1


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (docs.ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (target, page)
        for page, text in TEXTS.items()
        for target in re.findall(r"(?:`|^\$ |^)make (?:-s )?([a-z-]+)", text, re.MULTILINE)
    }
    assert {"up", "test"} <= {target for target, page in named if page.name == "README.md"}
    assert len(named) > 10
    assert not [(target, str(page)) for target, page in named if target not in targets]


def test_the_readme_is_short() -> None:
    assert len(docs.README.read_text().splitlines()) <= README_LINES


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS, ids=str)
def test_every_link_leads_to_something_in_the_tree(page: Path) -> None:
    broken: list[str] = []
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = docs.ROOT / page.parent / path if path else docs.ROOT / page
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            broken.append(link)
    assert not broken
