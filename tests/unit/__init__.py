"""The tests that need neither root nor a cluster."""
