"""What the cluster says of a pod that does not run, and what helps: pure functions over the API's JSON."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]

_STARTS = (None, "PodInitializing", "ContainerCreating")
"""Reasons of a waiting container with which nothing is wrong yet; None: it does not wait."""
_IMAGE_FAULTS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
"""Reasons of a container that waits because of its image."""
_PULL_FAILED = "Failed to pull image"
"""How the kubelet's event on a failed pull begins, which has the container runtime's words."""
_NO_NODE = "FailedScheduling"
"""Reason of the scheduler's event on a pod for which it has found no node yet."""
_LIMITED = re.compile(r"\b429\b|toomanyrequests|too many requests|rate limit", re.IGNORECASE)
_NO_LOGIN = re.compile(
    r"\b40[13]\b|unauthorized|authorization failed|no basic auth credentials|access denied|is denied|forbidden",
    re.IGNORECASE,
)
"""What runtimes say of a registry that limits pulls, and of one that asks for a login or does not accept it."""

_TELLS = re.compile(r"^(panic|fatal error|configuration error): |\blevel=(panic|fatal)\b|\[emerg\]")
"""What is in the line that says why a program ends, where more lines follow it: of the registry, and of nginx."""
_LONGEST = 300
"""How many characters of that line are quoted."""
_SECRETS = re.compile(
    r"(?<=://)[^/@\s]+(?=@)"
    r"|(?<![\w/+])[\w/+]{32,}={0,2}(?![\w/+])"
    r"|(?i:(?<=key=)|(?<=secret=)|(?<=password=)|(?<=token=)|(?<=credential=)|(?<=signature=))[^\s&\"']+"
)
"""What might be a secret in a line: a login in an address, something as long as a key, and the value of one.

The program's pods give none to anything that prints it: the bucket's keys are read by the library of S3 alone, and the
passwords are files.
"""

_SET_LOGIN = "pulumi config set --secret imagePullSecret < config.json"
_ELSEWHERE = "take all images from elsewhere (pulumi config set imageRegistry mirror.example.com/library)"

IMAGE_SETTINGS = {
    "registry": "registryImage",
    "nginx": "nginxImage",
    "proof-image": "pythonImage",
    "agent": "pythonImage",
}
"""The settings from which the images of the program's containers are made, by the container's name."""


def containers(pod: Json) -> list[Json]:
    """The status of each container that has one."""
    status: Json = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def container_of(pod: Json, name: str) -> Json:
    """The status of one container, empty if it has none yet."""
    return next((container for container in containers(pod) if container["name"] == name), Json())


def condition_of(thing: Json, kind: str) -> Json:
    """The condition of type `kind`, empty if the object has none."""
    conditions: list[Json] = thing.get("status", {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), Json())


def is_over(pod: Json) -> bool:
    """Whether a pod has ended for good, as by an eviction or the shutdown of its node. It stays for a while."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def gone(what: str) -> str:
    """What is said of an object that the stack has made, and that the cluster has no longer, or not as it was made."""
    return (
        f"{what}, and the stack's state does not know it: somebody has changed that by hand. This mends it: pulumi up "
        "--refresh"
    )


def waits_for_image(container: Json) -> bool:
    """Whether a container, given by its status, does not start because its image cannot be had."""
    return container.get("state", {}).get("waiting", {}).get("reason") in _IMAGE_FAULTS


def is_starting(container: Json) -> bool:
    """Whether a container, given by its status, runs or has not started yet without anything being wrong."""
    return container.get("state", {}).get("waiting", {}).get("reason") in _STARTS


class Crash(NamedTuple):
    """A container that has ended with an error, and waits to be started again."""

    pod: str
    container: str
    previous: bool
    """Whether the log of its end is that of the run before, as `kubectl logs --previous` gives it."""


def crashes(pod: Json) -> list[Crash]:
    """The containers of a pod that have crashed."""
    if is_over(pod):
        return []
    found: list[Crash] = []
    for container in containers(pod):
        state: Json = container.get("state", {})
        waits = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
        if waits or state.get("terminated", {}).get("exitCode"):
            found.append(Crash(pod["metadata"]["name"], container["name"], waits))
    return found


def last_words(log: str) -> str:
    """The line of a crashed program's log that says why, without what might be a secret; empty if the log is."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    line = next((line for line in lines if _TELLS.search(line)), lines[-1] if lines else "")
    shown = _one_line(_SECRETS.sub("(hidden)", line))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


def crash_fix(crash: Crash, namespace: str) -> str:
    """Where the rest of a crashed container's log is, without a full stop."""
    previous = " --previous" if crash.previous else ""
    return f"its log tells more: kubectl logs -n {namespace} {crash.pod} -c {crash.container}{previous}"


def pod_trouble(pod: Json, events: Iterable[Json]) -> str:
    """Why a pod does not run, in the API's own words; empty if nothing says so."""
    of_pod = [e for e in events if e.get("involvedObject", {}).get("name") == pod["metadata"]["name"]]
    for container in containers(pod):
        if is_starting(container):
            continue
        waiting: Json = container["state"]["waiting"]
        last: Json = container.get("lastState", {}).get("terminated", {})
        message = last.get("message") or waiting.get("message") or ""
        if waits_for_image(container) and "ErrImagePull" not in f"{waiting['reason']} {message}":
            # Between two tries, kubelets before Kubernetes 1.32 say of the pull only that they wait.
            pulls = [e for e in of_pod if e.get("message", "").startswith(f'{_PULL_FAILED} "{container.get("image")}"')]
            message = (newest_event(pulls) or {}).get("message", message)
        return _one_line(f"{waiting['reason']}: {message}").strip(": ")
    scheduled = condition_of(pod, "PodScheduled")
    has_node = scheduled.get("status") == "True"
    newest = newest_event(event for event in of_pod if not (has_node and event.get("reason") == _NO_NODE))
    if newest:
        return words_of(newest)
    return scheduled.get("message", "") if scheduled.get("status") == "False" else ""


def image_fix(container: Json, words: str, *, has_login: bool) -> str:
    """What helps when the image of one of the program's containers cannot be pulled, without a full stop.

    Args:
        container: The container's status.
        words: What the cluster says of it.
        has_login: Whether the pod names a Secret with a login for the image.
    """
    setting = IMAGE_SETTINGS[container["name"]]
    image = str(container.get("image") or "its image")
    host = image.partition("/")[0]
    if _LIMITED.search(words):
        more = "log in as a user who may pull more" if has_login else "log in, which allows more pulls"
        return f"{host} limits how often it is pulled from: {more} ({_SET_LOGIN}), or {_ELSEWHERE}"
    if _NO_LOGIN.search(words) and has_login:
        return (
            f"{host} does not give {image} to the login in the setting imagePullSecret: set another one "
            f"({_SET_LOGIN}), or mend the image's name ({setting})"
        )
    if _NO_LOGIN.search(words):
        return (
            f"{host} gives {image} to nobody without a login, or has no such image: set a login ({_SET_LOGIN}), or "
            f"mend the image's name ({setting}), or {_ELSEWHERE}"
        )
    return f"set {setting} to an image that this node can pull, or {_ELSEWHERE}"


def names_login(pod: Json, secret: str) -> bool:
    """Whether a pod names a Secret to pull with."""
    secrets: list[Json] = pod.get("spec", {}).get("imagePullSecrets") or []
    return any(each.get("name") == secret for each in secrets)


def refusal(events: Iterable[Json], kinds: tuple[str, ...]) -> str:
    """Why the API server refuses the pods that controllers of these kinds want to create; empty if it does not."""
    newest = newest_event(
        event
        for event in events
        if event.get("reason") == "FailedCreate" and event.get("involvedObject", {}).get("kind") in kinds
    )
    return newest.get("message", "") if newest else ""


def newest_event(events: Iterable[Json]) -> Json | None:
    """The newest of some events."""
    return max(
        events,
        key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or e["metadata"].get("creationTimestamp") or "",
        default=None,
    )


def words_of(event: Json | None) -> str:
    """Reason and message of an event, empty for no event."""
    return _one_line(f"{event.get('reason', '')}: {event.get('message', '')}") if event else ""


def _one_line(words: str) -> str:
    """The words without line breaks: some releases of containerd put a registry's whole answer into their message."""
    return " ".join(words.split())


def registry_trouble(
    pods: Sequence[Json], events: Sequence[Json], login: str, logs: Mapping[Crash, str] | None = None
) -> tuple[str, str]:
    """Why the registry has no pod that is ready, in the API's own words, and what helps; each empty if it is not known.

    Args:
        pods: The registry's pods.
        events: The warnings of its namespace.
        login: Name of the Secret with the login for the program's images.
        logs: The ends of the logs of the containers that have crashed, of those that could be read.
    """
    claims = (e for e in events if e.get("involvedObject", {}).get("kind") == "PersistentVolumeClaim")
    volume = words_of(newest_event(claims))
    if volume and any(condition_of(pod, "PodScheduled").get("status") == "False" for pod in pods):
        return volume, ""
    for pod in pods:
        for crash in crashes(pod):
            said = last_words((logs or {}).get(crash, ""))
            if not said:
                terminated: Json = container_of(pod, crash.container).get("lastState", {}).get("terminated", {})
                said = last_words(terminated.get("message", "")) or pod_trouble(pod, events)
            words = f"the container {crash.container} ends as soon as it starts: {said}".removesuffix(": ")
            return words, crash_fix(crash, pod["metadata"].get("namespace", "default"))
    for pod in sorted(pods, key=is_over):  # the last ones tell of the past, which may be all that anybody says
        words = pod_trouble(pod, events)
        waiting = [each for each in containers(pod) if waits_for_image(each) and each["name"] in IMAGE_SETTINGS]
        if words:
            return words, image_fix(waiting[0], words, has_login=names_login(pod, login)) if waiting else ""
    return refusal(events, ("ReplicaSet", "Deployment")), ""
