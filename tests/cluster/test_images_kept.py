"""No change of a stack that is up loses its images, unless the user has said that they do not matter."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from .support.bare_cluster import fails_with
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed, Stack, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

ALLOW = "pulumi config set allowDataLoss true"


@contextmanager
def storage_class(
    cluster: Cluster, *, policy: str = "Delete", provisioner: str = "rancher.io/local-path"
) -> Iterator[str]:
    """Another StorageClass, by default of the cluster's provisioner."""
    name = f"test-{secrets.token_hex(3)}"
    cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": policy,
        }
    )
    try:
        yield name
    finally:
        cluster.kubectl("delete", "storageclass", name)


def volume_of(deployed: Deployed) -> str:
    """The name of the volume behind the registry's claim."""
    return deployed.cluster.get("persistentvolumeclaim", "-n", deployed.namespace, "registry")["spec"]["volumeName"]


def change(deployed: Deployed, **settings: str) -> str:
    """Change settings and run `up`; what it prints."""
    for key, value in settings.items():
        deployed.stack.pulumi("config", "set", key, value)
    done = deployed.stack.up()
    return done.stdout + done.stderr


def has(deployed: Deployed, image: str) -> bool:
    """Whether the registry has an image."""
    return deployed.run_crane(deployed.login, "digest", image, check=False).returncode == 0


def test_what_would_lose_images_is_refused_before_anything_changes(
    cluster: Cluster, tmp_path: Path, app_image: Path
) -> None:
    with storage_class(cluster) as other, deployed_stack(cluster, tmp_path) as deployed:
        image = f"{deployed.host}/test/app:kept"
        deployed.crane("push", app_image, image)
        volume = volume_of(deployed)
        for key, value, back in (
            ("storageClass", other, "local-path"),
            ("storage", "memory", "volume"),
            ("storageSize", "5Gi", "10Gi"),
            ("storageSize", "20Gi", "10Gi"),  # this class lets no volume grow
            ("namespace", f"{deployed.namespace}-b", deployed.namespace),
        ):
            deployed.stack.pulumi("config", "set", key, value)
            told = (f":{key} is '{value}'", f"pulumi config set {key} {back}", ALLOW)
            fails_with(deployed.stack, *told)
            deployed.stack.pulumi("config", "rm", key)
        fails_in_preview = {"storageClass": other, "storage": "memory", "storageSize": "2Gi"}
        for key, value in fails_in_preview.items():
            deployed.stack.pulumi("config", "set", key, value)
        fails_with(deployed.stack, ":storage is 'memory'", ALLOW, command="preview")
        # What the messages say brings the stack back, and is no change.
        for key, value in {"storageClass": "local-path", "storage": "volume", "storageSize": "10Gi"}.items():
            deployed.stack.pulumi("config", "set", key, value)
        deployed.stack.pulumi("config", "set", "namespace", deployed.namespace)
        deployed.stack.pulumi("preview", "--expect-no-changes")
        for key in ("storageClass", "namespace"):
            deployed.stack.pulumi("config", "rm", key)
        deployed.stack.pulumi("preview", "--expect-no-changes")
        assert volume_of(deployed) == volume
        assert has(deployed, image)


def test_what_would_lose_images_is_done_when_it_is_allowed_and_leaves_a_stack_that_works(
    cluster: Cluster, tmp_path: Path, app_image: Path
) -> None:
    with storage_class(cluster) as other, deployed_stack(cluster, tmp_path) as deployed:
        image = f"{deployed.host}/test/app:kept"
        deployed.crane("push", app_image, image)
        ca = deployed.outputs["caCertificate"]
        said = change(deployed, storageClass=other, allowDataLoss="true")
        assert "Every image of this registry is lost" in said, said
        claim = cluster.get("persistentvolumeclaim", "-n", deployed.namespace, "registry")
        assert claim["spec"]["storageClassName"] == other
        assert not has(deployed, image)
        deployed.crane("push", app_image, image)
        change(deployed, storageSize="5Gi")
        claim = cluster.get("persistentvolumeclaim", "-n", deployed.namespace, "registry")
        assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
        deployed.stack.pulumi("preview", "--expect-no-changes")
        deployed.crane("push", app_image, image)
        # The permission alone loses nothing.
        assert "is lost" not in change(deployed)
        assert has(deployed, image)
        change(deployed, storage="memory", storageSize="1Gi")
        deployed.crane("push", app_image, image)
        deployed.stack.pulumi("config", "set", "allowDataLoss", "false")
        deployed.stack.pulumi("config", "set", "storage", "volume")
        fails_with(deployed.stack, ":storage is 'volume'", "in memory", "pulumi config set storage memory", ALLOW)
        assert has(deployed, image)
        change(deployed, allowDataLoss="true")
        assert not has(deployed, image)
        moved = f"{deployed.namespace}-b"
        change(deployed, namespace=moved)
        now = replace(deployed, outputs=deployed.stack.outputs())
        assert now.namespace == moved
        assert now.ca != ca
        now.ca_file.write_text(now.ca)
        now.crane("push", app_image, f"{now.host}/test/app:moved")
        wait_until(
            lambda: cluster.run("kubectl", "get", "namespace", deployed.namespace, check=False).returncode != 0,
            "the old namespace is gone",
            timeout=60,
        )
        deployed.stack.pulumi("preview", "--expect-no-changes")


def test_a_volume_that_was_never_made_is_replaced_without_asking(cluster: Cluster) -> None:
    with storage_class(cluster, provisioner="example.com/nobody") as nobody:
        settings = {"storageClass": nobody, "readyTimeout": "20s"}
        with Stack(environment=cluster.environment, settings=settings) as stack:
            fails_with(stack, "registry")
            stack.pulumi("config", "set", "storageClass", "local-path")
            stack.pulumi("config", "set", "storageSize", "1Gi")
            stack.pulumi("config", "rm", "readyTimeout")
            stack.up()
            claim = cluster.get("persistentvolumeclaim", "-n", stack.outputs()["namespace"], "registry")
            assert claim["spec"]["storageClassName"] == "local-path"
            assert claim["status"]["capacity"]["storage"] == "1Gi"


def test_a_stack_that_is_renamed_keeps_its_namespace_its_ca_and_its_images(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path) as deployed:
        image = f"{deployed.host}/test/app:renamed"
        deployed.crane("push", app_image, image)
        volume, agents = volume_of(deployed), deployed.ready_agents()
        new = f"{deployed.stack.name}-new"
        deployed.stack.pulumi("stack", "rename", new)
        deployed.stack.name = new
        said = deployed.stack.up().stdout
        assert "1 updated" in said, said  # the namespace, whose labels name the stack
        assert deployed.stack.outputs() == deployed.outputs
        assert volume_of(deployed) == volume
        assert deployed.ready_agents() == agents
        deployed.start_pods(namespace, image, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        labels = cluster.get("namespace", deployed.namespace)["metadata"]["labels"]
        assert labels["private-registry/stack"] == new


def test_another_address_of_the_same_api_server_keeps_everything(cluster: Cluster, tmp_path: Path) -> None:
    content = yaml.safe_load(Path(cluster.environment["KUBECONFIG"]).read_text())
    with deployed_stack(cluster, tmp_path, {"kubernetes:kubeconfig": yaml.safe_dump(content)}) as deployed:
        volume = volume_of(deployed)
        server = content["clusters"][0]["cluster"]["server"]
        content["clusters"][0]["cluster"]["server"] = f"{server}/"
        deployed.stack.pulumi("config", "set", "kubernetes:kubeconfig", yaml.safe_dump(content))
        deployed.stack.up()
        assert volume_of(deployed) == volume
        assert deployed.stack.outputs() == deployed.outputs


def test_a_class_that_keeps_disks_is_warned_of_with_the_command_that_removes_them(
    cluster: Cluster, tmp_path: Path
) -> None:
    with storage_class(cluster, policy="Retain") as kept:
        with deployed_stack(cluster, tmp_path, {"storageClass": kept}) as deployed:
            said = deployed.stack.up().stdout
            assert f"The StorageClass {kept} keeps the disk of a volume that is deleted" in said
            volume = volume_of(deployed)
        left = cluster.get("persistentvolume", volume)
        assert left["status"]["phase"] == "Released"
        assert left["spec"]["claimRef"]["name"] == "registry"
        command = ("patch", "persistentvolume", volume, "-p", '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}')
        assert " ".join(["kubectl", *command[:2], "NAME -p"]) in said
        cluster.kubectl(*command)
        wait_until(
            lambda: cluster.run("kubectl", "get", "persistentvolume", volume, check=False).returncode != 0,
            "the disk is gone",
            timeout=60,
        )
