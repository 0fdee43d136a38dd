"""Measurements of the program on the local cluster: see `__main__.py`."""
