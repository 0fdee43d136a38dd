"""A release's stack is brought up by the program of this tree, while every node pulls and a client pushes."""

from pathlib import Path
from typing import Any

import pytest

from .support.changes import GAP
from .support.clients import registry_for_clients
from .support.cluster import Cluster
from .support.loop import Loop
from .support.node_state import restarts
from .support.places import REPOSITORY
from .support.releases import releases, unpack
from .support.stacks import Deployed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]


def claim(deployed: Deployed) -> dict[str, Any]:
    """The PersistentVolumeClaim of the stack."""
    return deployed.cluster.get("persistentvolumeclaim", "-n", deployed.namespace, "registry")


@pytest.mark.parametrize("version", releases())
@pytest.mark.parametrize("exposure", ["ingress", "loadBalancer"])
def test_a_stack_of_a_release_keeps_its_volume_its_ca_and_every_runtime_running(
    cluster: Cluster, namespace: str, app_image: Path, tmp_path: Path, exposure: str, version: str
) -> None:
    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true"}
    (tmp_path / "program").mkdir()
    program = unpack(version, tmp_path / "program")
    with registry_for_clients(cluster, tmp_path, exposure, settings, program) as deployed:
        deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
        kept = deployed.crane("digest", f"{deployed.host}/test/app:1")
        started = {node: restarts(node) for node in cluster.nodes}
        volume = claim(deployed)
        with Loop(deployed, namespace, tmp_path) as loop:
            deployed.stack.become(REPOSITORY)
            loop.change()
            loop.check(GAP)
            after = loop.deployed
            assert {node: restarts(node) for node in cluster.nodes} == started
            assert claim(after)["metadata"]["uid"] == volume["metadata"]["uid"]
            assert (after.host, after.ca) == (deployed.host, deployed.ca)
            assert after.crane("digest", f"{after.host}/test/app:1") == kept
            after.stack.pulumi("preview", "--expect-no-changes")
