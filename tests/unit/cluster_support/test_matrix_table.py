"""The reviewed table of the matrix is complete and says what is promised; what was run is in tests/cluster."""

import re

from tests.cluster.support.matrix import table
from tests.cluster.support.matrix.layouts import CELLS, CORE, LAYOUTS, VERSIONS
from tests.cluster.support.matrix.others import OTHERS
from trust.agent.faults import Reason

ROWS = table.read()


def test_table_has_a_row_for_each_cell_and_no_other() -> None:
    cells = [("containerd", cell.version, cell.configuration) for cell in CELLS]
    others = [(other.runtime, other.version, other.configuration) for other in OTHERS]
    assert list(ROWS) == cells + others, "in this order"
    assert set(CORE) <= set(CELLS)


def test_what_is_not_pulled_has_a_reason() -> None:
    not_pulled = {row.pull for row in ROWS.values()} - {"pulled"}
    assert not_pulled == {Reason.INLINE_MIRRORS, Reason.RUNTIME_UNKNOWN}
    for row in ROWS.values():
        broken = row.runtime == "containerd" and LAYOUTS[row.configuration].broken
        assert (row.pull == Reason.RUNTIME_UNKNOWN) == broken
        assert row.pull != Reason.INLINE_MIRRORS or row.version.startswith("2.")
        assert (row.pull == "pulled") == bool(row.files)


def test_runtime_is_restarted_at_most_once_and_only_where_its_configuration_is_changed() -> None:
    for row in ROWS.values():
        changed = [file for file in row.files.split("; ") if file.endswith(".toml")]
        assert row.restarts == ("1" if changed else "0"), row
        minor = tuple(map(int, re.findall(r"\d+", row.version)))[:2]
        assert not changed or (row.runtime == "containerd" and minor < (2, 2)), row


def test_every_containerd_is_there() -> None:
    assert {row.version for row in ROWS.values() if row.runtime == "containerd"} == set(VERSIONS)
