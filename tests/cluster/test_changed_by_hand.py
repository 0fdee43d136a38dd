"""What somebody has deleted, scaled or limited by hand: `pulumi up` names at once what only a refresh mends."""

import json
import time
from pathlib import Path

import pytest

from .support.bare_cluster import fails_with
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

MENDS = "This mends it: pulumi up --refresh"


def is_mended(deployed: Deployed) -> None:
    """`up --refresh` mends the stack, under the same name and CA, and a plain `up` finds nothing to do."""
    deployed.stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
    assert deployed.stack.outputs() == deployed.outputs
    assert len(deployed.ready_agents()) == len(deployed.cluster.nodes)
    deployed.stack.pulumi("preview", "--expect-no-changes")


def test_what_was_deleted_or_scaled_by_hand_is_named_at_once_and_mended_by_a_refresh(
    cluster: Cluster, tmp_path: Path
) -> None:
    with deployed_stack(cluster, tmp_path) as deployed:
        place = ("-n", deployed.namespace)
        where = f"in the namespace {deployed.namespace}"
        by_hand = {
            ("scale", *place, "deployment/registry", "--replicas=0"): f"The Deployment registry {where} has 0 replicas",
            ("delete", *place, "deployment/registry"): f"The Deployment registry {where} is not there",
            ("delete", *place, "daemonset/trust"): f"The DaemonSet trust {where} is not there",
            ("delete", "namespace", deployed.namespace): f"The namespace {deployed.namespace} is not there",
        }
        for command, told in by_hand.items():
            cluster.kubectl(*command)
            began = time.monotonic()
            fails_with(deployed.stack, told, MENDS)
            assert time.monotonic() - began < 60, "less than readyTimeout"
            is_mended(deployed)


def test_a_quota_with_room_for_the_stack_and_no_more_does_not_stop_the_next_up(
    cluster: Cluster, tmp_path: Path
) -> None:
    settings = {"storage": "memory", "storageSize": "256Mi"}
    with deployed_stack(cluster, tmp_path, settings) as deployed:
        place = ("-n", deployed.namespace, "resourcequota", "team")
        cluster.kubectl("create", *place[:3], "team", "--hard=requests.memory=100Gi")

        def used() -> str:
            return (
                cluster.get(place[2], *place[:2], "team").get("status", {}).get("used", {}).get("requests.memory", "")
            )

        wait_until(lambda: used() not in ("", "0"), "the quota counts the pods", timeout=60)
        hard = {"spec": {"hard": {"requests.memory": used()}}}
        cluster.kubectl("patch", *place, f"--patch={json.dumps(hard)}")
        deployed.stack.set(passwordVersion="2")
        assert "proved, " in deployed.stack.up().stdout
        assert deployed.stack.outputs()["password"] != deployed.outputs["password"]
