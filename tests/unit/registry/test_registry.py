"""The registry's component alone: what its pod is made of, with and without TLS, a password and a volume."""

import json
from typing import Any, cast

import pulumi
import pytest

from registry import names
from registry.cluster import Cluster
from registry.pod import proof_image
from registry.registry import Registry, RegistryArgs
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.engine import NAMESPACE, Recorder, run_component


def made(*, tls: bool = False, asks_password: bool = False, in_memory: bool = False) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()

    def make() -> dict[str, Any]:
        args = RegistryArgs(
            namespace=NAMESPACE,
            cluster=cast(Cluster, QuietCluster()),
            image="registry:3",
            python_image="python:3",
            host="registry.example.com",
            tls_secret="certificate-tls" if tls else None,
            secret=names.CREDENTIALS,
            asks_password=pulumi.Output.from_input(asks_password),
            in_memory=in_memory,
            storage_size="10Gi",
            storage_class="",
            timeout="2m",
        )
        return {"proof": Registry("registry", args).proof}

    return recorder, run_component(recorder, make)


def mounts(recorder: Recorder) -> dict[str, list[str]]:
    """The names of the volumes that each container mounts."""
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    return {container["name"]: [mount["name"] for mount in container["volumeMounts"]] for container in containers}


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("asks_password", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_each_container_mounts_what_it_needs_and_every_volume_is_mounted(
    tls: bool, asks_password: bool, in_memory: bool
) -> None:
    recorder, known = made(tls=tls, asks_password=asks_password, in_memory=in_memory)
    registry = ["config", "data", *(["tls", "program"] if tls else []), *(["users"] if asks_password else [])]
    proof = ["config", "run", *(["login"] if asks_password else [])]
    program = {"program": ["program"]} if tls else {}
    assert mounts(recorder) == {**program, "registry": registry, "proof-image": proof}
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    assert {volume["name"] for volume in pod["volumes"]} == {*registry, *proof}
    assert known["proof"] == f"private-registry/proof@{proof_image.build(NAMESPACE).index.digest}"
    claims = [typ for typ, _ in recorder.resources if typ.endswith(":PersistentVolumeClaim")]
    assert len(claims) == (0 if in_memory else 1)


def test_the_pod_gets_the_programs_that_it_runs_and_no_other() -> None:
    assert set(made()[0].of(":ConfigMap")["data"]) == {"config.yml", "proof_image.py"}
    recorder, _ = made(tls=True)
    assert set(recorder.of(":ConfigMap")["data"]) == {"config.yml", "proof_image.py", "serve.py"}
    annotations = recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["private-registry/host"] == "registry.example.com"


def test_a_changed_configuration_makes_a_new_pod() -> None:
    def checksum(recorder: Recorder) -> str:
        return recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]["private-registry/config"]

    without, with_password = made()[0], made(asks_password=True)[0]
    assert "auth" not in json.loads(without.of(":ConfigMap")["data"]["config.yml"])
    assert checksum(without) != checksum(with_password)
