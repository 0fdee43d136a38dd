"""The choice of the issuer that the settings name."""

from collections.abc import Mapping, Sequence

import pulumi

from ..cluster import Cluster
from ..settings import Issuer, Settings
from .cert_manager import CertManagerCertificate, CertManagerCertificateArgs
from .contract import Certificate
from .tls import TlsCertificate, TlsCertificateArgs

ISSUERS: Mapping[Issuer, type[Certificate]] = {"tls": TlsCertificate, "cert-manager": CertManagerCertificate}
"""The component behind each value of the setting `certificateIssuer`."""


def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
    """Why the issuer that the settings name cannot issue anything in the cluster; empty if it can."""
    return ISSUERS[settings.certificate_issuer].errors(settings, cluster)


def make_certificate(
    name: str, settings: Settings, namespace: pulumi.Input[str], host: pulumi.Input[str], before: Sequence[str]
) -> Certificate:
    """Have the issuer that the settings name make a CA and a certificate.

    Args:
        name: Name of the component, and prefix of its objects' names.
        settings: The settings.
        namespace: Namespace of the objects.
        host: Host that the certificate is for; a port in it does not count.
        before: The names in the certificate after the last `up`.
    """
    match settings.certificate_issuer:
        case "tls":
            return TlsCertificate(name, TlsCertificateArgs(namespace=namespace, host=host, before=before))
        case "cert-manager":
            args = CertManagerCertificateArgs(namespace=namespace, host=host, timeout=settings.ready_timeout)
            return CertManagerCertificate(name, args)
