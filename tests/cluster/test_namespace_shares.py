"""What a stack gives to other namespaces (pull Secret, CA, advertisement), and that `destroy` takes all of it back."""

import base64
import json
import re
from typing import Any

import pytest
import yaml

from .support.cluster import Cluster
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.provider]


def account(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The default ServiceAccount without what the API server writes into every object."""
    found = cluster.get("serviceaccount", "-n", namespace, "default")
    for key in ("managedFields", "resourceVersion"):
        found["metadata"].pop(key, None)
    return found


SHARED = ("secret", "configmap", "role", "rolebinding")
IN_MEMORY = {"storage": "memory", "storageSize": "1Gi"}


def test_what_other_namespaces_get_is_right_and_destroy_takes_it_back(cluster: Cluster, namespace: str) -> None:
    before = account(cluster, namespace)
    settings = {
        "pullNamespaces[0]": namespace,
        "attachPullSecret": "true",
        "caNamespaces[0]": namespace,
        "advertise": "true",
        "storage": "memory",
        "storageSize": "1Gi",
    }
    with Stack(environment=cluster.environment, settings=settings) as stack:
        stack.up()
        outputs = stack.outputs()
        name, host = outputs["sharedName"], outputs["registryUrl"]
        assert account(cluster, namespace)["imagePullSecrets"] == [{"name": name}]
        data = cluster.get("secret", "-n", namespace, name)["data"]
        auths = json.loads(base64.b64decode(data[".dockerconfigjson"]))["auths"]
        assert list(auths) == [host]
        username, _, password = base64.b64decode(auths[host]["auth"]).decode().partition(":")
        assert username == "registry-pull"
        assert password != outputs["password"]
        assert cluster.get("configmap", "-n", namespace, name)["data"] == {
            "host": host,
            "address": outputs["address"],
            "ca.crt": outputs["caCertificate"],
        }
        told = cluster.get("configmap", "-n", "kube-public", "local-registry-hosting")["data"]
        assert yaml.safe_load(told["localRegistryHosting.v1"]) == {
            "host": host,
            "hostFromContainerRuntime": host,
            "hostFromClusterNetwork": host,
        }
        stack.pulumi("preview", "--expect-no-changes")
        stack.destroy()
    assert account(cluster, namespace) == before
    for kind in SHARED:
        assert cluster.run("kubectl", "get", kind, "-n", namespace, name, check=False).returncode != 0
    hosting = cluster.kubectl("get", "configmap", "-n", "kube-public", "local-registry-hosting", "--ignore-not-found")
    assert not hosting


def refused(cluster: Cluster, settings: dict[str, str]) -> str:
    """What an `up` says that fails; destroyed afterwards."""
    with Stack(environment=cluster.environment, settings={"storage": "memory", **settings}) as stack:
        failed = stack.up(check=False)
        assert failed.returncode != 0
        return re.sub(r"\s+", " ", failed.stdout + failed.stderr)


@pytest.mark.slow
def test_an_account_that_names_somebody_elses_secret_names_both_and_keeps_theirs(
    cluster: Cluster, namespace: str
) -> None:
    theirs = {"imagePullSecrets": [{"name": "theirs"}]}
    cluster.kubectl("patch", "serviceaccount", "default", "-n", namespace, "-p", json.dumps(theirs))
    other = f"{namespace}-b"
    cluster.kubectl("create", "namespace", other)
    before = account(cluster, namespace), account(cluster, other)
    settings = {"pullNamespaces[0]": namespace, "pullNamespaces[1]": other, "attachPullSecret": "true", **IN_MEMORY}
    try:
        with Stack(environment=cluster.environment, settings=settings) as stack:
            stack.up()
            ours = {"name": stack.outputs()["sharedName"]}
            assert account(cluster, namespace)["imagePullSecrets"] == [{"name": "theirs"}, ours]
            assert account(cluster, other)["imagePullSecrets"] == [ours]
            # A namespace that is taken out of the setting is left as it was, and the other one keeps its entry.
            stack.pulumi("config", "rm", "--path", "pullNamespaces[1]")
            stack.up()
            assert account(cluster, other) == before[1]
            assert account(cluster, namespace)["imagePullSecrets"] == [{"name": "theirs"}, ours]
            stack.destroy()
        assert (account(cluster, namespace), account(cluster, other)) == before
    finally:
        cluster.kubectl("delete", "namespace", other)


def test_another_registry_that_is_advertised_is_left_alone(cluster: Cluster) -> None:
    name, place = "local-registry-hosting", "kube-public"
    data = {"localRegistryHosting.v1": "host: localhost:5000\n"}
    metadata = {"name": name, "namespace": place}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "metadata": metadata})
    try:
        assert "pulumi config set advertise false" in refused(cluster, {"advertise": "true"})
        assert cluster.get("configmap", "-n", place, name)["data"] == data
    finally:
        cluster.kubectl("delete", "configmap", "-n", place, name)
