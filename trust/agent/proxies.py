"""The proxy through which a Go program, as every container runtime is one, would ask for the registry.

The rules are those of Go's golang.org/x/net/http/httpproxy, which net/http has built in: the program's environment says
which proxy, and NO_PROXY for which names there is none.
"""

import ipaddress
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_HOST_AND_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:\[\]]*)")


@dataclass(frozen=True)
class Proxy:
    """A proxy. As text it has no credentials, which must not be shown anywhere."""

    scheme: str
    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """Value of the header Proxy-Authorization; empty if the proxy asks for no login."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_for(host: str, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for https://`host` (with port, if it has one) of a program with this environment; None: there is none.

    A value that is no URL counts as none, as in Go.
    """
    name, _, port = host.partition(":")
    if _bypassed(name.lower(), port or "443", _first(environment, "NO_PROXY", "no_proxy")):
        return None
    return _parse(_first(environment, "HTTPS_PROXY", "https_proxy"))


def entry_for(host: str) -> str:
    """What to add to NO_PROXY so that no proxy is used for a host.

    Where the name holds an address it is the wildcard domain, which covers the hosts of the next stacks, too.
    """
    name = host.partition(":")[0]
    labels = name.split(".")
    for number, label in enumerate(labels[:-2]):
        if _ip(label.replace("-", ".")) or _ip(label.replace("-", ":")):
            return f".{'.'.join(labels[number + 1 :])}"
    return name


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _parse(value: str) -> Proxy | None:
    if not value:
        return None
    try:
        url = urlsplit(value)
        url = url if url.scheme and url.netloc else urlsplit(f"http://{value}")
        host, port = url.hostname or "", url.port or _PORTS.get(url.scheme, 80)
    except ValueError:
        return None
    login = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    authorization = f"Basic {b64encode(login.encode()).decode()}" if login != ":" else ""
    return Proxy(url.scheme, host, port, authorization) if host else None


def _bypassed(name: str, port: str, no_proxy: str) -> bool:
    """Whether a program asks for a host without a proxy."""
    ip = _ip(name)
    if name == "localhost" or (ip is not None and ip.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), name, ip, port) for entry in no_proxy.split(","))


def _matches(entry: str, name: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: str) -> bool:
    """Whether an entry of NO_PROXY is about a host: its name, which may be an IP address, and its port."""
    if entry == "*":
        return True
    if re.search(r"/\d+$", entry):
        try:
            return ip is not None and ip in ipaddress.ip_network(entry, strict=False)  # of names it says nothing
        except ValueError:
            pass
    split = _HOST_AND_PORT.fullmatch(entry)
    host, wanted = (split[1] or split[2] or "", split[3]) if split else (entry, "")
    if not host or wanted not in ("", port):
        return False
    if ip is not None:
        return _ip(host) == ip
    suffix = host.removeprefix("*") if host.startswith("*.") else host
    return name.endswith(suffix if suffix.startswith(".") else f".{suffix}") or name == suffix


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
