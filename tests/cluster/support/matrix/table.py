"""The matrix as a table: what a run wrote is compared with what was reviewed."""

from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ..places import DATA

EXPECTED = DATA / "runtimes_expected.md"
"""The reviewed table. After a change that is wanted: copy test-results/matrix.md here and review the difference."""

_TITLE = """\
# What was run: container runtimes and their configurations

Each line is one run of `tests/cluster/test_matrix.py`: a real runtime on this configuration, a real registry with a
private CA, the agent as its own process. Where `pull` says `pulled`, the pull failed with x509 before the agent came,
worked while it was there, and failed with x509 after it had gone, with all configuration as it was before.
Else it names the agent's reason code. `<host>` is the registry's host, `<owner>` the owner of the files.

"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    runtime: str
    version: str
    configuration: str
    reads: str
    """The place that decides at a pull, as the agent reports it."""
    files: str
    """Files that the agent adds or changes."""
    restarts: str
    """How often the runtime was restarted."""
    pull: str
    """`pulled`, or a reason code."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What was run."""
        return self.runtime, self.version, self.configuration


def read(path: Path = EXPECTED) -> dict[tuple[str, str, str], Row]:
    """The rows of a table."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")][1:]
    rows = [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]
    return {row.key: row for row in rows}


def text(rows: list[Row]) -> str:
    """The table of these rows."""
    names = [field.name for field in fields(Row)]
    lines = [names, *(astuple(row) for row in rows)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    return _TITLE + "\n".join([table[0], "|" + "---|" * len(names), *table[1:]]) + "\n"
