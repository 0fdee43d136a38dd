"""The private CA and the server certificate that it signs."""

from dataclasses import dataclass

import pulumi
import pulumi_tls as tls

_HOUR = 1
_DAY = 24 * _HOUR
CA_VALIDITY = 3650 * _DAY
"""Hours that the CA is valid; it lives as long as the stack."""
SERVER_VALIDITY = 397 * _DAY
"""Hours that the server certificate is valid: the longest that every client accepts (Apple refuses more than 398 days
for public CAs and 825 for private ones, support.apple.com/103769)."""
RENEWAL = 30 * _DAY
"""Hours before its end from which `pulumi up` makes a new server certificate."""

_KEY_OUTPUTS = ["private_key_pem", "private_key_pem_pkcs8", "private_key_openssh"]


@dataclass(frozen=True, kw_only=True)
class CertificateArgs:
    """What a `Certificate` needs."""

    host: pulumi.Input[str]
    """DNS name that the server certificate is for."""


class Certificate(pulumi.ComponentResource):
    """A private CA and a server certificate for one host.

    Ready when: 1. the CA exists; 2. a server certificate for the host is signed by it.
    The CA does not change when the host does. Private keys are ECDSA P-256 and secret in the state; the CA's key
    leaves the state nowhere. Delete removes them from the state; nothing else holds the CA's key.
    Does not: put the certificate into the cluster.
    """

    ca_certificate: pulumi.Output[str]
    """The CA's certificate, PEM. Public."""
    chain: pulumi.Output[str]
    """The server certificate and behind it the CA's, PEM: the order in which TLS sends them (RFC 8446, 4.4.2)."""
    private_key: pulumi.Output[str]
    """The server certificate's key, PEM. Secret."""

    def __init__(self, name: str, args: CertificateArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the CA and the certificate. `name` is the prefix of the children's names."""
        super().__init__("private-registry:registry:Certificate", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        secret = pulumi.ResourceOptions(parent=self, additional_secret_outputs=_KEY_OUTPUTS)

        ca_key = tls.PrivateKey(f"{name}-ca-key", algorithm="ECDSA", ecdsa_curve="P256", opts=secret)
        ca = tls.SelfSignedCert(
            f"{name}-ca",
            private_key_pem=ca_key.private_key_pem,
            subject=tls.SelfSignedCertSubjectArgs(
                common_name="Private registry CA",
                # Two CAs of one subject confuse clients that look for an issuer by name alone.
                organizational_unit=f"{pulumi.get_project()}/{pulumi.get_stack()}"[:64],
            ),
            is_ca_certificate=True,
            set_subject_key_id=True,
            set_authority_key_id=True,
            allowed_uses=["cert_signing", "crl_signing"],
            validity_period_hours=CA_VALIDITY,
            early_renewal_hours=RENEWAL,
            opts=child,
        )
        key = tls.PrivateKey(f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=secret)
        request = tls.CertRequest(
            f"{name}-request",
            private_key_pem=key.private_key_pem,
            # No host here: a common name ends at 64 characters and clients read only the alternative names (RFC 9525).
            subject=tls.CertRequestSubjectArgs(common_name="Private registry"),
            dns_names=[args.host],
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
        self.ca_certificate = ca.cert_pem
        self.chain = pulumi.Output.concat(server.cert_pem, ca.cert_pem)
        self.private_key = key.private_key_pem
        self.register_outputs(
            {"caCertificate": self.ca_certificate, "chain": self.chain, "privateKey": self.private_key}
        )
