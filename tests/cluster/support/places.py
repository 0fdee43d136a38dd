"""Where the tests keep their data, and where test runs leave what a person reads afterwards."""

from local_cluster.paths import REPOSITORY

RESULTS = REPOSITORY / "test-results"
"""A failed test leaves a folder with what explains it, and the matrix of runtimes leaves its table."""

DATA = REPOSITORY / "tests" / "cluster" / "data"
"""Reviewed tables of what tests have found; a test fails when its table no longer says what is so."""

AGENT_FIXTURES = next((REPOSITORY / "tests" / "unit").rglob("other-ca.crt")).parent
"""Files of the agent's unit tests: configurations of containerd as vendors write them, and certificates."""
