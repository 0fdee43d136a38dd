"""What the documentation says is so: its tables are current, and what it names exists."""

import re
from pathlib import Path

import pytest

from registry.clients.nodes import NODES
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


TRIED = re.compile(r"run|reproduced here: .+|from documents(: .+)?")
"""How something of the support tables was tried: what was run, what of it was reproduced and how, or that none was."""


VENDORS = (
    "EKS", "Fargate", "Auto Mode", "GKE Standard", "Autopilot", "AKS", "OpenShift", "Talos", "Bottlerocket", "K3s",
    "RKE2", "kind", "k3d", "minikube", "Docker Desktop", "OrbStack", "Colima", "MicroK8s", "k0s", "DOKS", "Rancher",
)  # fmt: skip
"""Those of which the page has to say something."""


def checked_tables() -> list[list[dict[str, str]]]:
    """The tables of the page on support whose form is checked: each row by the names of the columns."""
    tables = re.findall(r"<!-- a test checks the form of this table -->\n((?:\|.*\n)+)", TEXTS[Path("docs/support.md")])
    heads = [[cell.strip() for cell in table.splitlines()[0].strip("|").split("|")] for table in tables]
    return [
        [dict(zip(head, row, strict=True)) for row in docs.rows(table)]
        for head, table in zip(heads, tables, strict=True)
    ]


def test_every_row_on_a_vendors_cluster_says_how_it_was_tried_and_what_to_set() -> None:
    vendors, laptops, nodes = checked_tables()
    for row in [*vendors, *laptops, *nodes]:
        assert TRIED.fullmatch(row["how it was tried"]), row
    for row in [*vendors, *laptops]:
        assert row["`exposure` to begin with"], row
        assert re.match("`agent`|`external`|that of the cluster", row["who makes nodes trust"]), row
        named = re.findall(r"`--node (\w+)`", row["who makes nodes trust"])
        assert set(named) <= set(NODES), row
        assert bool(named) == ("`external`" in row["who makes nodes trust"]), row
    listed = " ".join(row["cluster"] for row in [*vendors, *laptops])
    for vendor in VENDORS:
        assert vendor in listed, vendor


def test_every_setting_of_nodes_that_is_printed_has_a_row() -> None:
    *_, nodes = checked_tables()
    assert [row["`--node`"] for row in nodes] == [f"`{node}`" for node in NODES]


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
