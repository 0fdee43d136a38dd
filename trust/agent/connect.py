"""Can this machine reach the registry, and is the certificate that it serves valid under the CA?

The agent asks this before it blames anything else, and before it changes a runtime's configuration.
"""

import contextlib
import hashlib
import http.client
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from .certificates import fingerprints
from .faults import Fault, Reason

_TIMEOUT = 5.0
_RESOLV_CONF = Path("/etc/resolv.conf")

Check = Callable[..., None]
"""The type of `check`, so that a test can put another function in its place."""


def check(host: str, ca: str, place: str, public: str = "") -> None:
    """Open a verified TLS connection to `host` (with port, if it has one) and ask for the registry API.

    `ca` holds PEM certificates, the only ones that are trusted. If it is empty, those in `public` are, and if that is
    empty, too, those of this program's own system. `place` is how sentences call the machine on which this runs, such
    as `node worker-1`.
    Raises Fault: NAME_NOT_RESOLVED, NO_CONNECTION, NO_TLS, NO_REGISTRY or CERTIFICATE_MISMATCH.
    """
    name, _, given_port = host.partition(":")
    port = int(given_port or 443)
    address = f"{name}:{port}"
    addresses = _resolve(name, port, place)
    context = ssl.create_default_context(cadata=ca.strip() or public or None)
    # Runtimes are Go programs: to them every certificate in the file is a trust anchor, even if it is no root, and a
    # certificate without key identifiers is no error. Python's defaults are stricter.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection(name, port, timeout=_TIMEOUT, context=context)
    try:
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        served, trusted, why = _served(name, port), fingerprints(ca), error.verify_message.rstrip(".")
        raise Fault(
            Reason.CERTIFICATE_MISMATCH,
            f"{mismatch(address, served, trusted, why)}; check that the Ingress controller uses the TLS Secret of this "
            "Ingress, and that nothing between intercepts TLS.",
            host=name, port=port, addresses=addresses, served=served, trusted=list(trusted), error=why,
        ) from error  # fmt: skip
    except ssl.SSLError as error:
        raise Fault(
            Reason.NO_TLS,
            f"What answers at {address} does not complete a TLS handshake with {place} ({type(error).__name__}: "
            f"{error}); check that nothing but the registry's way in listens at this address and port.",
            host=name, port=port, addresses=addresses, error=str(error),
        ) from error  # fmt: skip
    except http.client.HTTPException as error:
        raise Fault(
            Reason.NO_REGISTRY,
            f"https://{address}/v2/ does not answer {place} in HTTP ({type(error).__name__}: {error}); check that the "
            "registry's pod is Ready, and what else serves this host.",
            host=name, port=port, addresses=addresses, error=str(error),
        ) from error  # fmt: skip
    except OSError as error:
        raise Fault(
            Reason.NO_CONNECTION,
            f"There is no network connection from {place} to {address} ({type(error).__name__}: {error}); check "
            "routes, firewalls and network policies between them.",
            host=name, port=port, addresses=addresses, error=str(error),
        ) from error  # fmt: skip
    finally:
        connection.close()
    if status not in (200, 401):
        raise Fault(
            Reason.NO_REGISTRY,
            f"https://{address}/v2/ answers HTTP {status}, and a registry answers 200 or 401; check the Ingress rule "
            f"for {name} and that the registry's pod is Ready.",
            host=name, port=port, addresses=addresses, status=status,
        )  # fmt: skip


def mismatch(address: str, served: str, trusted: tuple[str, ...] | list[str], error: str) -> str:
    """The part of a sentence that says which certificate does not fit; its caller adds what helps."""
    under = f"the registry's CA (SHA-256 {', '.join(trusted)})" if trusted else "any of the machine's public CAs"
    return f"{address} serves a certificate (SHA-256 {served}) that is not valid for it under {under}: {error}"


def _resolve(name: str, port: int, place: str) -> list[str]:
    """The IP addresses of a name. Raises Fault NAME_NOT_RESOLVED."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        resolvers, why = _resolvers(), error.strerror or str(error)
        raise Fault(
            Reason.NAME_NOT_RESOLVED,
            f"DNS on {place} has no address for {name} ({why}; asked: {', '.join(resolvers) or 'no resolver'}); a "
            "resolver with rebind protection drops names with private addresses: allow this name there, or set "
            "another dnsSuffix or host.",
            host=name, resolvers=resolvers, error=why,
        ) from error  # fmt: skip
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _resolvers() -> list[str]:
    with contextlib.suppress(OSError):
        lines = (line.split() for line in _RESOLV_CONF.read_text(errors="replace").splitlines())
        return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return []


def _served(name: str, port: int) -> str:
    """SHA-256 of the certificate that is served, without verifying it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((name, port), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=name) as tls,
        ):
            return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()
    except OSError:
        return "unknown"
