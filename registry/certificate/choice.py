"""The choice of the issuer that the settings name."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import pulumi

from ..cluster import Cluster
from ..settings import Issuer, SettingError, Settings
from .authority import Succession
from .cert_manager import CertManagerCertificate, CertManagerCertificateArgs
from .contract import Certificate, CertificateState
from .tls import TlsCertificate, TlsCertificateArgs

ISSUERS: Mapping[Issuer, type[Certificate]] = {"tls": TlsCertificate, "cert-manager": CertManagerCertificate}
"""The component behind each value of the setting `certificateIssuer`."""


def errors(settings: Settings, cluster: Cluster) -> Sequence[pulumi.RunError]:
    """Why the issuer that the settings name cannot issue anything in the cluster; empty if it can."""
    if settings.issuer and settings.certificate_issuer != "cert-manager":
        rule = f"certificateIssuer is {settings.certificate_issuer}, and only cert-manager has ClusterIssuers"
        more = "or set certificateIssuer to cert-manager: pulumi config set certificateIssuer cert-manager"
        return [SettingError("issuer", settings.issuer, rule, "''", more=more)]
    return ISSUERS[settings.certificate_issuer].errors(settings, cluster)


def make_certificate(
    name: str,
    settings: Settings,
    namespace: pulumi.Input[str],
    host: pulumi.Input[str],
    cluster: Cluster,
    recorded: CertificateState,
    hand_over: Callable[[Cluster, str, str], Awaitable[object]],
) -> Certificate:
    """Have the issuer that the settings name make a CA and a certificate.

    Args:
        name: Name of the component, and prefix of its objects' names.
        settings: The settings.
        namespace: Namespace of the objects.
        host: Host that the certificate is for; a port in it does not count.
        cluster: The cluster, which is asked what cert-manager has made.
        recorded: What the stack's state says of the certificates.
        hand_over: Gives the nodes of a cluster what they have to trust, for a namespace, and waits until they have it.
    """
    succession = Succession(
        recorded=recorded.trusted,
        renewed=recorded.before_renewal,
        external=settings.node_trust == "external",
        hand_over=partial(hand_over, cluster),
    )
    match settings.certificate_issuer:
        case "tls":
            return TlsCertificate(
                name,
                TlsCertificateArgs(
                    namespace=namespace,
                    host=host,
                    ca_version=settings.ca_version,
                    issued=recorded.issued,
                    succession=succession,
                ),
            )
        case "cert-manager":
            return CertManagerCertificate(
                name,
                CertManagerCertificateArgs(
                    namespace=namespace,
                    cluster=cluster,
                    host=host,
                    dns_suffix=settings.dns_suffix,
                    issuer=settings.issuer,
                    ca_version=settings.ca_version,
                    succession=succession,
                    timeout=settings.ready_timeout,
                ),
            )
