"""The registry and the way in: volume, pod, address, certificate, Ingress."""

from .address import Address, AddressArgs
from .certificate import Certificate, CertificateArgs
from .client_setup import client_setup
from .hostname import registry_host, registry_label
from .ingress import Ingress, IngressArgs
from .registry import PORT, Registry, RegistryArgs
from .settings import Settings, load

__all__ = [
    "PORT",
    "Address",
    "AddressArgs",
    "Certificate",
    "CertificateArgs",
    "Ingress",
    "IngressArgs",
    "Registry",
    "RegistryArgs",
    "Settings",
    "client_setup",
    "load",
    "registry_host",
    "registry_label",
]
