"""Fixtures for the tests that let agents work on a node."""

import os
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CONFIG, EXPLICIT, FixtureNode, MakeNode


@pytest.fixture(autouse=True)
def disk_that_never_loses_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of fsync calls are most of the time these tests take, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def make_node(tmp_path: Path) -> MakeNode:
    """Makes nodes with a version of containerd and the text of its configuration; None: there is no such file."""

    def make(version: str = "1.7.24", config: str | None = EXPLICIT, **more: object) -> FixtureNode:
        files = {} if config is None else {CONFIG: config}
        return FixtureNode(tmp_path / str(len(list(tmp_path.iterdir()))), version, files=files, **more)  # pyright: ignore

    return make
