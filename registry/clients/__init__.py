"""What clients get of the registry: a snippet for each client, and objects in other namespaces.

`python3 -m registry.clients NAME` prints a snippet. That command, `snippets`, and what they import run with Python 3.9
and its standard library alone; the other modules are Pulumi components.
"""
