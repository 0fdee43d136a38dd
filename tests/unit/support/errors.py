"""Assertions on the program's errors."""

import re

import pulumi


def says(error: pulumi.RunError | None, *parts: str) -> None:
    """Check that there is an error, and that it has these parts in this order."""
    assert error is not None
    assert re.search(".*".join(map(re.escape, parts)), str(error), re.DOTALL), str(error)
