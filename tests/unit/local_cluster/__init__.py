"""Tests of the local cluster's pure parts, and of its care for processes that are not its own."""
