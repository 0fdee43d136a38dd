"""A stack does without its agents only if its nodes do; they are asked before anything changes."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest

from tests.unit.support.settings import having
from tests.unit.trust.doctor.objects_of_a_cluster import agent_pod
from trust.letting_go import let_go

HOST = "registry.example.com"
IMAGE = f"{HOST}/private-registry/proof@sha256:0"
GOOD = {"with": True, "without": True, "changes": [], "error": ""}
EXTERNAL = having(node_trust="external")


@dataclass
class Asked:
    """A cluster with an agent on each node, which gives these answers."""

    answers: dict[str, object] = field(default_factory=lambda: {"node-a": GOOD, "node-b": GOOD})
    pod: dict[str, Any] = field(
        default_factory=lambda: {
            "initContainers": [{"name": "agent"}],
            "containers": [{"name": "proof", "image": IMAGE}],
        }
    )
    ran: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def ask(self, path: str, **_: str) -> str:
        if path.endswith("/daemonsets/trust"):
            return json.dumps({"spec": {"template": {"spec": self.pod}}})
        if path.endswith("/secrets/pull"):
            auths = {HOST: {"auth": base64.b64encode(b"puller:a:b").decode()}}
            data = base64.b64encode(json.dumps({"auths": auths}).encode()).decode()
            return json.dumps({"data": {".dockerconfigjson": data}})
        assert path.endswith("/pods")
        return json.dumps({"items": [agent_pod(f"trust-{node}", node) for node in self.answers]})

    def execute(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        tick: Callable[[], None],
        text: str = "",
    ) -> tuple[int, str, str]:
        tick()
        assert (namespace, container, list(command)) == ("ns", "agent", ["python3", "-m", "agent.without"])
        self.ran.append((pod, text))
        answer = self.answers[pod.removeprefix("trust-")]
        if isinstance(answer, Exception):
            raise answer
        return 0, json.dumps(answer), ""


def test_every_node_is_asked_and_a_good_answer_lets_the_stack_go_on() -> None:
    cluster = Asked()
    let_go(EXTERNAL, cluster, "ns")
    assert [pod for pod, _ in cluster.ran] == ["trust-node-a", "trust-node-b"]
    assert json.loads(cluster.ran[0][1]) == {"image": IMAGE}


def test_the_login_of_the_pods_goes_with_the_question_and_not_into_an_argument() -> None:
    cluster = Asked()
    cluster.pod["imagePullSecrets"] = [{"name": "pull"}]
    let_go(EXTERNAL, cluster, "ns")
    assert json.loads(cluster.ran[0][1]) == {"image": IMAGE, "username": "puller", "password": "a:b"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({**GOOD, "without": False}, "node-b: it pulls with the agent's file and not without"),
        ({**GOOD, "with": False, "without": False}, "node-b: it does not pull with the agent's file either"),
        ({**GOOD, "error": "another agent is busy"}, "node-b: another agent is busy"),
        (PermissionError("pods/exec is forbidden"), "node-b: it cannot be asked, which takes the right pods/exec"),
        (ConnectionError("no route"), "node-b: it cannot be asked (no route)"),
    ],
)
def test_a_node_that_needs_the_agent_is_named_with_the_fix(answer: object, reason: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        let_go(EXTERNAL, Asked({"node-a": GOOD, "node-b": answer}), "ns")
    first, second = str(caught.value).splitlines()
    assert "nothing was changed" in first
    assert "python3 -m registry.clients --node NAME" in first
    assert "pulumi config set nodeTrust agent" in first
    assert second.strip().startswith(reason)


def test_after_a_bad_answer_no_other_node_is_disturbed() -> None:
    cluster = Asked({"node-a": {**GOOD, "without": False}, "node-b": GOOD})
    with pytest.raises(pulumi.RunError, match="node-a: it pulls with"):
        let_go(EXTERNAL, cluster, "ns")
    assert len(cluster.ran) == 1


def test_a_stack_without_a_ready_agent_cannot_be_asked() -> None:
    with pytest.raises(pulumi.RunError, match="no agent is ready"):
        let_go(EXTERNAL, Asked({}), "ns")


def test_host_and_trust_change_one_after_the_other() -> None:
    with pytest.raises(pulumi.RunError, match="The host changes from registry.example.com to other.example.com"):
        let_go(having(node_trust="external", host="other.example.com"), Asked(), "ns")


def test_nobody_is_asked_who_has_no_agent() -> None:
    cluster = Asked()
    let_go(having(), cluster, "ns")
    let_go(EXTERNAL, cluster, "")
    del cluster.pod["initContainers"]
    let_go(EXTERNAL, cluster, "ns")
    assert cluster.ran == []
