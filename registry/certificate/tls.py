"""The issuer `tls`: this program makes CA and server certificate, and the stack's state keeps the keys."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls

from ..cluster import Cluster
from ..hostname import split_port
from ..settings import Settings
from ..waiting import after
from .authority import Succession
from .contract import CA_COMMON_NAME, CA_VALIDITY, LABELS, RENEWAL, Issued

KEY_OUTPUTS = ["private_key_pem", "private_key_pem_pkcs8", "private_key_openssh"]
"""The outputs of a pulumi-tls key that the state must keep secret."""


_MARGIN = 1
"""Hours for which the CA is valid after the end of the server certificate, and a part of an hour."""


def server_hours(request: str, ca: str, ca_end: str, issued: Issued, now: float) -> int:
    """Hours for which the server certificate has to be valid from its making on, so that it ends just before its CA.

    That depends on when it is made. So for the one that is there it is the number that it was made with, since with
    another one it would be made anew.

    Args:
        request: What the CA signs, PEM.
        ca: The CA's certificate, PEM.
        ca_end: The end of its validity (RFC 3339).
        issued: The server certificate that is there.
        now: The time in seconds since 1970.
    """
    if (request, ca) == (issued.request, issued.ca):
        return issued.hours
    return int((datetime.fromisoformat(ca_end).timestamp() - now) // 3600) - _MARGIN


@dataclass(frozen=True, kw_only=True)
class TlsCertificateArgs:
    """What a `TlsCertificate` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the Secret."""
    host: pulumi.Input[str]
    """Host that the server certificate is for; a port in it does not count."""
    ca_version: int
    """Number of the CA's key; another number is another key."""
    issued: Issued
    """The server certificate in the stack's state."""
    succession: Succession
    """What was trusted so far, and how nodes come to trust another CA."""


def certified(host: str, before: Sequence[str]) -> list[str]:
    """The names that the certificate is for: the host's, and that of the host before it.

    So the host before is served until its way in is taken away, whichever of them sees the certificate first.

    Args:
        host: The host; a port in it does not count.
        before: The names in the certificate after the last `up`.
    """
    name, _ = split_port(host)
    return list(before) if name in before[:1] else [name, *before[:1]]


class TlsCertificate(pulumi.ComponentResource):
    """A private CA and a server certificate for one host.

    Ready when: 1. the CA exists, and the nodes trust it if it is another one than before; 2. a server certificate for
    the host is signed by it; 3. it is in a Secret.
    The CA does not change when the host does, and the certificate is for the host before as well. In the last `RENEWAL`
    hours of the CA, an `up` makes its certificate anew with the same key and subject, and the server certificate as
    well, which ends just before the CA. Private keys are ECDSA P-256 and secret in the state, and the CA's key is
    nowhere else. Delete removes the Secret from the cluster, and the keys from the state.
    Does not: serve the certificate, renew anything between two `up`s, or constrain the CA to the host's domain, for
    which pulumi-tls has no argument.
    """

    ca_certificate: pulumi.Output[str]
    """The certificates of the CA, and of those before it that may still be in use, PEM."""
    secret: pulumi.Output[str]
    """Name of the Secret of type kubernetes.io/tls with `tls.crt`, `tls.key` and `ca.crt`."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
        """Nothing: this issuer needs nothing of the cluster."""
        return ()

    def __init__(self, name: str, args: TlsCertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the CA and the certificate. `name` is the prefix of the Secret's name."""
        super().__init__("private-registry:registry:TlsCertificate", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        keys = pulumi.ResourceOptions(parent=self, additional_secret_outputs=KEY_OUTPUTS)

        ca_key = tls.PrivateKey(f"{name}-ca-key-{args.ca_version}", algorithm="ECDSA", ecdsa_curve="P256", opts=keys)
        ca = tls.SelfSignedCert(
            f"{name}-ca",
            private_key_pem=ca_key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(
                common_name=ca_key.public_key_pem.apply(
                    lambda key: f"{CA_COMMON_NAME} {hashlib.sha256(key.encode()).hexdigest()[:8]}"
                ),
                # A namespace has at most 63 characters, and a unit 64 (RFC 5280, appendix A.1).
                organizational_unit=args.namespace,
            ),
            is_ca_certificate=True,
            set_subject_key_id=True,
            set_authority_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=CA_VALIDITY,
            early_renewal_hours=RENEWAL,
            opts=child,
        )
        trusted = args.succession.trusted(args.namespace, ca.cert_pem)
        key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=keys)
        request = tls.CertRequest(
            f"{name}-request",
            private_key_pem=key.private_key_pem,
            # The host is not in the subject: a common name has at most 64 characters, and clients read only the
            # alternative names (RFC 9525).
            subject=tls.CertRequestSubjectArgs(common_name="Private registry"),
            dns_names=pulumi.Output.from_input(args.host).apply(lambda host: certified(host, args.issued.names)),
            opts=child,
        )
        server = tls.LocallySignedCert(
            f"{name}-server",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=ca_key.private_key_pem,
            ca_cert_pem=ca.cert_pem,
            set_subject_key_id=True,
            allowed_uses=["digital_signature", "server_auth"],
            validity_period_hours=pulumi.Output.all(request.cert_request_pem, ca.cert_pem, ca.validity_end_time).apply(
                lambda known: server_hours(known[0], known[1], known[2], args.issued, time.time())
            ),
            # The CA is due earlier, and then the server certificate is made anew with it.
            early_renewal_hours=RENEWAL - _MARGIN - 1,
            opts=child,
        )
        secret = k8s.core.v1.Secret(
            f"{name}-secret",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-tls", namespace=args.namespace, labels=LABELS),
            type="kubernetes.io/tls",
            string_data={
                # The order in which TLS sends them (RFC 8446, 4.4.2).
                "tls.crt": after(pulumi.Output.concat(server.cert_pem, ca.cert_pem), trusted),
                "tls.key": key.private_key_pem,
                "ca.crt": ca.cert_pem,
            },
            opts=child,
        )
        self.ca_certificate = trusted
        self.secret = secret.metadata.name
        before = args.succession.before_renewal(ca.cert_pem)
        self.register_outputs({"caCertificate": self.ca_certificate, "beforeRenewal": before, "secret": self.secret})
