"""The tables of the documentation that are made from what the program reads and from what the tests have run.

`make docs` and `make bench` write them into the pages; a unit test checks that they are current.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import yaml

from registry.certificate.authority import KEPT
from registry.certificate.cert_manager import SERVER_VALIDITY
from registry.certificate.contract import CA_VALIDITY, RENEWAL
from tests.cluster.support.changes import CHANGES
from tests.cluster.support.front import ALLOWED

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CLIENTS = next((ROOT / "tests" / "cluster").rglob("clients_tried.md"))
MATRIX = next((ROOT / "tests" / "cluster").rglob("*expected.md"))


def pages() -> list[Path]:
    """Every page of the documentation: those at the top of the tree, those in docs/, and that of the local cluster."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("local_cluster/README.md")]


def rows(table: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def settings() -> str:
    """Every setting with its default and its description, from Pulumi.yaml."""
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    entries = [(key, entry) for key, entry in schema.items() if ":" not in key]

    def default(entry: dict[str, object]) -> str:
        value = entry["default"]
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return f"`{text}`" if value not in ("", []) else "(empty)"

    body = [(f"`{key}`", default(entry), " ".join(str(entry["description"]).split())) for key, entry in entries]
    return _table(("key", "default", "meaning"), body)


def clients() -> str:
    """Every client that was tried, with its version."""
    tried = [
        (f"{client} {version}", snippet, "no" if pull == "yes" else "yes")
        for client, version, snippet, _, pull in rows(CLIENTS.read_text())
    ]
    return _table(("client", "snippet", "needs a login to pull with `auth: push`"), tried)


def runtimes() -> str:
    """Every version of a container runtime that was run, with how many configurations were pulled with."""
    lines: list[tuple[str, str]] = []
    for (runtime, version), group in groupby(rows(MATRIX.read_text()), key=lambda row: (row[0], row[1])):
        cells = list(group)
        pulled = [row for row in cells if row[6] == "pulled"]
        restarted = sum(row[5] != "0" for row in pulled)
        state = f"{len(pulled)} configurations pulled with"
        state += f", {restarted} of them after one restart" if restarted else ""
        refused = [f"{row[2]}: {row[6]}" for row in cells if row[6] != "pulled"]
        lines.append((f"{runtime} {version}".replace("|", "/"), "; ".join([state, *refused])))
    return _table(("runtime", "without a kubelet, each on its real configuration"), lines)


def auth() -> str:
    """Who is asked for a password in each mode, as the tests have tried it with the real nginx."""
    named = {"everyone": "everyone", "who may pull": "either login", "who may push": "the login for pushes"}
    body = [
        (f"`{mode}`", *(named[allowed[kind][0]] for kind in ("pull", "push", "ping")))
        for mode, allowed in ALLOWED.items()
    ]
    return _table(("`auth`", "pulls, tags, catalog", "pushes, deletes", "`GET /v2/`"), body)


def lifetimes() -> str:
    """For how long each certificate is valid, and when it is renewed, from the numbers of the program."""

    def days(hours: int) -> str:
        return f"{round(hours / 24)} days"

    left = f"in its last {days(RENEWAL)}"
    body = [
        ("CA by `tls`", days(CA_VALIDITY), f"by `pulumi up` {left}, with the same key"),
        ("server certificate by `tls`", "until 1 to 2 hours before its CA's end", "by `pulumi up` when the CA is"),
        ("CA by cert-manager", days(CA_VALIDITY), f"by cert-manager {left}, with the same key"),
        ("server certificate by that CA", days(SERVER_VALIDITY), "by cert-manager in the last third, with another key"),
        ("server certificate by a ClusterIssuer", "as the ClusterIssuer likes", "by cert-manager, with another key"),
        ("a CA that was followed by another one", f"trusted for {KEPT // 3600} hours more", "no longer"),
    ]
    return _table(("certificate", "valid for", "renewed"), body)


def changes() -> str:
    """For how long pulls and pushes may fail while a running stack changes, as the tests allow it."""
    body = [(change.what, change.gap, change.why) for change in CHANGES.values()]
    return _table(("what changes", "longest gap", "why"), body)


def measured() -> str:
    """When and where it was measured, and the ratios and differences of `bench/results.md`."""
    text = (ROOT / "bench" / "results.md").read_text()
    date = text.partition("by `make bench` on ")[2].partition(" ")[0]
    known, throughput, course, nodes, *_ = (rows(part) for part in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE))
    facts = {key: value for key, value in known}
    lines = [
        *(
            (f"{way}: push, pull", f"{push}, {pull} of the registry alone")
            for way, _, _, push, _, _, pull in throughput
        ),
        *((what, f"{volume} with `storage: volume`, {memory} with `memory`") for what, volume, memory in course),
        *(
            (f"an idle agent, {stacks} on each node", f"{memory}, {time}, {often} wake-ups a minute")
            for stacks, _, memory, time, often in nodes
        ),
    ]
    head = ("", f"{date}, {facts['machine']}, program {facts['program']}")
    return _table(head, lines)


BLOCKS = {
    "settings": settings,
    "clients": clients,
    "runtimes": runtimes,
    "auth": auth,
    "lifetimes": lifetimes,
    "changes": changes,
    "measured": measured,
}
"""The generated tables by the name in their markers."""


def current(text: str) -> str:
    """A page's text in which every generated table that the page has is made anew."""
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, found, rest = text.partition(begin)
        if found:
            _, _, after = rest.partition(end)
            text = f"{before}{begin}{make()}\n{end}{after}"
    return text


def write() -> None:
    """Make the generated tables of every page anew."""
    for page in pages():
        page.write_text(current(page.read_text()))


if __name__ == "__main__":
    write()
