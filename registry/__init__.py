"""The registry and the ways in: volume, pod, address, certificate, Ingress, Service."""

from .cert_manager import CertManagerCertificate
from .certificate import Certificate, CertificateArgs
from .client_setup import client_setup
from .credentials import Credentials, CredentialsArgs
from .dns import check_here
from .exposure import ExposureArgs, host_of
from .gateway import Gateway
from .hostname import registry_host, registry_label
from .ingress import Ingress, IngressAddress, IngressArgs
from .load_balancer import LoadBalancer
from .node_port import NodePort
from .preflight import NAMESPACE_LABELS, allow_node_agent, check
from .registry import Registry, RegistryArgs
from .settings import Settings, load
from .sharing import Sharing, SharingArgs

EXPOSURES = {"ingress": IngressAddress, "loadBalancer": LoadBalancer, "nodePort": NodePort, "gateway": Gateway}
"""The component behind each value of the setting `exposure`."""
ISSUERS = {"tls": Certificate, "cert-manager": CertManagerCertificate}
"""The component behind each value of the setting `certificateIssuer`."""

__all__ = [
    "EXPOSURES",
    "ISSUERS",
    "NAMESPACE_LABELS",
    "CertManagerCertificate",
    "Certificate",
    "CertificateArgs",
    "Credentials",
    "CredentialsArgs",
    "ExposureArgs",
    "Gateway",
    "Ingress",
    "IngressAddress",
    "IngressArgs",
    "LoadBalancer",
    "NodePort",
    "Registry",
    "RegistryArgs",
    "Settings",
    "Sharing",
    "SharingArgs",
    "allow_node_agent",
    "check",
    "check_here",
    "client_setup",
    "host_of",
    "load",
    "registry_host",
    "registry_label",
]
