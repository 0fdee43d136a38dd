"""Builders in the cluster: pods that push to the registry."""

import base64
import json

from .commands import wait_until
from .stacks import Deployed

PUSH_FROM_A_POD = """
import hashlib, json, pathlib, ssl, urllib.request
ca = pathlib.Path("/private-registry")
registry = "https://" + (ca / "host").read_text() + "/v2/test/from-a-pod"
context = ssl.create_default_context(cafile=ca / "ca.crt")

(login,) = json.loads(pathlib.Path("/login/config.json").read_text())["auths"].values()

def send(method, url, data=b"", kind="application/octet-stream"):
    headers = {"Content-Type": kind, "Authorization": "Basic " + login["auth"]}
    request = urllib.request.Request(url, data, headers, method=method)
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


def build_in_a_pod(deployed: Deployed, namespace: str, config_map: str, image: str, *command: str) -> str:
    """Run a program to its end in a pod with the ConfigMap and the login mounted; its output.

    The pod has no right that a plain pod lacks.
    """
    cluster = deployed.cluster
    user = f"{deployed.outputs['username']}:{deployed.outputs['password']}"
    auths = {deployed.host: {"auth": base64.b64encode(user.encode()).decode()}}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "registry-push", "namespace": namespace},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": json.dumps({"auths": auths})},
        }
    )
    login = {
        "secretName": "registry-push",
        "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
        "defaultMode": 0o444,
    }
    container = {
        "name": "builder",
        "image": image,
        "command": command,
        "workingDir": "/work",
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "registry", "mountPath": "/private-registry", "readOnly": True},
            {"name": "login", "mountPath": "/login", "readOnly": True},
            {"name": "work", "mountPath": "/work"},
        ],
        "env": [{"name": "DOCKER_CONFIG", "value": "/login"}],
    }
    volumes = [
        {"name": "registry", "configMap": {"name": config_map}},
        {"name": "login", "secret": login},
        {"name": "work", "emptyDir": {}},
    ]
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
