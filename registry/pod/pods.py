"""The pods of the program, as the API lists them."""

import json
from typing import Protocol

from registry.pod.trouble import Json


class Reader(Protocol):
    """The one thing that is asked of the cluster."""

    def ask(self, path: str, **query: str) -> str:
        """The text that the Kubernetes API answers to a GET of a path.

        Raises:
            PermissionError: the user may not read it.
            LookupError: it does not exist.
            ConnectionError: the API does not answer.
        """
        ...


def pods_of(reader: Reader, namespace: str, name: str) -> list[Json]:
    """The pods in a namespace with this name label, those included that are over. Its errors are those of `ask`."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return json.loads(reader.ask(path, labelSelector=f"app.kubernetes.io/name={name}"))["items"]
