"""What every issuer of certificates offers, and what the issuers have in common."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pulumi

from .. import names
from ..cluster import Cluster
from ..settings import Settings

LABELS = names.labels(names.CERTIFICATE)
"""Labels of everything that certificates are made of."""
_DAY = 24
CA_VALIDITY = 180 * _DAY
"""Hours for which the stack's own CA is valid. It is renewed at `up` or by cert-manager, with the same key."""
RENEWAL = 60 * _DAY
"""Hours before the CA's end from which on it is renewed. So at each `up` it is valid for longer than this."""
CA_COMMON_NAME = "Private registry CA"
"""The common name in the CA's subject, with something behind it that no other key of the stack has. Two CAs of one
subject confuse clients that look for an issuer by name alone."""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """The server certificate of the issuer `tls` in the stack's state; all is empty if there is none."""

    request: str = ""
    """What was signed, PEM."""
    ca: str = ""
    """The certificate of the CA that has signed it, PEM."""
    hours: int = 0
    """For how long it is valid from its making on."""
    names: Sequence[str] = ()
    """The DNS names in it, first that of the host."""


@dataclass(frozen=True, kw_only=True)
class CertificateState:
    """What the stack's state says of the certificates after the last `up`."""

    trusted: str = ""
    """The CA certificates that nodes and clients had to trust, PEM; empty before the first `up`."""
    before_renewal: str = ""
    """The certificates that the CA had before it was renewed, PEM, which somebody may still trust in place of it."""
    issued: Issued = field(default_factory=Issued)
    """The server certificate."""


COMPONENTS = ("private-registry:registry:TlsCertificate", "private-registry:registry:CertManagerCertificate")
"""The types of the components that keep the contract."""

HandOver = Callable[[str, str], Awaitable[object]]
"""Gives the nodes a namespace's new CA certificates, PEM, and waits until they have them."""


class Certificate(Protocol):
    """A server certificate for one host, and what to trust: the component behind a value of `certificateIssuer`.

    Where the CA is another one than before, the certificate is served only when the nodes trust both.
    """

    ca_certificate: pulumi.Output[str]
    """The certificates of the CA, and of those before it that may still be in use, PEM; empty if the certificate is
    publicly trusted."""
    secret: pulumi.Output[str]
    """Name of the Secret of type kubernetes.io/tls with `tls.crt`, `tls.key` and `ca.crt`."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
        """Why this issuer cannot issue anything in the cluster, and what to do; empty if it can."""
        ...
