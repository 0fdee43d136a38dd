"""How long a stack takes to come and go, beside kubectl with the very same objects."""

import json
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.stacks import Stack

UP, APPLY = "first `up`", "`kubectl apply` of the same objects, until every node is proved"
AGAIN, PREVIEW = "second `up`", "`preview`"
DESTROY, EMPTY = "`destroy`", "deletion of an empty namespace"
_LINE = re.compile(r"^ \+ +(\S+) (\S+) (creating|created) \(")
_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - the key by which Pulumi marks a secret in a state


@dataclass(frozen=True)
class Step:
    """Something in the course of an `up`, in seconds from its beginning."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Course:
    """What took how long, in one round."""

    seconds: Mapping[str, float]
    """By what was done: one of the names above."""
    steps: Sequence[Step] = field(default=())
    """What the first `up` did."""

    def __str__(self) -> str:
        return "; ".join(f"{what} {seconds:.1f} s" for what, seconds in self.seconds.items())


def steps_of(lines: Iterable[tuple[float, str]], pods: Sequence[Step], end: float) -> list[Step]:
    """The steps of an `up`: before the first resource, each resource of the cluster, its pods, and after the last one.

    Args:
        lines: What it printed, and when.
        pods: What became of the pods.
        end: When it ended.
    """
    begun, done = dict[str, float](), list[Step]()
    for moment, line in lines:
        if not (found := _LINE.match(line)):
            continue
        kind, name, what = found.groups()
        if kind.startswith("kubernetes:"):
            begun.setdefault(name, moment)
            if what == "created":
                done.append(Step(f"{kind.rpartition(':')[2]} {name}", begun[name], moment))
    done = sorted([*done, *pods], key=lambda step: step.begin)
    before = Step("start of Pulumi and program, questions to the cluster", 0, min(begun.values(), default=end))
    last = min(end, max([step.end for step in done], default=end))
    return [before, *done, Step("end", last, end)]


def pod_steps(pods: Sequence[Mapping[str, Any]], began: float) -> list[Step]:
    """What became of the pods of a stack, until all of a kind were ready; the cluster tells it in whole seconds.

    Args:
        pods: The pods, as the API lists them.
        began: When the `up` began, in seconds since 1970.
    """
    times = dict[str, list[tuple[float, float]]]()
    for pod in pods:
        [ready] = (each for each in pod["status"]["conditions"] if each["type"] == "Ready")
        moments = (pod["metadata"]["creationTimestamp"], ready["lastTransitionTime"])
        made, done = (datetime.fromisoformat(each).timestamp() - began for each in moments)
        times.setdefault(pod["metadata"]["labels"]["app.kubernetes.io/name"], []).append((max(0.0, made), done))
    return [
        Step(f"pods of {name}, until they are ready", min(made for made, _ in each), max(done for _, done in each))
        for name, each in times.items()
    ]


def objects_of(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The Kubernetes objects of a stack's state with its secrets in plain text, as they were sent to the API."""
    kinds = re.compile(r"kubernetes:(?!.*Patch$)[^:]+:\w+$")
    resources = [each for each in state["deployment"]["resources"] if kinds.match(each["type"])]
    return [cast("Mapping[str, Any]", _plain(each["inputs"])) for each in resources]


def _plain(value: object) -> object:
    """A value without what Pulumi adds to it."""
    if isinstance(value, Mapping):
        known = cast("Mapping[str, object]", value)
        if _SECRET in known:
            return _plain(json.loads(str(known["plaintext"])))
        return {key: _plain(each) for key, each in known.items() if key != "__defaults"}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[object]", value)]
    return value


def _seconds(action: Callable[..., object], *arguments: Any) -> float:  # noqa: ANN401 - handed on
    began = time.monotonic()
    action(*arguments)
    return time.monotonic() - began


def _first_up(cluster: Cluster, stack: Stack) -> tuple[str, float, list[Step]]:
    """The namespace of a stack, the seconds of its first `up`, and its steps."""
    began, clock = time.monotonic(), time.time()
    process = stack.start("up", "--yes", "--skip-preview")
    assert process.stdout  # noqa: S101 - it is piped
    lines = [(time.monotonic() - began, line) for line in process.stdout]
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, "pulumi up", "".join(line for _, line in lines))
    end = time.monotonic() - began
    namespace = stack.outputs()["namespace"]
    pods = cluster.get("pods", "-n", namespace)["items"]
    return namespace, end, steps_of(lines, pod_steps(pods, clock), end)


def _apply(cluster: Cluster, objects: Sequence[Mapping[str, Any]], namespace: str) -> None:
    cluster.apply(*objects)
    cluster.kubectl("rollout", "status", "daemonset/trust", "-n", namespace, "--timeout=120s", timeout=150)


def _remove(cluster: Cluster, objects: Sequence[Mapping[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("delete", "--ignore-not-found", "-f", "-", text=text, timeout=120)


def _round(cluster: Cluster, settings: Mapping[str, str]) -> Course:
    """Bring a stack up and destroy it, have kubectl do the same, and delete a namespace with nothing in it."""
    with Stack(environment=cluster.environment, settings=settings) as stack:
        namespace, up, steps = _first_up(cluster, stack)
        objects = objects_of(json.loads(stack.pulumi("stack", "export", "--show-secrets").stdout))
        seconds = {
            UP: up,
            AGAIN: _seconds(stack.up),
            PREVIEW: _seconds(stack.pulumi, "preview"),
            DESTROY: _seconds(stack.destroy),
        }
    try:
        seconds[APPLY] = _seconds(_apply, cluster, objects, namespace)
    finally:
        _remove(cluster, objects)
    empty = f"bench-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", empty)
    seconds[EMPTY] = _seconds(cluster.kubectl, "delete", "namespace", empty)
    return Course(seconds, steps)


def measure(cluster: Cluster, settings: Mapping[str, str], rounds: int) -> Iterator[Course]:
    """Measure with some settings, several times."""
    for _ in range(rounds):
        yield _round(cluster, settings)
