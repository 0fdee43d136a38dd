"""The picture in the README has the README's commands, and what the recorder leaves out or replaces is as it says."""

import html
import re

from tests import docs
from tests.cluster.support.recording import ARCHIVE, PICTURE, commands, drawn, is_run, shown

UP = """\
Previewing update (pr-42):
 +  kubernetes:core/v1:Namespace namespace create
Outputs:
    namespace    : [unknown]

Updating (pr-42):
 +  private-registry:trust:NodeTrust trust creating (36s) node-b: proved, 1 of 3
Diagnostics:
    node-b: proved, 1 of 3
    Waiting for 2 of 3 nodes:
    node-a, node-c: proved, 3 of 3

Outputs:
    address      : "10.99.0.201"
    registryUrl  : "registry-pr-42-abc123.10-99-0-201.nip.io"

Duration: 1m12s
"""


def test_the_picture_has_the_commands_of_the_readme() -> None:
    picture = html.unescape(PICTURE.read_text()).replace("\xa0", " ")
    given = commands(docs.README.read_text())
    assert len(given) == 10
    for command in given:
        assert f">{command if is_run(command) else ARCHIVE}</text>" in picture, "run: make recording"


def test_the_picture_asks_nobody_for_anything() -> None:
    assert re.findall(r"https?://[^\"<]+", PICTURE.read_text()) == ["http://www.w3.org/2000/svg"]


def test_what_differs_from_run_to_run_is_replaced_and_every_gap_is_seen() -> None:
    assert shown(UP) == [
        "…",
        "Updating (pr-42):",
        "…",
        "    node-a, node-b, node-c: proved, 3 of 3",
        "Outputs:",
        "…",
        '    registryUrl  : "registry-pr-42-gkwvpn.10-99-0-200.nip.io"',
        "Duration: …",
    ]
    other = UP.replace("    node-b: proved, 1 of 3\n    Waiting for 2 of 3 nodes:\n", "").replace(
        "a, node", "a, node-b, node"
    )
    other = (
        other.replace("abc123", "xyz789").replace("1m12s", "9s").replace(" +  private-registry:trust", " +  p:trust")
    )
    assert drawn([("pulumi up --yes", other)]) == drawn([("pulumi up --yes", UP)])
