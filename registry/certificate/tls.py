"""The issuer `tls`: this program makes CA and server certificate, and the stack's state keeps the keys."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls

from ..cluster import Cluster
from ..hostname import split_port
from ..settings import Settings
from .contract import CA_COMMON_NAME, CA_VALIDITY, LABELS, SERVER_VALIDITY

RENEWAL = 30 * 24
"""Hours before the end of a certificate from which on `pulumi up` makes a new one."""

KEY_OUTPUTS = ["private_key_pem", "private_key_pem_pkcs8", "private_key_openssh"]
"""The outputs of a pulumi-tls key that the state must keep secret."""


@dataclass(frozen=True, kw_only=True)
class TlsCertificateArgs:
    """What a `TlsCertificate` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the Secret."""
    host: pulumi.Input[str]
    """Host that the server certificate is for; a port in it does not count."""
    before: Sequence[str]
    """The names in the certificate after the last `up`."""


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

    Ready when: 1. the CA exists; 2. a server certificate for the host is signed by it; 3. it is in a Secret.
    The CA does not change when the host does, and the certificate is for the host before as well. Private keys are
    ECDSA P-256 and secret in the state, and the CA's key is nowhere else. Delete removes the Secret from the cluster,
    and the keys from the state.
    Does not: serve the certificate.
    """

    ca_certificate: pulumi.Output[str]
    """The CA's certificate, PEM. Public."""
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

        ca_key = tls.PrivateKey(f"{name}-ca-key", algorithm="ECDSA", ecdsa_curve="P256", opts=keys)
        ca = tls.SelfSignedCert(
            f"{name}-ca",
            private_key_pem=ca_key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(
                common_name=CA_COMMON_NAME,
                # No other stack's CA has this subject: two of one subject confuse clients that look for an issuer by
                # name alone. A namespace has at most 63 characters, and a unit 64 (RFC 5280, appendix A.1).
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
        key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=keys)
        request = tls.CertRequest(
            f"{name}-request",
            private_key_pem=key.private_key_pem,
            # The host is not in the subject: a common name has at most 64 characters, and clients read only the
            # alternative names (RFC 9525).
            subject=tls.CertRequestSubjectArgs(common_name="Private registry"),
            dns_names=pulumi.Output.from_input(args.host).apply(lambda host: certified(host, args.before)),
            opts=child,
        )
        server = tls.LocallySignedCert(
            f"{name}-server",
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=ca_key.private_key_pem,
            ca_cert_pem=ca.cert_pem,
            set_subject_key_id=True,
            allowed_uses=["digital_signature", "server_auth"],
            validity_period_hours=SERVER_VALIDITY,
            early_renewal_hours=RENEWAL,
            opts=child,
        )
        secret = k8s.core.v1.Secret(
            f"{name}-secret",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-tls", namespace=args.namespace, labels=LABELS),
            type="kubernetes.io/tls",
            string_data={
                # The order in which TLS sends them (RFC 8446, 4.4.2).
                "tls.crt": pulumi.Output.concat(server.cert_pem, ca.cert_pem),
                "tls.key": key.private_key_pem,
                "ca.crt": ca.cert_pem,
            },
            opts=child,
        )
        self.ca_certificate = ca.cert_pem
        self.secret = secret.metadata.name
        self.register_outputs({"caCertificate": self.ca_certificate, "secret": self.secret})
