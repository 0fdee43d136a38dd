"""The registry and everything around it: its way in, its certificate, its pod, and what clients get to know of it.

This package imports nothing by itself, so that `python3 -m registry.clients` runs with the system's Python, which has
none of the program's libraries.
"""
