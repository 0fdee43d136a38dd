"""The picture in the README is what a run of the README's own commands prints."""

import pytest

from .support.cluster import Cluster
from .support.recording import PICTURE, drawn, record

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_recorded_run_in_the_readme_is_what_its_commands_print(cluster: Cluster) -> None:
    assert drawn(record(cluster)) == PICTURE.read_text(), "run: make recording"
