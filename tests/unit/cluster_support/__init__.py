"""Tests of what the tests on a real cluster share."""
