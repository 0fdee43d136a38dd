"""PEM certificates, as the Go programs that read the CA's file see them."""

import contextlib
import functools
import hashlib
import ssl

from .faults import Fault, Reason

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


@functools.lru_cache(maxsize=16)
def fingerprints(ca: str) -> tuple[str, ...]:
    """SHA-256 of each certificate in a PEM text, in hexadecimal digits. Raises Fault CA_INVALID if there is none."""
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


def holds_certificate(data: bytes) -> bool:
    """Whether a file holds at least one PEM certificate. Go programs ignore whatever else is in it."""
    for part in data.decode(errors="replace").split(_BEGIN)[1:]:
        with contextlib.suppress(Fault):
            return bool(fingerprints(_BEGIN + part))
    return False
