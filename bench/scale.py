"""What a stack costs on many nodes, most of them simulated: seconds, requests, bytes, and the API server's processor.

kwok keeps the simulated nodes Ready, says of their pods that they run, and answers as their kubelets. Nothing pulls
there, so pulls, agents and the events of kubelets are not measured; the API server, its controllers and the program do
all else that they do with as many machines.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from local_cluster import network, processes, programs
from local_cluster.paths import LOGS, REPOSITORY
from registry.cluster import Cluster as Api
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import run, wait_until
from tests.cluster.support.meanwhile import again_and_again
from tests.cluster.support.rights import RULES, having_only
from tests.cluster.support.stacks import Stack
from trust.listening import Listener
from trust.proving import look

MOST = 1000
"""How many nodes are simulated."""
FIRST, SECOND, ROTATION, DESTROY = "first `up`", "second `up`", "`up` with another `caVersion`", "`destroy`"
SIZES = {
    "trust": "the DaemonSet",
    "pods": "the list of the namespace's pods",
    "nodes": "the list of all nodes",
}
"""What the answers hold, by the end of the path."""
_NAME, _LABEL, _PORT = "simulated-", "private-registry/bench", 10247
_MODULE = "sigs.k8s.io/kwok"
_STAGES = ("node/fast", "node/heartbeat-with-lease", "pod/fast")
"""kwok's own rules of what becomes of nodes and pods. Of a native sidecar they say that it runs and has started."""
_REST = 15.0
"""Seconds for which the API server is looked at while nothing happens."""
_LOOKS = 20
_SETTINGS = {"storage": "memory", "storageSize": "50Mi", "readyTimeout": "10m"}
_MADE = re.compile(r"^ \+ +kubernetes:apps/v1:DaemonSet \S+ created \(")


@dataclass(frozen=True)
class Sample:
    """What the API server has done until a moment."""

    moment: float
    """In seconds."""
    own: float
    """Requests of the program's user."""
    every: float
    """Requests of all users."""
    processor: float
    """Seconds for which its process has run."""

    def since(self, before: "Sample") -> "Sample":
        """What it has done since."""
        return Sample(
            self.moment - before.moment,
            self.own - before.own,
            self.every - before.every,
            self.processor - before.processor,
        )


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What it takes to look how far the nodes are, as the wait does again and again."""

    seconds: float
    requests: int
    sizes: Mapping[str, int]
    """Bytes of the answers before compression, by the end of the path."""
    processor: float
    """Seconds for which the API server runs, less than what it runs for others meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What was measured with one number of nodes."""

    nodes: int
    seconds: Mapping[str, float]
    """By what was done: one of the names above."""
    wait: Sample
    """What the API server did from when the first `up` had made the DaemonSet until its end."""
    rest: Sample
    """What it did while the stack was up and nothing happened."""
    first: Looks
    """The first look, which reads the log of every agent."""
    further: Looks
    """The median of those after that; of the API server's processor it is the mean."""

    def __str__(self) -> str:
        done = "; ".join(f"{what} {seconds:.1f} s" for what, seconds in self.seconds.items())
        return f"{self.nodes} nodes: {done}; wait {self.wait}; rest {self.rest}; looks {self.first} {self.further}"


def total(metrics: str, name: str, **labels: str) -> float:
    """The sum of a counter's values with these labels, of what an API server says of itself."""
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", metrics, re.MULTILINE)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for known, value in found if all(f",{each}," in f",{known}," for each in wanted))


def _sample(cluster: Cluster, schema: str) -> Sample:
    """Read what the API server has done; of the program's user it counts what a FlowSchema matches, and logs."""
    metrics = cluster.kubectl("get", "--raw=/metrics")
    # The API server neither limits nor counts by flow who reads logs. Nobody else does here but `_echoed`.
    logs = total(metrics, "apiserver_request_total", subresource="log")
    fields = Path(f"/proc/{processes.recorded()['kube-apiserver'].pid}/stat").read_text().rpartition(")")[2].split()
    return Sample(
        moment=time.monotonic(),
        own=total(metrics, "apiserver_flowcontrol_dispatched_requests_total", flow_schema=schema) + logs,
        every=total(metrics, "apiserver_request_total"),
        processor=(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
    )


@contextmanager
def _program_user(cluster: Cluster, folder: Path, name: str) -> Generator[Cluster]:
    """The cluster for the user of rbac.yaml, whose requests a FlowSchema of this name counts, and treats as others."""
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
    rules = {
        "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "default", "namespace": name}}],
        "resourceRules": [everything],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    as_others = {"priorityLevelConfiguration": {"name": "global-default"}, "distinguisherMethod": {"type": "ByUser"}}
    schema = {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": name}}
    cluster.kubectl("create", "namespace", name)
    try:
        cluster.apply({**schema, "spec": {**as_others, "matchingPrecedence": 500, "rules": [rules]}})
        cluster.kubectl("wait", "--for=create", "-n", name, "serviceaccount/default", "--timeout=30s")
        with having_only(cluster, name, folder, RULES) as user:
            yield user
    finally:
        cluster.kubectl("delete", "--ignore-not-found", f"namespace/{name}", f"flowschema/{name}")


def node(number: int) -> dict[str, Any]:
    """A simulated node. It is not labelled as one, so a DaemonSet that is for machines is for it; others stay away."""
    name = f"{_NAME}{number:04}"
    labels = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name, _LABEL: "1"}
    taint = {"key": _LABEL, "value": "1", "effect": "NoSchedule"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [taint]},
    }


@contextmanager
def _simulated(cluster: Cluster, namespace: str, count: int, folder: Path) -> Generator[None]:
    """Nodes that kwok simulates; their agents' log is the file `log` in the folder.

    The stack of the namespace is up, and gets pods there.
    """
    (folder / "log").touch()
    logs = {"logs": [{"containers": ["agent"], "logsFile": str(folder / "log")}]}
    config = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterLogs", "metadata": {"name": "log"}, "spec": logs}
    (folder / "logs.yaml").write_text(json.dumps(config))
    source = programs.source("kwok", _MODULE) / "kustomize" / "stage"
    stages = [path for name in _STAGES for path in sorted((source / name).glob("*-*.yaml"))]
    command = [
        programs.ensure(programs.MEASURED) / "kwok",
        f"--kubeconfig={cluster.environment['KUBECONFIG']}",
        f"--manage-nodes-with-label-selector={_LABEL}=1",
        f"--node-ip={network.CONTROL_PLANE}",
        f"--node-port={_PORT}",
        "--node-lease-duration-seconds=40",  # as kubelets have it, which renew four times in that time
        "--v=WARN",
        *(f"--config={path}" for path in (folder / "logs.yaml", *stages)),
    ]
    of_ours = ("nodes", "-l", f"{_LABEL}=1")

    def said() -> list[str]:
        ready = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}'
        return cluster.kubectl("get", *of_ours, "-o", ready).split()

    with (LOGS / "kwok.log").open("w") as output:
        process = subprocess.Popen(network.inside(*map(str, command)), stdout=output, stderr=subprocess.STDOUT)
        try:
            made = json.dumps({"apiVersion": "v1", "kind": "List", "items": [*map(node, range(count))]})
            cluster.kubectl("create", "-f", "-", text=made, timeout=600)
            # `kubectl wait` watches each object by itself, one after the other.
            wait_until(lambda: said() == ["True"] * count, "the simulated nodes are Ready", timeout=300, interval=2)
            yield
        finally:
            try:
                _delete_all(cluster, "nodes", labelSelector=f"{_LABEL}=1")
                wait_until(lambda: not said(), "the simulated nodes are gone", timeout=300, interval=2)
                _end_pods(cluster, namespace)
            finally:
                process.terminate()
                process.wait(30)


def _end_pods(cluster: Cluster, namespace: str) -> None:
    """End the pods of nodes that are gone. Kubernetes does so by itself, but one after the other, after a minute."""
    elsewhere = ",".join(f"spec.nodeName!={node}" for node in ("", *cluster.nodes))
    _delete_all(cluster, f"namespaces/{namespace}/pods", fieldSelector=elsewhere, gracePeriodSeconds="0")


def _delete_all(cluster: Cluster, place: str, **query: str) -> None:
    """Delete objects with one request; kubectl makes one for each of them."""
    cluster.kubectl("delete", f"--raw=/api/v1/{place}?{urlencode(query)}", timeout=300)


def _echoed(cluster: Cluster, namespace: str, file: Path) -> None:
    """Have the agents of simulated nodes say what the one of a real node says."""
    where = (
        "-n",
        namespace,
        "-l",
        "app.kubernetes.io/name=trust",
        f"--field-selector=spec.nodeName={cluster.nodes[0]}",
    )
    pod = cluster.kubectl("get", "pods", *where, "-o", "name").split()[0]
    lines = cluster.kubectl("logs", "-n", namespace, pod, "-c", "agent", "--tail=50").splitlines()
    fresh = file.with_suffix(".fresh")
    fresh.write_text("".join(f"2026-01-01T00:00:00.000000000Z stdout F {line}\n" for line in lines))
    fresh.replace(file)


def _first_up(cluster: Cluster, stack: Stack, schema: str) -> tuple[float, Sample]:
    """The seconds of an `up`, and what the API server did from the moment when the DaemonSet was made."""
    began, waits = time.monotonic(), list[Sample]()
    process = stack.start("up", "--yes", "--skip-preview")
    assert process.stdout  # noqa: S101 - it is piped
    lines = list[str]()
    for line in process.stdout:
        lines.append(line)
        if _MADE.match(line):
            waits.append(_sample(cluster, schema))
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, "pulumi up", "".join(lines))
    took = time.monotonic() - began
    return took, _sample(cluster, schema).since(waits[0])


def _looks(cluster: Cluster, user: Cluster, schema: str, rest: Sample, place: Sequence[str]) -> tuple[Looks, Looks]:
    """The first look, and one of those that follow."""

    def looked(count: int) -> tuple[Sequence[Mapping[str, Any]], float]:
        before = _sample(cluster, schema)
        command = network.client(sys.executable, "-m", "bench.scale", *place, str(count))
        done = run(command, {**user.environment, "PYTHONPATH": str(REPOSITORY)}, timeout=900)
        spent = _sample(cluster, schema).since(before)
        return json.loads(done.stdout), spent.processor - rest.processor / rest.moment * spent.moment

    (one, alone), (many, together) = looked(1), looked(1 + _LOOKS)
    typical = sorted(many[1:], key=lambda each: each["seconds"])[_LOOKS // 2]
    return Looks(**one[0], processor=alone), Looks(**typical, processor=(together - alone) / _LOOKS)


def _measured(cluster: Cluster, folder: Path, *, rotated: bool) -> Scale:
    """Measure with the nodes that the cluster has now, also another CA if it is to be rotated."""
    name, seconds = f"bench-{secrets.token_hex(3)}", dict[str, float]()

    def timed(what: str, *arguments: str) -> None:
        began = time.monotonic()
        stack.pulumi(*arguments, "--yes", "--skip-preview", timeout=1200)
        seconds[what] = time.monotonic() - began

    with _program_user(cluster, folder, name) as user, Stack(environment=user.environment, settings=_SETTINGS) as stack:
        seconds[FIRST], wait = _first_up(cluster, stack, name)
        timed(SECOND, "up")
        outputs, before = stack.outputs(), _sample(cluster, name)
        time.sleep(_REST)
        rest = _sample(cluster, name).since(before)
        place = (outputs["namespace"], outputs["registryUrl"])
        _echoed(cluster, place[0], folder / "log")
        first, further = _looks(cluster, user, name, rest, place)
        if rotated:
            stack.set(caVersion="2")
            with again_and_again(lambda: _echoed(cluster, place[0], folder / "log"), seconds=2):
                timed(ROTATION, "up")
        timed(DESTROY, "destroy")
        count = len(cluster.kubectl("get", "nodes", "-o", "name").split())
    return Scale(nodes=count, seconds=seconds, wait=wait, rest=rest, first=first, further=further)


def measure(cluster: Cluster, namespace: str, count: int) -> Iterator[Scale]:
    """Measure with the real nodes alone, and with simulated ones beside them.

    Args:
        cluster: The cluster.
        namespace: Namespace of a stack that is up. It gets pods on the simulated nodes, too, before it is measured.
        count: How many nodes are simulated.
    """
    with ExitStack() as made:
        folder = Path(made.enter_context(tempfile.TemporaryDirectory()))
        yield _measured(cluster, folder, rotated=False)  # it is waited for until the kubelets come to it
        made.enter_context(_simulated(cluster, namespace, count, folder))
        cluster.kubectl("rollout", "status", "daemonset/trust", "-n", namespace, "--timeout=600s", timeout=630)
        yield _measured(cluster, folder, rotated=True)


class _Weighed(Api):
    """The cluster, as the program asks it; it keeps how much it was answered, as it is before compression."""

    sizes: dict[str, int]
    requests: int

    def ask(self, path: str, **query: str) -> str:
        text, kind = super().ask(path, **query), path.rpartition("/")[2]
        self.sizes[kind] = self.sizes.get(kind, 0) + len(text.encode())
        self.requests += 1
        return text


def main(namespace: str, host: str, count: str) -> None:
    """Look how far the nodes are, again and again; prints what each look took as JSON."""
    api, found = _Weighed(), list[Mapping[str, Any]]()
    listener, heard = Listener(api, namespace), dict[str, str]()
    for _ in range(int(count)):
        api.sizes, api.requests, began = {}, 0, time.monotonic()
        look(api, namespace, host, listener, heard)
        found.append({"seconds": time.monotonic() - began, "requests": api.requests, "sizes": api.sizes})
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
