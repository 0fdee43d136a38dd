"""Two people's stacks of one name on one cluster: nothing that others see is the same."""

from pathlib import Path

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.provider]

IN_MEMORY = {"storage": "memory", "storageSize": "1Gi"}


def test_two_peoples_stacks_of_one_name_live_side_by_side_and_neither_proof_is_pulled_from_the_other(
    cluster: Cluster, tmp_path: Path, namespace: str
) -> None:
    elsewhere = {**cluster.environment, "PULUMI_BACKEND_URL": f"file://{tmp_path}"}
    with Stack(environment=cluster.environment, settings=IN_MEMORY) as one:
        one.up()
        with Stack(environment=elsewhere, settings=IN_MEMORY, name=one.name) as two:
            two.up()
            ours, theirs = one.outputs(), two.outputs()
            assert ours["namespace"] != theirs["namespace"]
            assert ours["registryUrl"] != theirs["registryUrl"]
            pod = cluster.get("daemonset", "-n", ours["namespace"], "trust")["spec"]["template"]["spec"]
            _, slash, proof = pod["containers"][0]["image"].partition("/")
            container = {"name": "app", "image": f"{theirs['registryUrl']}{slash}{proof}", "imagePullPolicy": "Always"}
            cluster.apply(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "crossed", "namespace": namespace},
                    "spec": {"nodeName": cluster.nodes[0], "containers": [container]},
                }
            )

            def refused() -> bool:
                events = cluster.get("events", "-n", namespace)["items"]
                return any(event["reason"] == "Failed" and "not found" in event["message"] for event in events)

            wait_until(refused, "the proof of one stack is not found in the registry of the other", timeout=60)
            one.pulumi("preview", "--expect-no-changes")
            # The settings of both are in one file, which goes with the first of them.
            one.pulumi("destroy", "--yes", "--skip-preview")
            two.pulumi("preview", "--expect-no-changes")
