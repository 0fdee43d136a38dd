"""Manifests agree with the network, with the images that nodes hold, and with each other."""

from typing import Any

import yaml

from local_cluster import addons, images, network, nodes


def manifests(pattern: str = "*.yaml") -> list[dict[str, Any]]:
    paths = sorted(addons.MANIFESTS.glob(pattern))
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def containers() -> list[dict[str, Any]]:
    pods = [found["spec"]["template"]["spec"] for found in manifests() if found["kind"] in ("Deployment", "DaemonSet")]
    helpers = [
        found["data"]["helperPod.yaml"] for found in manifests("local-path.yaml") if found["kind"] == "ConfigMap"
    ]
    pods += [yaml.safe_load(helper)["spec"] for helper in helpers]
    return [container for pod in pods for container in pod["containers"]]


def test_files_for_nodes_and_manifests_name_the_addresses_of_the_network() -> None:
    kubelet = yaml.safe_load((nodes.FILES / "common/etc/kubernetes/kubelet.yaml").read_text())
    assert kubelet["clusterDNS"] == [network.CONTROL_PLANE]
    assert manifests("metallb-pool.yaml")[0]["spec"]["addresses"] == [network.LOAD_BALANCERS]


def test_addons_use_only_images_that_the_nodes_hold() -> None:
    preloaded = {name for image in images.TABLE.values() for name in image.names}
    assert {container["image"] for container in containers()} <= preloaded
    assert {container["imagePullPolicy"] for container in containers()} == {"IfNotPresent"}


def test_there_is_one_default_ingress_class_and_one_default_storage_class() -> None:
    defaults = [
        found["kind"]
        for found in manifests()
        if any("is-default-class" in name for name in found["metadata"].get("annotations", {}))
    ]
    assert sorted(defaults) == ["IngressClass", "StorageClass"]
