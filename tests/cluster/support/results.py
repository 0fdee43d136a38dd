"""Where test runs leave what a person reads afterwards."""

from local_cluster.paths import REPOSITORY

RESULTS = REPOSITORY / "test-results"
"""A failed test leaves a folder with what explains it, and the matrix of runtimes leaves its table."""

DATA = REPOSITORY / "tests" / "cluster" / "data"
"""Reviewed tables of what tests have found; a test fails when its table no longer says what is so."""
