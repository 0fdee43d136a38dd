"""Stand-ins for what the program asks the cluster, and objects as the Kubernetes API describes them."""

import base64
import json
import ssl
from dataclasses import dataclass, field
from typing import Any

from registry.certificate.cert_manager import authority_tag, name_constraints
from registry.cluster import Object
from registry.hostname import stack_namespace
from registry.stack.recorded import SEED_NAME, instance_id

ADDRESS = "10.99.0.200"
"""The address that everything in the quiet cluster publishes."""
NODE_ADDRESS = "10.99.0.11"
INSTANCE = instance_id(f"public key of {SEED_NAME}")
"""The id of the instance of the stack."""
NAMESPACE = stack_namespace("pr-42", INSTANCE)
"""Name of the namespace that the program makes."""


def issued_secret(ca: str, host: str = "", issuer: str = "") -> Object:
    """A Secret that cert-manager has written, with texts in place of certificates; by default the program's own."""
    host = host or f"{NAMESPACE}.{ADDRESS.replace('.', '-')}.nip.io"
    issuer = issuer or f"certificate-ca-{authority_tag(1, name_constraints(host, 'nip.io'))}"
    text = base64.b64encode(ssl.DER_cert_to_PEM_cert(ca.encode()).encode()).decode()
    return {
        "metadata": {"annotations": {"cert-manager.io/alt-names": host, "cert-manager.io/issuer-name": issuer}},
        "data": {"tls.crt": text, "ca.crt": text},
    }


@dataclass
class QuietCluster:
    """A cluster that has one of everything, refuses nothing, and is ready at once."""

    objects: dict[str, Object] = field(default_factory=dict)
    """What the API answers, by the path that is asked for."""

    published: tuple[dict[str, str], ...] = ({"ip": ADDRESS},)
    """The addresses of each Service and Ingress."""

    gateway_classes: tuple[Object, ...] = ({"metadata": {"name": "the-only-one"}},)

    nodes: list[Object] | None = field(
        default_factory=lambda: [
            {
                "metadata": {"name": "node-a"},
                "spec": {},
                "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
            }
        ]
    )

    deleted: list[str] = field(default_factory=list)
    """The paths of what the program has deleted."""

    issued: Object = field(default_factory=lambda: issued_secret("issued-ca"))
    """The answer for every Secret."""

    server = "https://192.0.2.1:6443"
    context = "quiet"
    uid = "01234567-89ab-cdef-0123-456789abcdef"

    def version(self) -> tuple[int, int]:
        return 1, 36

    def find(self, path: str) -> Object | None:
        kind = path.split("/")[-2]
        if path in self.deleted:
            return None
        if kind == "gateways":
            return self.read("", kind, "", "")
        balanced = kind in ("services", "ingresses")
        return self.objects.get(path, {"status": {"loadBalancer": {"ingress": self.published}}} if balanced else None)

    def delete(self, path: str) -> None:
        self.deleted.append(path)

    def ingress_classes(self) -> list[Object] | None:
        return None

    def storage_classes(self) -> list[Object] | None:
        return None

    def services(self) -> list[Object]:
        return []

    def pending_load_balancers(self) -> list[str]:
        return []

    def refusal(self, *_: object) -> str:
        return ""

    openshift: bool = False
    """Whether it is one of OpenShift, which has what every other cluster has besides."""
    refused: tuple[str, ...] = ()
    """Names of ClusterRoles that the user may not bind."""

    def serves(self, group_version: str, _kind: str) -> bool:
        return self.openshift or not group_version.startswith("security.openshift.io/")

    def may(self, _verb: str, _group: str, _resource: str, name: str) -> bool:
        return name not in self.refused

    def ask(self, path: str, **_: str) -> str:
        """Every node has an agent's pod that is ready."""
        if path.endswith("/daemonsets/trust"):
            return json.dumps({"metadata": {"name": "trust"}, "spec": {}})
        if "/deployments/" in path:
            status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
            return json.dumps({"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": status})
        if "/secrets/" in path:
            return json.dumps(self.issued)
        if "/ingresses/" in path:
            return json.dumps(self.find(path))
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        named = [entry["metadata"]["name"] for entry in self.nodes or ()]
        if path.endswith("/nodes"):
            return json.dumps({"items": [{"metadata": {"name": name}, "status": ready} for name in named]})
        if not path.endswith("/pods"):
            return json.dumps({"items": []})
        running = [{"name": "agent", "state": {"running": {}}, "started": True}]
        return json.dumps(
            {
                "items": [
                    {
                        "metadata": {"name": f"trust-{name}", "labels": {"app.kubernetes.io/name": "trust"}},
                        "spec": {"nodeName": name},
                        "status": {**ready, "initContainerStatuses": running},
                    }
                    for name in named
                ]
            }
        )

    def read(self, _group_version: str, plural: str, _namespace: str, _name: str) -> Object:
        return {"status": {"addresses": [{"type": "IPAddress", "value": ADDRESS}]}} if plural == "gateways" else {}


def named(name: str, *, default: str = "") -> Object:
    """A class of Ingresses, Gateways or volumes; `default` is the annotation that makes it the default one."""
    return {"metadata": {"name": name, "annotations": {default: "true"} if default else {}}}


def node(name: str, address: str, *, ready: bool = True, created: str = "2026-01-01", **spec: Any) -> Object:
    """A node; an empty address stands for none."""
    return {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            "addresses": [
                {"type": "Hostname", "address": name},
                {"type": "ExternalIP", "address": "198.51.100.1"},
                *([{"type": "InternalIP", "address": address}] if address else []),
            ],
        },
    }
