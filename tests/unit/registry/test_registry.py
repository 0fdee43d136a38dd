"""The registry's component alone: what its pod is made of."""

import json
from typing import Any, cast, get_args

import pulumi
import pytest

from registry import names
from registry.cluster import Cluster
from registry.pod import nginx, proof_image
from registry.pod.nginx import AuthMode
from registry.registry import Registry, RegistryArgs
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.engine import NAMESPACE, Recorder, run_component


def made(*, auth: AuthMode = "push", in_memory: bool = False) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()

    def make() -> dict[str, Any]:
        args = RegistryArgs(
            namespace=NAMESPACE,
            cluster=cast(Cluster, QuietCluster()),
            image="registry:3",
            nginx_image="nginx:stable",
            python_image="python:3",
            host="registry.example.com",
            tls_secret="certificate-tls",  # noqa: S106 - the name of a Secret
            secret=names.CREDENTIALS,
            auth=pulumi.Output.from_input(auth),
            in_memory=in_memory,
            storage_size="10Gi",
            storage_class="",
            volume_anew=False,
            timeout="2m",
        )
        return {"proof": Registry("registry", args).proof}

    return recorder, run_component(recorder, make)


def pod(recorder: Recorder) -> dict[str, Any]:
    return recorder.of(":Deployment")["spec"]["template"]["spec"]


def containers(recorder: Recorder) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (*pod(recorder)["initContainers"], *pod(recorder)["containers"])}


@pytest.mark.parametrize("in_memory", [False, True])
def test_each_container_mounts_what_it_needs_and_every_volume_is_mounted(in_memory: bool) -> None:
    recorder, known = made(in_memory=in_memory)
    mounts = {name: [each["name"] for each in made["volumeMounts"]] for name, made in containers(recorder).items()}
    assert mounts == {
        "registry": ["config", "data"],
        "nginx": ["config", "nginx", "tls", "users"],
        "proof-image": ["config", "proof"],
    }
    assert {volume["name"] for volume in pod(recorder)["volumes"]} == {
        name for each in mounts.values() for name in each
    }
    assert known["proof"] == f"private-registry/proof@{proof_image.build(NAMESPACE).index.digest}"
    claims = [typ for typ, _ in recorder.resources if typ.endswith(":PersistentVolumeClaim")]
    assert len(claims) == (0 if in_memory else 1)


def test_the_registry_is_the_untouched_image_on_loopback_alone_and_nginx_serves_the_ports() -> None:
    recorder, _ = made()
    found = containers(recorder)
    assert (found["registry"]["image"], found["nginx"]["image"]) == ("registry:3", "nginx:stable")
    assert json.loads(recorder.of(":ConfigMap")["data"]["config.yml"])["http"]["addr"].startswith("127.0.0.1:")
    ports = {name: [each["containerPort"] for each in each.get("ports", [])] for name, each in found.items()}
    assert ports == {"registry": [], "nginx": [5000, 5443], "proof-image": []}


def test_the_registry_ends_after_nginx_and_a_slow_volume_kills_nothing() -> None:
    recorder, _ = made()
    found = containers(recorder)
    assert found["registry"]["restartPolicy"] == "Always", "a native sidecar ends after the other containers"
    assert "livenessProbe" not in found["registry"]
    assert found["nginx"]["livenessProbe"]["tcpSocket"] == {"port": "plain"}
    assert found["nginx"]["readinessProbe"]["httpGet"] == {"path": "/", "port": "plain"}
    assert pod(recorder)["terminationGracePeriodSeconds"] > int(found["nginx"]["command"][-1]) == nginx.DRAIN


def test_the_pod_gets_the_programs_that_it_runs_and_no_other() -> None:
    recorder, _ = made()
    assert set(recorder.of(":ConfigMap")["data"]) == {"config.yml", "nginx.conf", "nginx.sh", "proof_image.py"}
    annotations = recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["private-registry/host"] == "registry.example.com"


def test_a_changed_configuration_makes_a_new_pod() -> None:
    def checksum(recorder: Recorder) -> str:
        return recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]["private-registry/config"]

    assert len({checksum(made(auth=auth)[0]) for auth in get_args(AuthMode)}) == 3
    assert checksum(made()[0]) == checksum(made()[0])
