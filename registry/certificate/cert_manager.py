"""The issuer `cert-manager`: the cluster's cert-manager makes and renews the CA and the server certificate."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from ..cluster import Cluster
from ..hostname import split_port
from ..settings import SettingError, Settings
from ..waiting import awaited
from .contract import CA_COMMON_NAME, CA_VALIDITY, LABELS, SERVER_VALIDITY

API = "cert-manager.io/v1"
"""The version of cert-manager's API that is used: its only stable one, since 2020."""


def issuer_error(*, has_cert_manager: bool) -> pulumi.RunError | None:
    """The error of a cluster without cert-manager."""
    if has_cert_manager:
        return None
    rule = f"the cluster has no cert-manager (it does not serve {API}): install it, or let this program make the CA"
    return SettingError("certificateIssuer", "cert-manager", rule, "tls")


def not_issued(timeout: str) -> str:
    """The error of a cert-manager that issues nothing within the time: the reason, and what to do."""
    return (
        f"cert-manager issued nothing within {timeout} (the setting readyTimeout): its controller may not run (kubectl "
        "get pods -A -l app.kubernetes.io/name=cert-manager), or a policy keeps it from approving (kubectl describe "
        "certificaterequests -A). Set certificateIssuer to tls to do without it (pulumi config set certificateIssuer "
        "tls)."
    )


@dataclass(frozen=True, kw_only=True)
class CertManagerCertificateArgs:
    """What a `CertManagerCertificate` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    host: pulumi.Input[str]
    """Host that the server certificate is for; a port in it does not count."""
    timeout: str
    """How long to wait for each certificate, such as `2m`."""


class CertManagerCertificate(pulumi.ComponentResource):
    """A private CA and a server certificate for one host, kept by cert-manager in the stack's namespace.

    Ready when: 1. cert-manager has issued both. It renews them without this program. The CA keeps its key when it is
    renewed, so each server certificate can be verified with the old CA certificate and with the new one, and nodes that
    have the old one need nothing. Delete removes issuers and certificates; their Secrets go with the namespace.
    Does not: install cert-manager, or hand the CA's Secret to anyone.
    """

    ca_certificate: pulumi.Output[str]
    """The CA's certificate, PEM. Public."""
    secret: pulumi.Output[str]
    """Name of the Secret of type kubernetes.io/tls with `tls.crt`, `tls.key` and `ca.crt`."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
        """The cluster has no cert-manager."""
        error = issuer_error(has_cert_manager=cluster.serves(API, "Certificate"))
        return [error] if error else []

    def __init__(self, name: str, args: CertManagerCertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make issuers and certificates. `name` is the prefix of their names in the namespace."""
        super().__init__("private-registry:registry:CertManagerCertificate", name, None, opts)
        self._args = args
        self._ready = awaited(f"{name}-not-issued", self, args.timeout, lambda _: not_issued(args.timeout))

        self_signed = self._make("Issuer", f"{name}-self-signed", {"selfSigned": {}})
        ca = self._make(
            "Certificate",
            f"{name}-ca",
            {
                "isCA": True,
                "commonName": CA_COMMON_NAME,
                "subject": {"organizationalUnits": [args.namespace]},
                "secretName": f"{name}-ca",
                "duration": f"{CA_VALIDITY}h",
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
                "issuerRef": {"kind": "Issuer", "name": f"{name}-self-signed"},
            },
            after=self_signed,
        )
        issuer = self._make("Issuer", f"{name}-ca", {"ca": {"secretName": f"{name}-ca"}}, after=ca)
        server = self._make(
            "Certificate",
            f"{name}-server",
            {
                "dnsNames": [pulumi.Output.from_input(args.host).apply(lambda host: split_port(host)[0])],
                "secretName": f"{name}-tls",
                "duration": f"{SERVER_VALIDITY}h",
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "usages": ["digital signature", "server auth"],
                "issuerRef": {"kind": "Issuer", "name": f"{name}-ca"},
            },
            after=issuer,
        )
        issued = k8s.core.v1.Secret.get(
            f"{name}-issued",
            pulumi.Output.concat(args.namespace, f"/{name}-tls"),
            pulumi.ResourceOptions(parent=self, depends_on=[server]),
        )
        self.ca_certificate = pulumi.Output.unsecret(
            issued.data.apply(lambda data: base64.b64decode(data["ca.crt"]).decode())
        )
        self.secret = issued.metadata.apply(lambda metadata: metadata.name or f"{name}-tls")
        self.register_outputs({"caCertificate": self.ca_certificate, "secret": self.secret})

    def _make(
        self, kind: str, name: str, spec: dict[str, Any], after: pulumi.Resource | None = None
    ) -> k8s.apiextensions.CustomResource:
        """An object of cert-manager that is ready once its condition Ready is true."""
        return k8s.apiextensions.CustomResource(
            f"{name}-{kind.lower()}",
            api_version=API,
            kind=kind,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=self._args.namespace,
                labels=LABELS,
                annotations={"pulumi.com/waitFor": "condition=Ready"},
            ),
            spec=spec,
            opts=pulumi.ResourceOptions.merge(self._ready, pulumi.ResourceOptions(depends_on=[after] if after else [])),
        )
