"""The issuer `cert-manager`: the cluster's cert-manager makes and renews the CA and the server certificate.

With the setting `issuer` there is no CA of the stack's own: a ClusterIssuer that is there signs the certificate.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
from kubernetes.client.exceptions import ApiException

from ..cluster import Cluster, Object, api_message, object_names
from ..hostname import split_port
from ..pod.trouble import condition_of
from ..settings import SettingError, Settings
from ..waiting import after, awaited
from .authority import Succession
from .contract import CA_COMMON_NAME, CA_VALIDITY, LABELS, RENEWAL

API = "cert-manager.io/v1"
"""The version of cert-manager's API that is used: its only stable one, since 2020."""
SERVER_VALIDITY = RENEWAL - 1
"""Hours for which a server certificate is valid that the stack's own CA signs. cert-manager renews the CA when it is
valid for `RENEWAL` hours more, so every server certificate ends before the CA that has signed it."""
_CLUSTER_ISSUERS = f"/apis/{API}/clusterissuers"
_SECRET_SECONDS = 30.0
"""How long to wait for the content of a Secret whose certificate is ready."""


def issuer_error(*, has_cert_manager: bool) -> pulumi.RunError | None:
    """The error of a cluster without cert-manager."""
    if has_cert_manager:
        return None
    rule = f"the cluster has no cert-manager (it does not serve {API}): install it, or let this program make the CA"
    return SettingError("certificateIssuer", "cert-manager", rule, "tls")


def cluster_issuer_error(issuer: str, found: Object | None, others: Sequence[str]) -> pulumi.RunError | None:
    """The error of a ClusterIssuer that cannot sign the registry's certificate.

    Args:
        issuer: The setting `issuer`.
        found: The ClusterIssuer; None if there is none of that name.
        others: The names of all ClusterIssuers that can be seen.
    """
    example = next((name for name in others if name != issuer), "letsencrypt")
    if found is None:
        there = f"the cluster has {', '.join(others)}" if others else "the cluster has none"
        return SettingError("issuer", issuer, f"there is no ClusterIssuer of that name: {there}", example, more=_OWN_CA)
    if "selfSigned" in found.get("spec", {}):
        rule = (
            "that ClusterIssuer has each certificate sign itself, so nodes and clients would have to trust another one "
            "after each renewal"
        )
        return SettingError("issuer", issuer, rule, example, more=_OWN_CA)
    ready = condition_of(found, "Ready")
    if ready.get("status") != "True":
        why = str(ready.get("message") or "cert-manager has not looked at it yet").rstrip(".")
        return SettingError("issuer", issuer, f"that ClusterIssuer is not ready ({why})", example, more=_OWN_CA)
    return None


_OWN_CA = "for a CA of the stack's own: pulumi config rm issuer"


def not_issued(timeout: str, issuer: str = "") -> str:
    """The error of a cert-manager that issues nothing within the time: the reason, and what to do.

    Args:
        timeout: The time.
        issuer: The setting `issuer`.
    """
    signer = (
        f"or the ClusterIssuer {issuer} does not sign certificates for this host (kubectl describe certificaterequests "
        "-A)"
        if issuer
        else "or a policy keeps it from approving (kubectl describe certificaterequests -A)"
    )
    return (
        f"cert-manager issued nothing within {timeout} (the setting readyTimeout): its controller may not run (kubectl "
        f"get pods -A -l app.kubernetes.io/name=cert-manager), {signer}. Set certificateIssuer to tls to do without it "
        "(pulumi config set certificateIssuer tls)."
    )


def name_constraints(host: str, dns_suffix: str) -> dict[str, Any]:
    """What the CA may sign (RFC 5280, 4.2.1.10): certificates for one domain, and for no IP address.

    The domain is that of made hosts, whose first parts change with namespace and address; another host is its own.

    Args:
        host: The registry's host; a port in it does not count.
        dns_suffix: The setting `dnsSuffix`.
    """
    name = split_port(host)[0]
    return {
        "critical": True,
        "permitted": {"dnsDomains": [dns_suffix if name.endswith(f".{dns_suffix}") else name]},
        "excluded": {"ipRanges": ["0.0.0.0/0", "::/0"]},
    }


def authority_tag(version: int, constraints: Mapping[str, Any] | None) -> str:
    """What tells a CA of a stack from its others; another number or other constraints need another one."""
    return hashlib.sha256(json.dumps([version, constraints], sort_keys=True).encode()).hexdigest()[:8]


def not_yet(secret: Object, host: str, issuer: str) -> str:
    """Why the certificate in a Secret is not the one that is waited for; empty if it is.

    Args:
        secret: The Secret.
        host: The name that it has to be for; empty: any.
        issuer: The issuer that it has to be by; empty: any.
    """
    annotations: Mapping[str, str] = secret.get("metadata", {}).get("annotations") or {}
    by, names = annotations.get("cert-manager.io/issuer-name"), annotations.get("cert-manager.io/alt-names", "")
    data: Mapping[str, str] = secret.get("data") or {}
    if not data.get("tls.crt"):
        return "it holds no certificate yet"
    if issuer and by != issuer:
        return f"it still holds one by the issuer {by}, and not by {issuer}"
    if host and host not in names.split(","):
        return f"it still holds one for {names}, and not for {host}"
    return ""


@dataclass(frozen=True, kw_only=True)
class CertManagerCertificateArgs:
    """What a `CertManagerCertificate` needs."""

    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    cluster: Cluster
    """The cluster, which is asked what cert-manager has made."""
    host: pulumi.Input[str]
    """Host that the server certificate is for; a port in it does not count."""
    dns_suffix: str
    """Domain in which hosts are made."""
    issuer: str
    """ClusterIssuer that signs the server certificate; empty for a CA of the stack's own."""
    ca_version: int
    """Number of the CA's key; another number is another key."""
    succession: Succession
    """What was trusted so far, and how nodes come to trust another CA."""
    timeout: str
    """How long to wait for each certificate, such as `2m`."""


class CertManagerCertificate(pulumi.ComponentResource):
    """A server certificate for one host, kept by cert-manager in the stack's namespace, and a CA to sign it.

    With a ClusterIssuer there is no CA of the stack's own.
    Ready when: 1. the CA exists, and the nodes trust it if it is another one than before; 2. cert-manager has issued
    the server certificate. It renews both without this program. The CA keeps its key when it is renewed, so each server
    certificate can be verified with the old CA certificate and with the new one. The CA may sign for the host's domain
    only, if cert-manager's feature gate NameConstraints is on, as it is by default from 1.17 on. Delete leaves issuers,
    certificates and their Secrets to the end of the namespace.
    Does not: install cert-manager, or hand the CA's Secret to anyone.
    """

    ca_certificate: pulumi.Output[str]
    """The certificates of the CA, and of those before it that may still be in use, PEM; empty if the certificate is
    publicly trusted."""
    secret: pulumi.Output[str]
    """Name of the Secret of type kubernetes.io/tls with `tls.crt`, `tls.key` and `ca.crt`."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
        """The cluster has no cert-manager, or no ClusterIssuer that can be used."""
        error = issuer_error(has_cert_manager=cluster.serves(API, "Certificate"))
        if not error and settings.issuer:
            try:
                found, listed = cluster.find(f"{_CLUSTER_ISSUERS}/{settings.issuer}"), cluster.find(_CLUSTER_ISSUERS)
                error = cluster_issuer_error(settings.issuer, found, object_names((listed or {}).get("items", [])))
            except ApiException as refused:
                pulumi.log.warn(f"Not checked before the start: the cluster answers {api_message(refused)}")
        return [error] if error else []

    def __init__(self, name: str, args: CertManagerCertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make issuers and certificates. `name` is the prefix of their names in the namespace."""
        super().__init__("private-registry:registry:CertManagerCertificate", name, None, opts)
        self._args = args
        sentence = not_issued(args.timeout, args.issuer)
        self._ready = awaited(f"{name}-not-issued", self, args.timeout, lambda _: sentence)
        if args.issuer:
            # Each ClusterIssuer has a Secret of its own, so that nodes know its CA before the certificate is served.
            secret = f"{name}-{hashlib.sha256(args.issuer.encode()).hexdigest()[:8]}"
            server = self._server(f"{name}-server", secret, {"kind": "ClusterIssuer", "name": args.issuer})
            found = self._stored(server, secret, args.host, args.issuer)
            present = found["ca.crt"]
            self.ca_certificate = args.succession.trusted(args.namespace, present)
            self.secret = after(secret, self.ca_certificate)
        else:
            secret = f"{name}-issued"
            authority, issuer = self._authority(name)
            found = self._stored(issuer, authority)
            present = found["tls.crt"]
            self.ca_certificate = args.succession.trusted(args.namespace, present)
            signer = after(authority, self.ca_certificate)
            times = {"duration": f"{SERVER_VALIDITY}h"}
            server = self._server(f"{name}-server", secret, {"kind": "Issuer", "name": signer}, times)
            self.secret = after(secret, self._stored(server, secret, args.host, signer))
        before = args.succession.before_renewal(present)
        self.register_outputs({"caCertificate": self.ca_certificate, "beforeRenewal": before, "secret": self.secret})

    def _authority(self, name: str) -> tuple[pulumi.Output[str], k8s.apiextensions.CustomResource]:
        """Make the stack's own CA: the name of its Secret and of its Issuer, and the Issuer.

        Another number or another domain makes another one, with another name. So the one before serves on until the
        nodes trust both.
        """
        args = self._args
        self_signed = self._make("Issuer", f"{name}-self-signed", f"{name}-self-signed", {"selfSigned": {}})
        constraints = pulumi.Output.all(args.namespace, args.host).apply(self._constraints)
        tag = constraints.apply(lambda known: authority_tag(args.ca_version, known))
        authority = pulumi.Output.concat(f"{name}-ca-", tag)
        spec = constraints.apply(lambda known: {"nameConstraints": known} if known else {})
        ca = self._make(
            "Certificate",
            f"{name}-ca",
            authority,
            pulumi.Output.all(spec, authority, args.namespace, tag).apply(
                lambda known: {
                    **known[0],
                    "isCA": True,
                    "commonName": f"{CA_COMMON_NAME} of cert-manager {known[3]}",
                    "subject": {"organizationalUnits": [known[2]]},
                    "secretName": known[1],
                    "duration": f"{CA_VALIDITY}h",
                    "renewBefore": f"{RENEWAL}h",
                    "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
                    "issuerRef": {"kind": "Issuer", "name": f"{name}-self-signed"},
                }
            ),
            needs=[self_signed],
        )
        issuer = self._make("Issuer", f"{name}-ca", authority, {"ca": {"secretName": authority}}, needs=[ca])
        return authority, issuer

    def _constraints(self, known: Sequence[str]) -> dict[str, Any] | None:
        """The name constraints for a host, in a namespace; None where cert-manager does not take any."""
        namespace, host = known
        constraints = name_constraints(host, self._args.dns_suffix)
        asked = {
            "apiVersion": API,
            "kind": "Certificate",
            "metadata": {"generateName": "sample-"},
            "spec": {
                "isCA": True,
                "commonName": CA_COMMON_NAME,
                "secretName": "sample",
                "nameConstraints": constraints,
                "issuerRef": {"name": "sample"},
            },
        }
        refusal = self._args.cluster.refusal("certificates", asked, namespace)
        return None if "nameConstraints" in refusal else constraints

    def _server(
        self,
        name: str,
        secret: str,
        issuer: Mapping[str, pulumi.Input[str]],
        times: Mapping[str, str] | None = None,
    ) -> k8s.apiextensions.CustomResource:
        """Make the server certificate, for as long as the issuer likes if no times are given.

        It has the Secret's name, so that another Secret is another object, which is not ready before it was issued.
        """
        spec = {
            **(times or {}),
            "dnsNames": [pulumi.Output.from_input(self._args.host).apply(lambda host: split_port(host)[0])],
            "secretName": secret,
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "usages": ["digital signature", "server auth"],
            "issuerRef": dict(issuer),
        }
        return self._make("Certificate", name, secret, spec)

    def _stored(
        self,
        ready: k8s.apiextensions.CustomResource,
        secret: pulumi.Input[str],
        host: pulumi.Input[str] = "",
        issuer: pulumi.Input[str] = "",
    ) -> pulumi.Output[Mapping[str, str]]:
        """The certificates in a Secret that cert-manager has written: `tls.crt`, and `ca.crt`, which may be empty.

        `ready` being ready is not enough if it was changed: it is still so for a moment because of the certificate from
        before. So the certificate is waited for that is for `host` and by `issuer`, if these are given. The Secret is
        not read as a resource of Pulumi, whose state would then hold the private key that is in it.
        """

        async def read(known: Sequence[str]) -> dict[str, str]:
            namespace, name, wanted_host, wanted_issuer, _ = known
            path, deadline = f"/api/v1/namespaces/{namespace}/secrets/{name}", time.monotonic() + _SECRET_SECONDS
            while True:
                found, problem = Object(), ""
                try:
                    found: Object = json.loads(await asyncio.to_thread(self._args.cluster.ask, path))
                    problem = not_yet(found, split_port(wanted_host)[0], wanted_issuer)
                except (PermissionError, LookupError, ConnectionError) as error:
                    problem = str(error)
                if not problem or pulumi.runtime.is_dry_run():
                    data: Mapping[str, str] = found.get("data") or {}
                    return {key: base64.b64decode(data.get(key) or "").decode() for key in ("tls.crt", "ca.crt")}
                if time.monotonic() > deadline:
                    msg = (
                        f"cert-manager's certificate cannot be read from the Secret {name} in the namespace "
                        f"{namespace}: {problem}. Its reasons: kubectl describe certificates -n {namespace}"
                    )
                    raise pulumi.RunError(msg)
                await asyncio.sleep(1)

        return pulumi.Output.all(self._args.namespace, secret, host, issuer, ready.id).apply(read)

    def _make(
        self,
        kind: str,
        name: str,
        object_name: pulumi.Input[str],
        spec: pulumi.Input[dict[str, Any]],
        needs: Sequence[pulumi.Resource] = (),
    ) -> k8s.apiextensions.CustomResource:
        """An object of cert-manager that is ready once its condition Ready is true."""
        return k8s.apiextensions.CustomResource(
            f"{name}-{kind.lower()}",
            api_version=API,
            kind=kind,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=object_name,
                namespace=self._args.namespace,
                labels=LABELS,
                annotations={"pulumi.com/waitFor": "condition=Ready"},
            ),
            spec=spec,
            opts=pulumi.ResourceOptions.merge(self._ready, pulumi.ResourceOptions(depends_on=list(needs))),
        )
