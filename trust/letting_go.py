"""A stack whose nodes are to be made to trust the CA by somebody else from now on: whether they do without the agent.

With the agent's file on a node, a pull proves nothing about the node's own setting, and when the agents are gone it is
too late. So each agent is asked to take its file away for the time of one pull, before anything of the stack changes.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pulumi

from registry.pod.pods import Reader, pods_of
from registry.pod.trouble import condition_of
from trust.daemonset import TrustSettings, is_external
from trust.doctor.facts import TRUST, Json
from trust.doctor.objects import has_agent, node_of

_SECONDS = 150.0
"""How long (s) an agent has for two pulls."""
_AT_ONCE = 8
"""How many agents are asked at the same time, once the first one has answered well."""


class Cluster(Reader, Protocol):
    """What is asked of the cluster."""

    def execute(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        tick: Callable[[], None],
        text: str = "",
    ) -> tuple[int, str, str]:
        """Run a program in a container, which reads a line; its exit code, what it prints, and what it says."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the agent of one node found out; see `trust.agent.without`."""

    node: str
    pulled: bool = False
    """Whether the pull came about without the agent's file."""
    reason: str = ""
    """Why not."""
    changes: tuple[str, ...] = ()
    """The configuration files on the node that an agent has changed."""


def let_go(settings: TrustSettings, cluster: Cluster, namespace: str) -> None:
    """Check that the nodes trust the CA without the agent, if the settings take it away from a stack that has it.

    Args:
        settings: The settings.
        cluster: The cluster.
        namespace: The stack's namespace, as its state has it; empty before the first `up`.

    Raises:
        pulumi.RunError: they do not all do, or it cannot be found out. Nothing is changed then.
    """
    if not is_external(settings) or not namespace or pulumi.runtime.is_dry_run():
        return
    path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{TRUST}"
    try:
        template: Json = json.loads(cluster.ask(path))["spec"]["template"]
        if not has_agent(template):
            return
        image: str = template["spec"]["containers"][0]["image"]
        if settings.host and image.partition("/")[0].partition(":")[0] != settings.host.partition(":")[0]:
            raise pulumi.RunError(
                f"The host changes from {image.partition('/')[0]} to {settings.host} and nodeTrust from agent to "
                "external, and nodes can be asked for the one only after the other. Run pulumi up with the new host "
                "and the agent first (pulumi config set nodeTrust agent), then with external."
            )
        found = _answers(cluster, namespace, image, template)
    except LookupError:
        return  # nothing of the stack is there whose place somebody else would take
    except OSError as error:
        raise pulumi.RunError(refusal([f"the cluster does not tell: {error}"])) from None
    bad = [f"{answer.node}: {answer.reason}" for answer in found if not answer.pulled]
    if bad or not found:
        raise pulumi.RunError(refusal(bad or ["no agent is ready that could be asked"]))
    for answer in found:
        for file in answer.changes:
            pulumi.log.warn(
                f"Node {answer.node} reads its folder of certificates since an agent has changed {file}, and that "
                "change goes with the last agent: set config_path there by the node's own setting, or the node stops "
                "trusting the registry when its container runtime starts again."
            )


def refusal(reasons: Sequence[str]) -> str:
    """The error of a stack that cannot do without the agents.

    Args:
        reasons: A line per node.
    """
    lines = [
        "nodeTrust cannot become external yet, and nothing was changed: without the agent's file not every node pulls "
        "from the registry. Give each node its own setting first (python3 -m registry.clients --node NAME prints it, "
        "and --list has the names), then pulumi up; or keep the agent: pulumi config set nodeTrust agent.",
        *reasons,
    ]
    return "\n  ".join(lines)


def _answers(cluster: Cluster, namespace: str, image: str, template: Json) -> list[Answer]:
    """What the agents say. If the first one's node does not pull, no other one is asked, as that may disturb it."""
    pods = pods_of(cluster, namespace, TRUST)
    ready = [pod for pod in pods if has_agent(pod) and condition_of(pod, "Ready").get("status") == "True"]
    wanted = {"image": image, **_login(cluster, namespace, image, template)}
    if not ready:
        return []
    first = _asked(cluster, namespace, wanted, ready[0])
    if not first.pulled:
        return [first]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [first, *pool.map(partial(_asked, cluster, namespace, wanted), ready[1:])]


def _login(cluster: Cluster, namespace: str, image: str, template: Json) -> dict[str, str]:
    """The login for pulls, if the pod has one."""
    secrets: list[Json] = template["spec"].get("imagePullSecrets") or []
    for entry in secrets:
        secret = json.loads(cluster.ask(f"/api/v1/namespaces/{namespace}/secrets/{entry['name']}"))
        auths: Json = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
        login: Json = auths.get(image.partition("/")[0], {})
        if login:
            username, _, password = base64.b64decode(login["auth"]).decode().partition(":")
            return {"username": username, "password": password}
    return {}


def _asked(cluster: Cluster, namespace: str, wanted: Mapping[str, str], pod: Json) -> Answer:
    """What the agent in one pod says of its node."""
    node, name = node_of(pod), str(pod["metadata"]["name"])
    command, deadline = ["python3", "-m", "agent.without"], time.monotonic() + _SECONDS

    def in_time() -> None:
        if time.monotonic() > deadline:
            raise ConnectionError(f"no answer within {_SECONDS:.0f} s")

    try:
        _, printed, told = cluster.execute(namespace, name, "agent", command, in_time, json.dumps(wanted))
        if not printed:
            raise ConnectionError(told.strip().rpartition("\n")[2] or "it says nothing")
        said: dict[str, Any] = json.loads(printed)
    except PermissionError as error:
        return Answer(node=node, reason=f"it cannot be asked, which takes the right pods/exec of rbac.yaml ({error})")
    except (OSError, ValueError) as error:
        return Answer(node=node, reason=f"it cannot be asked ({error})")
    reason = str(said["error"])
    if not reason and not said["without"]:
        reason = (
            "it pulls with the agent's file and not without, so its own setting is missing"
            if said["with"]
            else "it does not pull with the agent's file either; make doctor says why"
        )
    return Answer(node=node, pulled=not reason, reason=reason, changes=tuple(said["changes"]))
