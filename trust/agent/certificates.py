"""PEM certificates, as the Go programs that read the CA's file see them."""

import contextlib
import datetime
import functools
import hashlib
import re
import ssl

from .faults import Fault, Reason
from .files import Tree

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Go looks for the system's CAs, in this order (crypto/x509/root_linux.go)."""


@functools.lru_cache(maxsize=16)
def fingerprints(ca: str) -> tuple[str, ...]:
    """SHA-256 of each certificate in a PEM text, in hexadecimal digits.

    An empty text has none: the registry's certificate is publicly trusted. Raises Fault CA_INVALID if there is none in
    another text.
    """
    if not ca.strip():
        return ()
    try:
        found = tuple(
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{part.partition(_END)[0]}{_END}\n")).hexdigest()
            for part in ca.split(_BEGIN)[1:]
        )
        if not found:
            raise ValueError("no certificate in it")
        ssl.create_default_context(cadata=ca)
    except (ValueError, ssl.SSLError) as error:
        sentence = f"The CA of the ConfigMap cannot be read ({error}); it must hold PEM certificates."
        raise Fault(Reason.CA_INVALID, sentence, error=str(error)) from error
    return found


def beginning(certificate: bytes) -> datetime.datetime | None:
    """When a certificate (DER) begins to be valid; None if it does not say so.

    It is the first time in it (RFC 5280, 4.1): two digits of the year before 2050, four from then on.
    """
    found = re.search(rb"\x17\x0d(\d{12})Z|\x18\x0f(\d{14})Z", certificate)
    if not found:
        return None
    digits = (found[2] or b"20" + found[1]).decode()
    return datetime.datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=datetime.timezone.utc)


def public_roots(tree: Tree) -> str:
    """The public CAs of a node, PEM: the first bundle of those that Go programs read; empty if there is none."""
    found = next(filter(None, map(tree.read, _BUNDLES)), b"").decode(errors="replace")
    return "".join(f"{_BEGIN}{part.partition(_END)[0]}{_END}\n" for part in found.split(_BEGIN)[1:])


def holds_certificate(data: bytes) -> bool:
    """Whether a file holds at least one PEM certificate. Go programs ignore whatever else is in it."""
    for part in data.decode(errors="replace").split(_BEGIN)[1:]:
        with contextlib.suppress(Fault):
            return bool(fingerprints(_BEGIN + part))
    return False
