"""The DaemonSet of the agents and the ConfigMap with their program, as the engine is asked to make them."""

import hashlib
from typing import Any

import pytest

from tests.unit.support.engine import NAMESPACE, Recorder, pem, run_program
from trust import daemonset
from trust.agent.__main__ import CLEAN_UP_FOR


def made() -> tuple[dict[str, Any], dict[str, Any]]:
    """The ConfigMap with the agent, and the DaemonSet's pod."""
    recorder = Recorder()
    run_program(recorder)
    [program] = [
        inputs
        for (kind, _), inputs in recorder.resources.items()
        if kind.endswith(":ConfigMap") and "agent.py" in inputs.get("data", {})
    ]
    return program, recorder.of(":DaemonSet")["spec"]["template"]["spec"]


def test_l9_the_agents_program_cannot_be_changed_in_place_and_another_one_has_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, pod = made()
    assert program["immutable"] is True
    mounted = {volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "agent"}
    assert mounted == {program["metadata"]["name"]}
    assert made()[0]["metadata"]["name"] == program["metadata"]["name"]
    files = daemonset.agent_files()
    monkeypatch.setattr(daemonset, "agent_files", lambda: {**files, "agent.py": files["agent.py"] + "\n"})
    changed, pod = made()
    assert changed["metadata"]["name"] != program["metadata"]["name"]
    assert changed["metadata"]["name"] in {volume.get("configMap", {}).get("name") for volume in pod["volumes"]}


def test_m6_the_pod_has_more_time_to_end_than_the_agent_takes() -> None:
    """A last try begins at the latest when its time is over, and waits five seconds for the lock."""
    _, pod = made()
    assert pod["terminationGracePeriodSeconds"] >= CLEAN_UP_FOR + 10


@pytest.fixture(scope="module")
def external() -> Recorder:
    """A stack whose nodes somebody else makes trust the CA."""
    recorder = Recorder()
    run_program(recorder, nodeTrust="external")
    return recorder


def test_without_an_agent_the_pod_keeps_the_standard_restricted_and_runs_the_proof_alone(external: Recorder) -> None:
    spec = external.of(":DaemonSet")["spec"]
    pod = spec["template"]["spec"]
    [proof] = pod["containers"]
    assert proof["image"].startswith(f"{NAMESPACE}.10-99-0-200.nip.io/private-registry/proof@sha256:")
    assert proof["imagePullPolicy"] == "Always"
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    security = proof["securityContext"]
    assert (security["runAsNonRoot"], security["allowPrivilegeEscalation"]) == (True, False)
    assert security["capabilities"] == {"drop": ["ALL"]}
    forbidden = {"initContainers", "volumes", "hostPID", "hostNetwork", "priorityClassName", "dnsPolicy"}
    assert not forbidden & pod.keys()
    assert pod["automountServiceAccountToken"] is False
    # An agent that was there takes its file away before the proof is pulled.
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": "100%"}


def test_without_an_agent_nothing_is_there_for_one(external: Recorder) -> None:
    label = external.of(":Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert label == "restricted"
    kinds = external.kinds()
    assert "ResourceQuota" not in kinds
    assert not [name for typ, name in external.resources if typ.endswith(":ConfigMap") and "agent" in name]


def test_without_an_agent_another_ca_makes_each_node_pull_again(external: Recorder) -> None:
    annotations = external.of(":DaemonSet")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["private-registry/ca"] == hashlib.sha256(pem("certificate-ca").encode()).hexdigest()[:12]
