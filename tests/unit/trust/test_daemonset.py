"""The DaemonSet of the agents and the ConfigMap with their program, as the engine is asked to make them."""

from typing import Any

import pytest

from tests.unit.support.engine import Recorder, run_program
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
