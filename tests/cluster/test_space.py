"""The registry's space in a stack: it is full, it cannot be written to, it is freed, and its pod is killed."""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local_cluster import network, nodes

from .support import messages
from .support.clients import registry_for_clients
from .support.cluster import Cluster, is_ready
from .support.commands import CommandError, wait_until
from .support.diagnosis import wait_diagnosis
from .support.freed_space import GC, append, gc, layer, repeated, whole
from .support.stacks import Deployed, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PUSHES = 20


@pytest.fixture
def storage_class(cluster: Cluster) -> Iterator[str]:
    """A StorageClass whose volumes are made by hand."""
    name = f"by-hand-{secrets.token_hex(3)}"
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    cluster.apply({**kind, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"})
    yield name
    cluster.kubectl("delete", "storageclass", name)


@contextmanager
def volume_by_hand(cluster: Cluster, storage_class: str, node: str, path: str) -> Generator[None]:
    """A PersistentVolume that is a folder of a node; nobody gives it to the registry's group."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": storage_class},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": storage_class,
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": path, "type": "DirectoryOrCreate"},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
                                ]
                            }
                        ]
                    }
                },
            },
        }
    )
    try:
        yield
    finally:
        cluster.kubectl("delete", "persistentvolume", storage_class, timeout=60)


@contextmanager
def small_folder(cluster: Cluster, namespace: str, size: str) -> Generator[tuple[str, str]]:
    """A node, and the path on it of a folder that is soon full: the memory of a pod that only waits."""
    container = {
        "name": "waits",
        "image": "docker.io/library/busybox:1",
        "command": ["sleep", "1000000"],
        "volumeMounts": [{"name": "small", "mountPath": "/small"}],
    }
    volume = {"name": "small", "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    spec = {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0}
    meta = {"name": "small", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    cluster.kubectl("wait", "--for=condition=Ready", "pod/small", "-n", namespace, "--timeout=60s")
    pod = cluster.get("pod", "small", "-n", namespace)
    folder = f"/var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~empty-dir/small"
    try:
        yield pod["spec"]["nodeName"], folder
    finally:
        cluster.kubectl("delete", "pod", "small", "-n", namespace, timeout=60)


@pytest.mark.parametrize("storage", ["memory", "volume"])
def test_a_full_storage_is_named_by_everyone_pulls_go_on_and_it_recovers(
    storage: str, cluster: Cluster, namespace: str, storage_class: str, tmp_path: Path, app_image: Path
) -> None:
    with small_folder(cluster, namespace, "100Mi") as (node, path), volume_by_hand(cluster, storage_class, node, path):
        size = {"storage": "memory", "storageSize": "100Mi"}
        settings = size if storage == "memory" else {"storageClass": storage_class, "storageSize": "1Gi"}
        with registry_for_clients(cluster, tmp_path, "loadBalancer", settings) as deployed:
            deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
            assert append(deployed, "test/middle:1", layer(tmp_path, 60 * 10**6)).returncode == 0
            big = layer(tmp_path, 60 * 10**6)
            refused = append(deployed, "test/big:1", big)
            assert refused.returncode != 0
            assert "no space left on device" in refused.stderr or "storage of the registry is full" in refused.stderr
            wait_diagnosis(cluster, deployed.stack, ("STORAGE_FULL", "registry"))
            refused = append(deployed, "test/big:1", big)
            assert "DENIED: the storage of the registry is full" in refused.stderr

            deployed.start_pods(namespace, f"{deployed.host}/test/app:1", cluster.nodes)
            deployed.assert_running(namespace, cluster.nodes)
            up = deployed.stack.up()
            assert "The registry's storage is full" in up.stdout + up.stderr

            digest = deployed.crane("digest", f"{deployed.host}/test/middle:1").strip()
            deployed.crane("delete", f"{deployed.host}/test/middle@{digest}")
            assert "MiB" in gc(deployed)
            wait_diagnosis(cluster, deployed.stack)
            done = append(deployed, "test/big:1", big)
            assert done.returncode == 0, done.stderr
            assert whole(deployed, "test/big:1")
            assert "is full" not in deployed.stack.up().stdout


def test_a_volume_that_the_registry_cannot_write_to_is_named_at_up(
    cluster: Cluster, storage_class: str, tmp_path: Path
) -> None:
    node, path = cluster.nodes[0], f"/var/lib/{storage_class}"
    here = nodes.node_root(node) / path.lstrip("/")
    settings = {"storageClass": storage_class, "storageSize": "1Gi", "readyTimeout": "45s"}
    try:
        with (
            volume_by_hand(cluster, storage_class, node, path),
            Stack(environment=cluster.environment, settings=settings) as stack,
        ):
            refused = stack.up(check=False)
            assert refused.returncode != 0
            said = refused.stdout + refused.stderr
            assert "The registry runs as user 1000 and cannot write to its storage" in said
            assert "permission denied" in said or '"Err":13' in said
            assert "chown -R 1000:1000" in said
            wait_diagnosis(cluster, stack, ("STORAGE_NOT_WRITABLE", "registry"))
            assert (here.stat().st_uid, here.stat().st_mode & 0o777) == (0, 0o755)
            os.chown(here, 1000, 1000)
            stack.pulumi("config", "set", "readyTimeout", "2m")
            stack.up()
            wait_diagnosis(cluster, stack)

            # It has the proof image by now, so its pod is ready; and yet nothing can be pushed.
            for each in (here, *here.rglob("*")):
                os.chown(each, 0, 0)
            refused = stack.up(check=False)

            def named() -> bool:
                done = stack.up(check=False)
                return done.returncode != 0 and "cannot write to its storage" in done.stdout + done.stderr

            wait_until(named, "up names it", timeout=120, interval=1)
            wait_diagnosis(cluster, stack, ("STORAGE_NOT_WRITABLE", "registry"))
    finally:
        shutil.rmtree(here, ignore_errors=True)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack with a volume, for the tests that only push and free."""
    with registry_for_clients(cluster, tmp_path_factory.mktemp("deployed"), "loadBalancer") as deployed:
        yield deployed


def test_what_no_tag_needs_goes_and_no_image_loses_a_part_while_everybody_pushes_and_pulls(
    deployed: Deployed, tmp_path: Path
) -> None:
    host, layers = deployed.host, [layer(tmp_path, 10**6) for _ in range(8)]

    def digest(reference: str) -> str:
        return deployed.crane("digest", f"{host}/{reference}").strip()

    for number in (1, 2):
        assert append(deployed, f"test/multi:part-{number}", layers[number]).returncode == 0
    parts = [f"{host}/test/multi:part-{number}" for number in (1, 2)]
    deployed.crane("index", "append", "-m", parts[0], "-m", parts[1], "-t", f"{host}/test/multi:1")
    for part in parts:
        deployed.crane("delete", part)
    assert append(deployed, "test/app:1", layers[3]).returncode == 0
    moved = digest("test/app:1")
    deployed.crane("copy", f"{host}/test/app:1", f"{host}/test/other:1")
    assert append(deployed, "test/app:1", layers[4]).returncode == 0
    assert append(deployed, "test/app:2", layers[6]).returncode == 0
    replaced = digest("test/app:2")
    assert append(deployed, "test/app:2", layers[7]).returncode == 0
    assert append(deployed, "test/app:deleted", layers[5]).returncode == 0
    deployed.crane("delete", f"{host}/test/app@{digest('test/app:deleted')}")

    pushed = iter(range(10**6))
    acknowledged: list[str] = []

    def pull() -> subprocess.CompletedProcess[str]:
        return deployed.run_crane(deployed.login, "validate", "--remote", f"{host}/test/multi:1", check=False)

    def push() -> subprocess.CompletedProcess[str]:
        tag = f"test/loop:{next(pushed)}"
        done = append(deployed, tag, layer(tmp_path, 2 * 10**6))
        if done.returncode == 0:
            acknowledged.append(tag)
        return done

    with repeated(pull) as pulls, repeated(push) as pushes:
        wait_until(lambda: acknowledged, "a push was acknowledged", timeout=60)
        printed = gc(deployed)
        assert "Pushes are stopped" in printed
        assert "Pushes are allowed again" in printed
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before, "pushes are acknowledged again", timeout=60)
        assert whole(deployed, f"test/app@{replaced}"), "it has no tag, and stays unless that is asked for"
        untagged = gc(deployed, "--untagged")
        assert "manifests have no tag" in untagged
        before = len(acknowledged)
        wait_until(lambda: len(acknowledged) > before, "pushes are acknowledged again", timeout=60)
    assert pulls == []
    assert all("UNAVAILABLE" in each or "UNKNOWN" in each for each in pushes), pushes
    for reference in ("test/multi:1", "test/app:1", "test/app:2", "test/other:1", f"test/other@{moved}", *acknowledged):
        assert whole(deployed, reference), reference
    with pytest.raises(CommandError, match="MANIFEST_UNKNOWN"):
        digest(f"test/app@{replaced}")
    wait_diagnosis(deployed.cluster, deployed.stack)


def test_pushes_come_back_when_the_command_is_killed(deployed: Deployed, tmp_path: Path) -> None:
    assert append(deployed, "test/killed:1", layer(tmp_path, 10**6)).returncode == 0
    environment = {**os.environ, **deployed.cluster.environment}
    command = network.client(*GC, deployed.stack.name)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("Pushes are stopped")
        process.kill()
    killed = time.monotonic()
    refused = append(deployed, "test/killed:2", layer(tmp_path, 10**6))
    assert messages.SPACE_IS_FREED in refused.stderr

    def pushes() -> bool:
        return append(deployed, "test/killed:2", layer(tmp_path, 10**6)).returncode == 0

    wait_until(pushes, "pushes are allowed again", timeout=120, interval=1)
    assert time.monotonic() - killed < 100
    assert whole(deployed, "test/killed:1")
    assert whole(deployed, "test/killed:2")


def kill_registry(deployed: Deployed) -> None:
    """Kill the registry's process."""
    [pod] = registry_pods(deployed)
    uid = pod["metadata"]["uid"]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, group = (folder / "cmdline").read_bytes(), (folder / "cgroup").read_text().replace("_", "-")
        except OSError:
            continue
        if command.startswith(b"registry\0serve\0") and uid in group:
            os.kill(int(folder.name), signal.SIGKILL)
            return
    pytest.fail("the registry's process was not found")


def delete_pod(deployed: Deployed) -> None:
    """Delete the registry's pod without giving it time."""
    [pod] = registry_pods(deployed)
    name = pod["metadata"]["name"]
    deployed.cluster.kubectl("delete", "pod", name, "-n", deployed.namespace, "--grace-period=0", "--force")


def registry_pods(deployed: Deployed) -> list[dict[str, Any]]:
    """The registry's pods that are not about to go."""
    found = deployed.cluster.get("pods", "-n", deployed.namespace, "-l", "app.kubernetes.io/name=registry")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


@pytest.mark.parametrize("kill", [kill_registry, delete_pod])
def test_what_was_acknowledged_is_there_after_the_pod_was_killed_during_twenty_pushes(
    kill: Callable[[Deployed], None], deployed: Deployed, tmp_path: Path
) -> None:
    layers = [layer(tmp_path, 4 * 10**6) for _ in range(PUSHES)]
    tags = [f"test/{kill.__name__}-{number % 3}:{number}" for number in range(PUSHES)]
    with ThreadPoolExecutor(PUSHES) as pool:
        pushes = [pool.submit(append, deployed, tag, file) for tag, file in zip(tags, layers, strict=True)]
        wait_until(lambda: any(push.done() for push in pushes), "one is acknowledged, and others are not", timeout=60)
        kill(deployed)
        done = [push.result() for push in pushes]
    wait_until(lambda: any(map(is_ready, registry_pods(deployed))), "the registry is back", timeout=120)
    acknowledged = [number for number, each in enumerate(done) if each.returncode == 0]
    assert acknowledged
    for number, (tag, file) in enumerate(zip(tags, layers, strict=True)):
        if number in acknowledged:
            digest = done[number].stdout.strip().rpartition("@")[2]
            assert deployed.crane("digest", f"{deployed.host}/{tag}").strip() == digest
        else:
            assert append(deployed, tag, file).returncode == 0, "the same push works when it is repeated"
        assert whole(deployed, tag)
