"""Builders in the cluster: pods that push to the registry."""

from .cluster import Cluster
from .commands import wait_until

PUSH_FROM_A_POD = """
import hashlib, json, pathlib, ssl, urllib.request
ca = pathlib.Path("/private-registry")
registry = "https://" + (ca / "host").read_text() + "/v2/test/from-a-pod"
context = ssl.create_default_context(cafile=ca / "ca.crt")

def send(method, url, data=b"", kind="application/octet-stream"):
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.urlopen(request, context=context, timeout=20).headers

blob = b"built in the cluster"
digest = "sha256:" + hashlib.sha256(blob).hexdigest()
upload = send("POST", registry + "/blobs/uploads/")["Location"]
send("PUT", urllib.parse.urljoin(registry, upload) + "&digest=" + digest, blob)
kind = "application/vnd.oci.image.manifest.v1+json"
config = {"mediaType": "text/plain", "size": len(blob), "digest": digest}
manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
send("PUT", registry + "/manifests/1", json.dumps(manifest).encode(), kind)
"""


def build_in_a_pod(cluster: Cluster, namespace: str, config_map: str, image: str, *command: str) -> str:
    """Run a program to its end in a pod with the ConfigMap mounted and no right that a plain pod lacks; its output."""
    container = {
        "name": "builder",
        "image": image,
        "command": command,
        "workingDir": "/work",
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "registry", "mountPath": "/private-registry", "readOnly": True},
            {"name": "work", "mountPath": "/work"},
        ],
    }
    volumes = [{"name": "registry", "configMap": {"name": config_map}}, {"name": "work", "emptyDir": {}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    metadata = {"name": "builder", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase() -> str:
        return cluster.get("pod", "-n", namespace, "builder")["status"].get("phase", "")

    wait_until(lambda: phase() in ("Succeeded", "Failed"), "the builder has ended", timeout=60)
    said = cluster.kubectl("logs", "-n", namespace, "builder")
    assert phase() == "Succeeded", said
    return said


BUILD_WITH_CRANE = """
host=$(cat /private-registry/host)
echo 'built in the cluster' >built
tar -cf layer.tar built
build="crane append --base $host/test/builder:1 --new_layer layer.tar --new_tag $host/test/built:1"
if $build 2>refused; then echo 'not refused without the CA'; exit 1; fi
grep 'x509: certificate signed by unknown authority' refused
SSL_CERT_FILE=/private-registry/ca.crt $build
"""
