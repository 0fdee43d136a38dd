"""The registry's component alone: what its pod is made of."""

import json
import subprocess
from collections.abc import Callable
from typing import Any, cast, get_args

import pulumi
import pytest

from registry import names
from registry.cluster import Cluster
from registry.pod import nginx, proof_image
from registry.pod.images import Images
from registry.pod.nginx import AuthMode
from registry.registry import Registry, RegistryArgs
from registry.settings import Bucket, Storage, StorageKind
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.engine import NAMESPACE, Recorder, run_component
from tests.unit.support.settings import stored


def made(*, auth: AuthMode = "push", storage: Callable[[], Storage] = stored) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()

    def make() -> dict[str, Any]:
        args = RegistryArgs(
            namespace=NAMESPACE,
            cluster=cast(Cluster, QuietCluster()),
            images=Images(registry="registry:3", nginx="nginx:stable", python="python:3", pull_secret=None),
            host="registry.example.com",
            tls_secret="certificate-tls",  # noqa: S106 - the name of a Secret
            secret=names.CREDENTIALS,
            auth=pulumi.Output.from_input(auth),
            storage=storage(),
            seed="seed",
            volume_anew=False,
            timeout="2m",
        )
        registry = Registry("registry", args)
        return {"proof": registry.proof, "removal": registry.removal}

    return recorder, run_component(recorder, make)


CA = "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n"


def in_bucket(*, replicas: int = 2, hidden: str = "hidden", keys: bool = True, **values: str) -> Callable[[], Storage]:
    """What makes the storage of images in a bucket of a server of one's own; outputs belong to one run of a program."""
    given = {"name": "team-images", "region": "us-east-1", "endpoint": "https://s3.example.com", "ca": CA, **values}

    def make() -> Storage:
        both = (pulumi.Output.secret("access"), pulumi.Output.secret(hidden)) if keys else None
        return stored("s3", bucket=Bucket(**given, keys=both), replicas=replicas)

    return make


def pod(recorder: Recorder) -> dict[str, Any]:
    return recorder.of(":Deployment")["spec"]["template"]["spec"]


def containers(recorder: Recorder) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in (*pod(recorder)["initContainers"], *pod(recorder)["containers"])}


@pytest.mark.parametrize(("kind", "data"), [("volume", ["data"]), ("memory", ["data"]), ("s3", [])])
def test_each_container_mounts_what_it_needs_and_every_volume_is_mounted(kind: StorageKind, data: list[str]) -> None:
    recorder, known = made(storage=in_bucket() if kind == "s3" else lambda: stored(kind))
    mounts = {name: [each["name"] for each in made["volumeMounts"]] for name, made in containers(recorder).items()}
    assert mounts == {
        "registry": ["config", *data, "nginx"],
        "nginx": ["config", *data, "nginx", "tls", "users"],
        "proof-image": ["config", *data, "nginx", "proof"],
    }
    writable = {
        (name, each["name"])
        for name, made in containers(recorder).items()
        for each in made["volumeMounts"]
        if not each.get("readOnly")
    }
    images = {("registry", each) for each in data}
    assert writable == images | {("nginx", "nginx"), ("proof-image", "nginx"), ("proof-image", "proof")}
    assert {volume["name"] for volume in pod(recorder)["volumes"]} == {
        name for each in mounts.values() for name in each
    }
    assert known["proof"] == f"private-registry/proof@{proof_image.build(NAMESPACE).index.digest}"
    claims = [typ for typ, _ in recorder.resources if typ.endswith(":PersistentVolumeClaim")]
    assert len(claims) == (1 if kind == "volume" else 0)


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


def test_a_pod_that_was_told_to_end_stays_ready_until_another_one_is() -> None:
    recorder, _ = made()
    lingering = {name for name, each in containers(recorder).items() if "preStop" in each.get("lifecycle", {})}
    assert lingering == {each["name"] for each in pod(recorder)["containers"]}
    assert containers(recorder)["nginx"]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert pod(recorder)["terminationGracePeriodSeconds"] == 5 + nginx.DRAIN + 10


def test_destroy_does_not_wait_for_the_pods_by_themselves_since_the_namespace_waits_for_them() -> None:
    annotations = made()[0].of(":Deployment")["metadata"]["annotations"]
    assert annotations["pulumi.com/skipAwait"] == "true"
    assert annotations["pulumi.com/deletionPropagationPolicy"] == "background"


def test_the_pod_is_ready_as_soon_as_the_proof_image_is_there_and_waits_for_a_slow_storage_without_end() -> None:
    probe = containers(made()[0])["proof-image"]["startupProbe"]
    assert probe["failureThreshold"] == 2**31 - 1
    script = probe["exec"]["command"][-1].replace("seq 90", "seq 2")
    assert subprocess.run(["sh", "-c", script.replace("/run/proof/ready", "/dev/null")], check=False).returncode == 1
    ready = script.replace("/run/proof/ready", __file__)
    assert subprocess.run(["sh", "-c", ready], timeout=5, check=False).returncode == 0


def test_the_pod_gets_the_programs_that_it_runs_and_no_other() -> None:
    recorder, _ = made()
    programs = {"config.yml", "gc.sh", "nginx.conf", "nginx.sh", "proof_image.py"}
    assert set(recorder.of(":ConfigMap")["data"]) == programs
    annotations = recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["private-registry/host"] == "registry.example.com"


def test_a_changed_configuration_makes_a_new_pod() -> None:
    def checksum(recorder: Recorder) -> str:
        return recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]["private-registry/config"]

    assert len({checksum(made(auth=auth)[0]) for auth in get_args(AuthMode)}) == 3
    assert checksum(made()[0]) == checksum(made()[0])


def environment(recorder: Recorder) -> dict[str, Any]:
    """What each variable of the registry's container is, or which key of which object it is from."""
    return {
        each["name"]: each.get("value") or next(iter(each["valueFrom"].values()))
        for each in containers(recorder)["registry"]["env"]
    }


def test_the_registry_keeps_images_in_the_bucket_below_its_namespace_and_sends_nobody_there() -> None:
    recorder, known = made(storage=in_bucket())
    storage = json.loads(recorder.of(":ConfigMap")["data"]["config.yml"])["storage"]
    assert "filesystem" not in storage
    assert storage["redirect"] == {"disable": True}, "kubelets need not reach the bucket"
    assert storage["s3"] == {
        "bucket": "team-images",
        "region": "us-east-1",
        "regionendpoint": "https://s3.example.com",
        "forcepathstyle": True,
        "chunksize": 5242880,
    }
    found = environment(recorder)
    assert found["NAMESPACE"] == {"fieldPath": "metadata.namespace"}
    assert found["REGISTRY_STORAGE_S3_ROOTDIRECTORY"] == "/$(NAMESPACE)"
    assert found["AWS_CA_BUNDLE"] == "/etc/private-registry/s3-ca.crt"
    assert recorder.of(":ConfigMap")["data"]["s3-ca.crt"] == CA
    assert known["removal"] == (
        f"aws s3 rm --recursive s3://team-images/{NAMESPACE}/ --region us-east-1 "
        "--endpoint-url https://s3.example.com  # destroy keeps these images"
    )


def test_amazons_own_buckets_need_no_endpoint_and_pods_with_an_identity_no_keys() -> None:
    recorder, known = made(storage=in_bucket(endpoint="", ca="", region="eu-central-1", keys=False))
    storage = json.loads(recorder.of(":ConfigMap")["data"]["config.yml"])["storage"]
    assert storage["s3"] == {"bucket": "team-images", "region": "eu-central-1", "chunksize": 5242880}
    assert not [name for name in environment(recorder) if name.startswith("AWS")]
    assert not [typ for typ, _ in recorder.resources if typ.endswith(":Secret")]
    assert known["removal"].startswith(f"aws s3 rm --recursive s3://team-images/{NAMESPACE}/ --region eu-central-1  #")


def test_the_buckets_keys_are_in_a_secret_alone_and_others_make_new_pods() -> None:
    recorder, _ = made(storage=in_bucket())
    data = recorder.of(":Secret")["stringData"]
    assert pulumi.runtime.rpc.is_rpc_secret(data)
    assert pulumi.runtime.rpc.unwrap_rpc_secret(data) == {"accessKey": "access", "secretKey": "hidden"}
    found = environment(recorder)
    assert found["AWS_ACCESS_KEY_ID"] == {"name": "registry-s3", "key": "accessKey"}
    assert found["AWS_SECRET_ACCESS_KEY"] == {"name": "registry-s3", "key": "secretKey"}
    deployment = recorder.of(":Deployment")
    assert "hidden" not in json.dumps(deployment)

    def mark(recorder: Recorder) -> str:
        return recorder.of(":Deployment")["spec"]["template"]["metadata"]["annotations"]["private-registry/bucket"]

    assert mark(made(storage=in_bucket())[0]) == mark(recorder)
    assert mark(made(storage=in_bucket(hidden="another"))[0]) != mark(recorder)
    dependencies = recorder.dependencies["kubernetes:apps/v1:Deployment", "registry-deployment"]
    assert ("kubernetes:core/v1:Secret", "registry-s3") in dependencies, "new pods read the new keys"


@pytest.mark.parametrize("kind", ["volume", "memory"])
def test_a_new_pod_need_not_wait_for_the_last_transfer_of_the_old_one_and_prefers_its_node(kind: StorageKind) -> None:
    recorder, known = made(storage=lambda: stored(kind))
    spec = recorder.of(":Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    [preferred] = pod(recorder)["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert (
        preferred["podAffinityTerm"]["labelSelector"]["matchLabels"].items()
        <= spec["template"]["metadata"]["labels"].items()
    )
    assert known["removal"] is None


@pytest.mark.parametrize("replicas", [1, 3])
def test_with_a_bucket_new_pods_are_ready_before_old_ones_go_and_nobody_asks_these_any_more(replicas: int) -> None:
    recorder, _ = made(storage=in_bucket(replicas=replicas))
    spec = recorder.of(":Deployment")["spec"]
    assert spec["replicas"] == replicas
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert "affinity" not in pod(recorder)


def test_of_several_pods_one_at_a_time_may_be_evicted_and_they_are_spread() -> None:
    recorder, _ = made(storage=in_bucket(replicas=2))
    labels = recorder.of(":Deployment")["spec"]["template"]["metadata"]["labels"]
    budget = recorder.of(":PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    spread = pod(recorder)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert {each["whenUnsatisfiable"] for each in spread} == {"ScheduleAnyway"}, "one node is enough"
    single, _ = made(storage=in_bucket(replicas=1))
    assert not [typ for typ, _ in single.resources if typ.endswith(":PodDisruptionBudget")], "it would stop a drain"
    assert "topologySpreadConstraints" not in pod(single)
