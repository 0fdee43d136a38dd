"""The pods of the program, as the API lists them."""

import json
from typing import Any, Protocol

LAST_LINES = 200
"""How many lines of a log are read: enough for the trace that follows a panic of Go, and what was said before."""
WAKE = 10.0
"""Seconds for which a wait lets a controller make pods by itself, before it wakes it, and between that and the next."""


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


class Waiter(Reader, Protocol):
    """What a wait for pods asks of the cluster, and does there."""

    def wake(self, workloads: str, namespace: str, name: str) -> None:
        """Have the controller of a workload, such as one of `daemonsets`, try at once to make the pods that it lacks.

        After refusals it waits twice as long each time, up to a quarter of an hour, whatever has changed meanwhile.
        """
        ...


def pods_of(reader: Reader, namespace: str, name: str, **query: str) -> list[dict[str, Any]]:
    """The pods in a namespace with this name label, those included that are over. Its errors are those of `ask`."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return json.loads(reader.ask(path, labelSelector=f"app.kubernetes.io/name={name}", **query))["items"]


def log_of(
    reader: Reader, namespace: str, pod: str, container: str, *, previous: bool = False, lines: int = LAST_LINES
) -> str:
    """The end of a container's log. Its errors are those of `ask`.

    Args:
        reader: The cluster.
        namespace: The pod's namespace.
        pod: The pod's name.
        container: The container's name.
        previous: Whether it is the log of the run before, as `kubectl logs --previous` gives it.
        lines: How many lines are read at most.
    """
    run = {"previous": "true"} if previous else {}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    return reader.ask(path, container=container, tailLines=str(lines), **run)
