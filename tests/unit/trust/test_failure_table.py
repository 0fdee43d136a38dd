"""The table of failures that users read names every reason of the agent and every code of the doctor."""

import re
from pathlib import Path

from trust.agent.faults import Reason
from trust.doctor.verdict import Code

ROOT = Path(__file__).parents[3]
_DOCUMENTS = (ROOT / "docs" / "troubleshooting.md", ROOT / "README.md")


def named() -> set[str]:
    """Everything in backticks in the first column of a table."""
    text = next(path for path in _DOCUMENTS if path.exists()).read_text()
    first_columns = re.findall(r"^\|((?:[^|\\]|\\.)*)\|", text, re.MULTILINE)
    return {name for column in first_columns for name in re.findall(r"`([^`]+)`", column)}


def test_every_reason_and_every_code_is_in_the_table() -> None:
    assert {*Reason, *Code} - {Code.PROVED} - named() == set()


def test_no_code_in_the_table_has_been_given_up() -> None:
    known = {*Reason, *Code}
    assert {name for name in named() if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", name)} - known == set()
