"""What a person sees first when something is wrong: what the page on failures quotes is really said."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from local_cluster import network
from local_cluster.paths import PULUMI_BACKEND

from .support import messages
from .support.bare_cluster import kubeconfig
from .support.clients import registry_for_clients
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed, Stack, docker_config

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

CLOSED = 9
"""A port on which nothing listens."""
CONTROL_PLANE = f"{network.CONTROL_PLANE.replace('.', '-')}.nip.io"


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack that is up, in whose registry is an app."""
    with registry_for_clients(cluster, tmp_path_factory.mktemp("deployed"), "ingress") as made:
        yield made


def other_processor(deployed: Deployed) -> tuple[str, str]:
    """The proof's program for arm64: an image of its own, and one in an index that has no other."""
    daemon_set = deployed.cluster.get("daemonset", "trust", "-n", deployed.namespace)
    [proof] = [each["image"] for each in daemon_set["spec"]["template"]["spec"]["containers"]]
    single, index = (f"{deployed.host}/test/{kind}:1" for kind in ("single", "index"))
    deployed.crane("copy", "--platform=linux/arm64", proof, single)
    deployed.crane("index", "append", "-m", single, "-t", index)
    return single, index


def start(cluster: Cluster, namespace: str, name: str, image: str) -> None:
    """Create a pod `name`-<node> on each node that runs the image's own program."""
    container = {"name": "app", "image": image, "imagePullPolicy": "Always"}
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{name}-{node}", "namespace": namespace},
            "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0},
        }
        for node in cluster.nodes
    ]
    cluster.apply(*pods)


def said_of_pods(cluster: Cluster, namespace: str) -> dict[str, str]:
    """What the cluster says of each pod: its events, its status and its log."""
    said = {
        pod["metadata"]["name"]: json.dumps(pod["status"].get("containerStatuses", []))
        for pod in cluster.get("pods", "-n", namespace)["items"]
    }
    for event in cluster.get("events", "-n", namespace)["items"]:
        said[event["involvedObject"]["name"]] = f"{said.get(event['involvedObject']['name'])}\n{event['message']}"
    for name in said:
        said[name] += cluster.run("kubectl", "logs", name, "-n", namespace, check=False).stdout
    return said


def test_every_containerd_says_what_the_page_has_of_a_pod_that_does_not_run(deployed: Deployed, namespace: str) -> None:
    cluster, host = deployed.cluster, deployed.host
    single, index = other_processor(deployed)
    cases: Mapping[str, tuple[str, str]] = {
        "nothing": (f"{host}/test/nothing:1", messages.NOT_FOUND),
        "single": (single, messages.EXEC_FORMAT),
        "index": (index, messages.OTHER_PROCESSOR),
        "elsewhere": (f"elsewhere-{host}/test/app:1", messages.OF_SOMETHING_ELSE),
        "unresolved": ("registry.invalid/test/app:1", messages.NO_SUCH_HOST),
        "closed": (f"{CONTROL_PLANE}:{CLOSED}/test/app:1", messages.REFUSED),
    }
    for name, (image, _) in cases.items():
        start(cluster, namespace, name, image)
    said: dict[str, str] = {}

    def all_said() -> bool:
        said.update(said_of_pods(cluster, namespace))
        return all(words in said[f"{name}-{node}"] for name, (_, words) in cases.items() for node in cluster.nodes)

    try:
        wait_until(all_said, "every kubelet has said it", timeout=120, interval=2)
    except AssertionError:
        for name, (_, words) in cases.items():
            for node in cluster.nodes:
                assert words in said[f"{name}-{node}"], (name, node)
        raise


def test_clients_say_what_the_page_has(deployed: Deployed, app_image: Path, tmp_path: Path) -> None:
    host = deployed.host
    nobody = docker_config(tmp_path / "nobody", {})
    refused = deployed.run_crane(nobody, "push", app_image, f"{host}/test/app:1", check=False)
    assert messages.UNAUTHORIZED in refused.stderr
    deployed.crane("push", app_image, f"{host}/test/app:1")
    for image, words in {"app:2": messages.MANIFEST_UNKNOWN, "nothing:1": messages.MANIFEST_UNKNOWN}.items():
        assert words in deployed.run_crane(nobody, "manifest", f"{host}/test/{image}", check=False).stderr
    assert messages.NAME_UNKNOWN in deployed.run_crane(nobody, "ls", f"{host}/test/nothing", check=False).stderr


def test_a_registry_names_an_upload_and_a_layer_that_are_gone(deployed: Deployed) -> None:
    login = f"{deployed.outputs['username']}:{deployed.outputs['password']}"
    url = f"https://{deployed.host}/v2/test/gone"

    def ask(*options: str) -> str:
        curl = ("curl", "-sS", "-i", "--cacert", deployed.ca_file, "--config", "-")
        return deployed.cluster.run(*curl, *options, text=f'user = "{login}"\n').stdout

    started = re.search(r"(?im)^location: (\S+)", ask("-X", "POST", f"{url}/blobs/uploads/"))
    assert started
    upload = f"https://{deployed.host}{started[1]}" if started[1].startswith("/") else started[1]
    assert " 204" in ask("-X", "DELETE", upload)
    assert messages.UPLOAD_UNKNOWN in ask("-X", "PATCH", "--data-binary", "more", upload)
    missing = {"digest": f"sha256:{'0' * 64}", "size": 1, "mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    text = json.dumps({**manifest, "config": missing, "layers": []})
    kind = f"Content-Type: {manifest['mediaType']}"
    said = ask("-X", "PUT", "-H", kind, "--data-binary", text, f"{url}/manifests/1")
    assert messages.BLOB_UNKNOWN in said


def test_pulumi_names_a_lock_and_a_cluster_that_is_gone_and_what_the_page_says_of_both_helps(
    cluster: Cluster, tmp_path: Path
) -> None:
    settings = {"storage": "memory", "storageSize": "1Gi"}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        locks = PULUMI_BACKEND / ".pulumi" / "locks"
        with stack.start("up", "--yes", "--skip-preview") as up:
            wait_until(lambda: list(locks.glob(f"*/*/{stack.name}/*.json")), "it is locked", timeout=30, interval=0.05)
            refused = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
            assert refused.returncode != 0
            assert messages.LOCKED in refused.stdout + refused.stderr
            said, _ = up.communicate(timeout=300)
            assert up.returncode == 0, said
        namespace = stack.outputs()["namespace"]
        gone = kubeconfig(tmp_path / "kubeconfig", port=CLOSED)
        stack.environment = {**cluster.environment, "KUBECONFIG": str(gone)}
        try:
            refused = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
            assert refused.returncode != 0
            assert messages.UNREACHABLE in refused.stdout + refused.stderr
            stack.environment = {**stack.environment, "PULUMI_K8S_DELETE_UNREACHABLE": "true"}
            stack.destroy()
            assert "registryUrl" not in stack.outputs()
        finally:
            stack.environment = cluster.environment
            # The cluster is not gone at all: what the stack had there goes with its namespace.
            cluster.kubectl("delete", "namespace", "-l", f"private-registry/stack={stack.name}", timeout=180)
        assert cluster.run("kubectl", "get", "namespace", namespace, check=False).returncode != 0
