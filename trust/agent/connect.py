"""Can this machine reach the registry, and is the certificate that it serves valid under the CA?

The agent asks this before it blames anything else, and before it changes a runtime's configuration.
"""

import datetime
import hashlib
import http.client
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from .certificates import beginning, fingerprints
from .client import Client
from .faults import Fault, Reason
from .lookup import look_up
from .proxies import Proxy, entry_for

NOT_YET = "not yet valid"
"""Part of OpenSSL's words on a certificate that begins later than now."""

_TIMEOUT = 5.0

Check = Callable[[str, str, Client], None]
"""The type of `check`, so that a test can put another function in its place."""


def check(host: str, ca: str, client: Client) -> None:
    """Open a verified TLS connection to `host` (with port, if it has one) as `client` does, and ask for the registry.

    `ca` holds PEM certificates, the only ones that are trusted. If it is empty, the client's public ones are.
    Raises Fault: NAME_NOT_RESOLVED, NO_CONNECTION, NO_TLS, NO_REGISTRY, CERTIFICATE_MISMATCH or PROXY_IN_THE_WAY.
    """
    name, _, given_port = host.partition(":")
    port = int(given_port or 443)
    context = ssl.create_default_context(cadata=ca.strip() or client.public or None)
    # Runtimes are Go programs: to them every certificate in the file is a trust anchor, even if it is no root, and a
    # certificate without key identifiers is no error. Python's defaults are stricter.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if client.proxy:
        addresses, status = [], _status_through(client.proxy, host, ca, client, context)
    else:
        addresses = _resolve(name, client)
        status = _status_directly(name, port, addresses, ca, client.place, context)
    if status not in (None, 200, 401):
        raise Fault(
            Reason.NO_REGISTRY,
            f"https://{name}:{port}/v2/ answers HTTP {status}, and a registry answers 200 or 401; check the Ingress "
            f"rule for {name} and that the registry's pod is Ready.",
            host=name, port=port, addresses=addresses, status=status,
        )  # fmt: skip


def _status_directly(
    name: str, port: int, addresses: Sequence[str], ca: str, place: str, context: ssl.SSLContext
) -> int:
    """The HTTP status with which the registry answers at one of these addresses. Raises Fault."""
    address, found = f"{name}:{port}", list(addresses)
    try:
        return _status(_connect(addresses, port), name, port, context)
    except ssl.SSLCertVerificationError as error:
        certificate, trusted, why = _served(name, port, addresses), fingerprints(ca), error.verify_message.rstrip(".")
        served = hashlib.sha256(certificate).hexdigest() if certificate else "unknown"
        fix = (
            "check that the Ingress controller uses the TLS Secret of this Ingress, and that nothing between "
            "intercepts TLS"
        )
        if NOT_YET in why:
            begins, now = beginning(certificate), datetime.datetime.now(datetime.timezone.utc)
            begin = begins.isoformat() if begins else "later"
            fix = (
                f"the clocks differ: it begins {begin}, and on {place} it is {now.isoformat(timespec='seconds')}. Set "
                "the clock there or, if that one is right, of the machine that made the certificate, and run pulumi "
                "up again in a few minutes"
            )
        raise Fault(
            Reason.CERTIFICATE_MISMATCH,
            f"{mismatch(address, served, trusted, why)}; {fix}.",
            host=name, port=port, addresses=found, served=served, trusted=list(trusted), error=why,
        ) from error  # fmt: skip
    except ssl.SSLError as error:
        raise Fault(
            Reason.NO_TLS,
            f"What answers at {address} does not complete a TLS handshake with {place} ({type(error).__name__}: "
            f"{error}); check that nothing but the registry's way in listens at this address and port.",
            host=name, port=port, addresses=found, error=str(error),
        ) from error  # fmt: skip
    except http.client.HTTPException as error:
        raise Fault(
            Reason.NO_REGISTRY,
            f"https://{address}/v2/ does not answer {place} in HTTP ({type(error).__name__}: {error}); check that the "
            "registry's pod is Ready, that network policies let the way in reach it, and what else serves this host.",
            host=name, port=port, addresses=found, error=str(error),
        ) from error  # fmt: skip
    except OSError as error:
        raise Fault(
            Reason.NO_CONNECTION,
            f"There is no network connection from {place} to {address} ({type(error).__name__}: {error}); check "
            "routes, firewalls and network policies between them.",
            host=name, port=port, addresses=found, error=str(error),
        ) from error  # fmt: skip


def _status_through(proxy: Proxy, host: str, ca: str, client: Client, context: ssl.SSLContext) -> int | None:
    """The HTTP status with which the registry answers through a proxy. Raises Fault PROXY_IN_THE_WAY.

    It is None for a proxy of another kind than http: that is connected to, and the pull has to prove the rest.
    """
    name, _, given_port = host.partition(":")
    port = int(given_port or 443)
    try:
        answer = look_up(proxy.host, client.root)
        if answer.why:
            raise OSError(f"DNS has no address for it: {answer.why}")
        plain = _connect(answer.addresses, proxy.port)
        if proxy.scheme != "http":
            plain.close()
            return None
        return _status(plain, name, port, context, proxy)
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        program = client.program
        add = f"add {entry_for(host)} to NO_PROXY"
        add += f" in the environment of {program} there, and restart {program}" if program else " there"
        try:
            check(host, ca, replace(client, proxy=None))
            fix = f"without the proxy the registry is reached: {add}"
        except Fault as fault:
            fix = f"without it there is {fault.reason}: have the proxy lead there, or mend that and {add}"
        raise Fault(
            Reason.PROXY_IN_THE_WAY,
            f"The proxy {proxy}, which HTTPS_PROXY on {client.place} names for {name}:{port}, does not lead there "
            f"({why}); {fix}.",
            host=name, port=port, proxy=str(proxy), error=why,
        ) from error  # fmt: skip


def _status(plain: socket.socket, name: str, port: int, context: ssl.SSLContext, proxy: Proxy | None = None) -> int:
    """The HTTP status of the registry at the other end of a connection, which is closed."""
    with closing(plain):
        if proxy:
            _ask_for_tunnel(plain, f"{name}:{port}", proxy)
        with closing(http.client.HTTPSConnection(name, port, context=context)) as connection:
            connection.sock = context.wrap_socket(plain, server_hostname=name)
            try:
                connection.request("GET", "/v2/")
                return connection.getresponse().status
            except TimeoutError:
                raise http.client.HTTPException(f"no answer within {_TIMEOUT:.0f} s") from None


def _ask_for_tunnel(plain: socket.socket, address: str, proxy: Proxy) -> None:
    """Have the proxy at the other end connect to an address. Raises OSError or HTTPException if it does not."""
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    plain.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{login}\r\n".encode())
    answer = http.client.HTTPResponse(plain, method="CONNECT")
    answer.begin()
    if answer.status != 200:
        raise OSError(f"it answers {answer.status} {answer.reason}")


def _connect(addresses: Sequence[str], port: int) -> socket.socket:
    """A connection to the first of some addresses that accepts one. Raises OSError, that of the first address."""
    first = OSError("there is no address")
    for number, address in enumerate(addresses):
        try:
            return socket.create_connection((address, port), _TIMEOUT)
        except OSError as error:
            first = first if number else error
    raise first


def mismatch(address: str, served: str, trusted: tuple[str, ...] | list[str], error: str) -> str:
    """The part of a sentence that says which certificate does not fit; its caller adds what helps."""
    under = f"the registry's CA (SHA-256 {', '.join(trusted)})" if trusted else "any of the machine's public CAs"
    return f"{address} serves a certificate (SHA-256 {served}) that is not valid for it under {under}: {error}"


def _resolve(name: str, client: Client) -> list[str]:
    """The IP addresses of a name. Raises Fault NAME_NOT_RESOLVED."""
    answer = look_up(name, client.root)
    if answer.why:
        raise Fault(
            Reason.NAME_NOT_RESOLVED,
            f"DNS on {client.place} has no address for {name} ({answer.why}; asked: "
            f"{', '.join(answer.resolvers) or 'no resolver'}); a resolver with rebind protection drops names with "
            "private addresses: allow this name there, or set another dnsSuffix or host.",
            host=name, resolvers=answer.resolvers, error=answer.why,
        )  # fmt: skip
    return answer.addresses


def _served(name: str, port: int, addresses: Sequence[str]) -> bytes:
    """The certificate that is served, DER, without verifying it; empty if it cannot be seen."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(addresses, port) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
            return tls.getpeercert(binary_form=True) or b""
    except OSError:
        return b""
