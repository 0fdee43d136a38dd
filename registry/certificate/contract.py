"""What every issuer of certificates offers, and what the issuers have in common."""

from collections.abc import Sequence
from typing import Protocol

import pulumi

from .. import names
from ..cluster import Cluster
from ..settings import Settings

LABELS = names.labels(names.CERTIFICATE)
"""Labels of everything that certificates are made of."""
_HOUR = 1
_DAY = 24 * _HOUR
CA_VALIDITY = 3650 * _DAY
"""Hours for which the CA is valid; it lives as long as the stack."""
SERVER_VALIDITY = 397 * _DAY
"""Hours for which the server certificate is valid: the longest that every client accepts (Apple refuses more than 398
days for public CAs and 825 for private ones, support.apple.com/103769)."""
CA_COMMON_NAME = "Private registry CA"
"""The common name in the CA's subject."""


class Certificate(Protocol):
    """A private CA and a server certificate for one host: the component behind a value of `certificateIssuer`."""

    ca_certificate: pulumi.Output[str]
    """The CA's certificate, PEM. Public."""
    secret: pulumi.Output[str]
    """Name of the Secret of type kubernetes.io/tls with `tls.crt`, `tls.key` and `ca.crt`."""

    @staticmethod
    def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
        """Why this issuer cannot issue anything in the cluster, and what to do; empty if it can."""
        ...
