"""Before anyone blames the trust: can this node reach the registry, and does the CA fit what it serves?"""

import contextlib
import functools
import hashlib
import http.client
import socket
import ssl

from .faults import Fault, Reason

_TIMEOUT = 5.0


def check(host: str, ca: str, node: str) -> None:
    """Open a verified TLS connection to `host` (with port, if it has one) and ask for the registry API.

    `ca` holds PEM certificates, the only ones trusted. Raises Fault: UNREACHABLE or CERTIFICATE_MISMATCH.
    """
    name, _, port = host.partition(":")
    address = f"{name}:{port or 443}"
    try:
        socket.getaddrinfo(name, port or 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Fault(
            Reason.UNREACHABLE,
            f"DNS on node {node} has no address for {name} ({error.strerror or error}); a resolver with rebind "
            "protection drops names with private addresses: allow this name there, or set another dnsSuffix or host.",
        ) from error
    context = ssl.create_default_context(cadata=ca)
    # Runtimes are Go programs: any certificate in the pool is an anchor, and missing key ids are no error there.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection(name, int(port or 443), timeout=_TIMEOUT, context=context)
    try:
        connection.request("GET", "/v2/")
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        raise Fault(
            Reason.CERTIFICATE_MISMATCH,
            f"{address} serves a certificate (SHA-256 {_served(name, int(port or 443))}) that is not valid for it "
            f"under the registry's CA (SHA-256 {', '.join(fingerprints(ca))}): {error.verify_message.rstrip('.')}; "
            "check that the Ingress controller uses the TLS Secret of this Ingress, and that nothing between "
            "intercepts TLS.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Fault(
            Reason.UNREACHABLE,
            f"Network: node {node} cannot talk TLS to {address} ({type(error).__name__}: {error}); check routes, "
            "firewalls and network policies between the node and the registry's load balancer.",
        ) from error
    finally:
        connection.close()
    if status not in (200, 401):
        raise Fault(
            Reason.UNREACHABLE,
            f"https://{address}/v2/ answers HTTP {status}, a registry answers 200 or 401; check the Ingress rule for "
            f"{name} and that the registry's pod is Ready.",
        )


@functools.lru_cache(maxsize=16)
def fingerprints(ca: str) -> tuple[str, ...]:
    """SHA-256 of each certificate in a PEM text, in hexadecimal. Raises Fault CA_INVALID if there is none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        found = tuple(
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(f"{begin}{part.partition(end)[0]}{end}\n")).hexdigest()
            for part in ca.split(begin)[1:]
        )
        if not found:
            raise ValueError("no certificate in it")
        ssl.create_default_context(cadata=ca)
    except (ValueError, ssl.SSLError) as error:
        sentence = f"The CA of the ConfigMap cannot be read ({error}); it must hold PEM certificates."
        raise Fault(Reason.CA_INVALID, sentence) from error
    return found


def holds_certificate(data: bytes) -> bool:
    """Whether there is at least one PEM certificate in a file; Go programs pass over all else."""
    begin = "-----BEGIN CERTIFICATE-----"
    for part in data.decode(errors="replace").split(begin)[1:]:
        with contextlib.suppress(Fault):
            return bool(fingerprints(begin + part))
    return False


def _served(name: str, port: int) -> str:
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
