"""A real Kubernetes cluster on one Debian machine, from package registries only: see `__main__.py`."""
