"""Free the space that no image needs, in the registry of a stack that is up: `make gc`.

    .venv/bin/python -m registry.stack.gc [--stack STACK] [--untagged]

Pushes are stopped in every pod of the registry, and answered 503 with Retry-After; pulls go on. Then the registry's own
garbage collection runs in one of the pods. That pushes are stopped has to be prolonged all the time, so they come back
even if this command is killed; and the collection ends itself before they do (`registry/pod/gc.sh`).

What this deliberately does not do: it removes no tag, and nothing that a manifest refers to.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import pulumi

from .. import names
from ..cluster import Cluster, Object
from ..pod import nginx
from ..pod.pods import pods_of
from ..pod.trouble import condition_of, is_over
from ..registry import CONFIG, DATA

_PROGRAM = Path(__file__).parents[2]
_STOPPED = 60
"""Seconds for which pushes stay stopped when nobody prolongs that; `gc.sh` ends half of that earlier."""
_RENEW = 10.0
_ENDING = 20
"""The same after an error: less than what `gc.sh` needs, so it ends before pushes are allowed."""
_AT_ONCE = 20
"""How many manifests one call deletes."""

_UNTAGGED = re.compile(r"^manifest eligible for deletion: \{(\S+) ([a-z0-9]+:[0-9a-f]+) \[", re.MULTILINE)
"""A line of the registry's dry run (distribution, registry/storage/garbagecollect.go)."""
_SUMMARY = re.compile(r"^\d+ blobs marked, .*$", re.MULTILINE)
_DELETE = """
import http.client, sys
address, *manifests = sys.argv[1:]
for each in manifests:
    name, digest = each.split("@")
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("DELETE", f"/v2/{name}/manifests/{digest}")
    status = connection.getresponse().status
    connection.close()
    if status not in (202, 404):
        sys.exit(f"the registry answered {status} to the deletion of {each}")
"""


class GcError(Exception):
    """Space could not be freed; the message says why, and what helps."""


class Pods:
    """The registry's pods, in which programs are run. The first one collects."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        """Find the pods.

        Raises:
            GcError: there is none, or one is not ready.
        """
        self._cluster = cluster
        self._namespace = namespace
        pods = self._found()
        see = f"see kubectl get pods -n {namespace}"
        if not pods:
            msg = f"The registry has no pod in the namespace {namespace}; {see}."
            raise GcError(msg)
        for pod in pods:
            ready = condition_of(pod, "Ready").get("status") == "True"
            if not ready or "deletionTimestamp" in pod["metadata"]:
                name = pod["metadata"]["name"]
                msg = f"The registry's pod {name} is not ready, so nothing was freed; wait, or {see}."
                raise GcError(msg)
        self._ids = _ids(pods)
        self._names = sorted(str(pod["metadata"]["name"]) for pod in pods)
        self._renewed = 0.0

    def _found(self) -> list[Object]:
        return [pod for pod in pods_of(self._cluster, self._namespace, names.REGISTRY) if not is_over(pod)]

    @property
    def names(self) -> Sequence[str]:
        """Their names."""
        return self._names

    def run(self, container: str, *command: str, pod: str = "", tick: Callable[[], None] | None = None) -> str:
        """What a program prints that runs in a container of a pod, the collecting one if none is named.

        Args:
            container: The container.
            command: The program and its arguments.
            pod: The pod.
            tick: Called about once a second while it runs.

        Raises:
            GcError: it cannot be run, or fails.
        """
        status, printed, said = self._cluster.execute(
            self._namespace, pod or self._names[0], container, command, tick or (lambda: None)
        )
        if status:
            msg = f"{said.strip() or printed.strip() or command[0]} (in the container {container}, exit code {status})"
            raise GcError(msg)
        return printed

    @contextmanager
    def pushes_stopped(self) -> Generator[None]:
        """In every pod, pushes are stopped in this context. They are not as soon as it ends well, else soon after."""
        try:
            self._stop_all()
            yield
        except BaseException:
            # The collection may still run, and ends when it sees this. Only then is the time of the others cut.
            for pod in self._names:
                self._stop(pod, _ENDING)
            raise
        for pod in self._names:
            self.run("nginx", "rm", "-f", nginx.STOPPED, pod=pod)

    def renew(self) -> None:
        """Prolong that pushes are stopped, if it is time to.

        Raises:
            GcError: the pods are no longer the same.
        """
        if time.monotonic() - self._renewed < _RENEW:
            return
        if _ids(self._found()) != self._ids:
            msg = "The registry's pods have changed meanwhile, so it was ended early; run it again."
            raise GcError(msg)
        self._stop_all()

    def _stop_all(self) -> None:
        self._renewed = time.monotonic()
        for pod in reversed(self._names):  # the collecting one comes last, so the others are stopped for longer
            self._stop(pod, _STOPPED)

    def _stop(self, pod: str, seconds: int) -> None:
        new = f"{nginx.STOPPED}.new"
        script = f'echo "$(($(date +%s) + {seconds}))" >{new} && mv {new} {nginx.STOPPED}'
        self.run("nginx", "sh", "-c", script, pod=pod)


def _ids(pods: Iterable[Object]) -> set[str]:
    return {str(pod["metadata"]["uid"]) for pod in pods}


def collect(pods: Pods, *, untagged: bool, say: Callable[[str], None]) -> None:
    """Free space.

    Args:
        pods: The registry's pods.
        untagged: Whether manifests go that have no tag, and that no manifest with a tag refers to.
        say: Prints a line.

    Raises:
        GcError: it ended early; every image is whole all the same.
    """
    configuration = f"{CONFIG}/config.yml"

    def script(verb: str, pod: str = "") -> str:
        arguments = (configuration, nginx.STOPPED, f"127.0.0.1:{nginx.METRICS_PORT}", DATA)
        return pods.run("registry", "sh", f"{CONFIG}/gc.sh", verb, *arguments, pod=pod, tick=pods.renew)

    with pods.pushes_stopped():
        say(f"Pushes are stopped in {', '.join(pods.names)}; pulls go on")
        for pod in pods.names:
            script("settle", pod)
        if untagged:
            manifests = _untagged(pods, configuration)
            say(f"{len(manifests)} manifests have no tag")
            for first in range(0, len(manifests), _AT_ONCE):
                address = f"127.0.0.1:{nginx.REGISTRY_PORT}"
                some = manifests[first : first + _AT_ONCE]
                pods.run(names.PROOF_CONTAINER, "python3", "-c", _DELETE, address, *some, tick=pods.renew)
        printed = script("collect")
    for line in (*_SUMMARY.findall(printed), printed.splitlines()[-1]):
        say(line)
    say("Pushes are allowed again")


def _untagged(pods: Pods, configuration: str) -> list[str]:
    """The manifests without a tag, as `repository@digest`.

    The registry's own removal of these is not used: of a manifest that another repository has with a tag it would leave
    the manifest and take its layers.
    """
    command = ("registry", "garbage-collect", "--delete-untagged", "--dry-run", configuration)
    return [f"{name}@{digest}" for name, digest in _UNTAGGED.findall(pods.run("registry", *command, tick=pods.renew))]


def _pulumi(*arguments: str) -> Object:
    """What a Pulumi command prints, from JSON.

    Raises:
        GcError: it fails.
    """
    try:
        command = ["pulumi", "--non-interactive", *arguments, "--json"]
        done = subprocess.run(command, cwd=_PROGRAM, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        msg = f"The Pulumi CLI cannot be run ({error.strerror}), and it knows the stack. Put pulumi on the PATH."
        raise GcError(msg) from None
    if done.returncode:
        msg = f"pulumi {' '.join(arguments)} failed: {done.stderr.strip()}"
        raise GcError(msg)
    return json.loads(done.stdout or "{}")


def _cluster_of(stack: str) -> tuple[Cluster, str]:
    """The cluster of a stack, empty for the selected one, and the stack's namespace.

    Raises:
        GcError: it is not up, or the kubeconfig leads to another cluster.
    """
    option = ["--stack", stack] if stack else []
    outputs = _pulumi("stack", "output", *option)
    if "namespace" not in outputs:
        msg = f"The stack {stack} has no registry yet; bring it up with pulumi up."
        raise GcError(msg)
    settings = _pulumi("config", "--show-secrets", *option)
    given = {key: str(entry.get("value", "")) for key, entry in settings.items() if key.startswith("kubernetes:")}
    pulumi.runtime.set_all_config(given)
    cluster = Cluster()
    if cluster.uid not in ("", outputs.get("clusterId")):
        msg = f"The stack is on another cluster than {cluster.server}; set KUBECONFIG to the one of its pulumi up."
        raise GcError(msg)
    return cluster, str(outputs["namespace"])


def main() -> None:
    """Run the command.

    Raises:
        GcError: space could not be freed.
    """
    parser = argparse.ArgumentParser(prog="python3 -m registry.stack.gc", description="Free the registry's space.")
    parser.add_argument("--stack", default="", help="name of the stack, by default the selected one")
    parser.add_argument(
        "--untagged", action="store_true", help="also remove manifests that neither a tag nor a tagged index names"
    )
    options = parser.parse_args()
    cluster, namespace = _cluster_of(options.stack)
    collect(Pods(cluster, namespace), untagged=options.untagged, say=lambda line: print(line, flush=True))


if __name__ == "__main__":
    try:
        main()
    except (GcError, pulumi.RunError, ConnectionError, LookupError, PermissionError) as error:
        sys.exit(f"Space was not freed: {error}")
