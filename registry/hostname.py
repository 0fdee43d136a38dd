"""The registry's host name, made from the stack's name and the address at which the cluster is reached.

What this deliberately does not do: it resolves no names and asks no cluster. It is pure, so that a preview, an update
and a test agree on the result. It runs with Python 3.9 and the standard library, because `registry.clients` uses it.
"""

import hashlib
import ipaddress
import re

MAX_LABEL = 63
"""Longest DNS label in octets (RFC 1035, section 2.3.4)."""

HTTPS = 443
"""The TCP port that an image reference without a port means."""

_PREFIX = "registry"
_DNS_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_HEX_WORD = re.compile(r"[0-9a-f]+")
# What a wildcard-DNS service may take for an address inside a label: four decimal or eight hexadecimal words in a row
# (dashed IPv4 and IPv6), or one word of eight hexadecimal digits.
_ADDRESS_LIKE = re.compile(
    r"(^|-)([0-9]{1,3}(-[0-9]{1,3}){3}|[0-9a-f]{1,4}(-[0-9a-f]{1,4}){7}|[0-9a-f]{8}|[0-9a-f]{32})(-|$)"
)
_DIGEST_ALPHABET = "ghjkmnpqrstvwxyz"  # 16 letters, none of them a hexadecimal digit
_DIGEST_LENGTH = 6
_END = "-r"


def is_dns_name(text: str) -> bool:
    """Whether `text` is a lower-case DNS name of legal labels (RFC 1123)."""
    return _DNS_NAME.fullmatch(text) is not None


def is_host_name(text: str) -> bool:
    """Whether `text` is a DNS name that an image reference takes for a host: of two labels or more, and no number."""
    return is_dns_name(text) and "." in text and not text.rpartition(".")[2].isdigit()


def is_ip_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address that means the same on every machine: no zone, not unspecified."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not ip.is_unspecified and "%" not in text


def split_port(host: str) -> tuple[str, int]:
    """Name and TCP port of a host as image references spell it: 443 where it says none."""
    name, _, port = host.partition(":")
    return name, int(port or HTTPS)


def with_port(name: str, port: int) -> str:
    """A host as image references spell it: without a port where that is 443."""
    return name if port == HTTPS else f"{name}:{port}"


def registry_label(stack: str) -> str:
    """The first label of the registry's host name: `registry-<stack>`, made safe for DNS and wildcard-DNS services.

    A stack name that is a DNS label already is kept as it is. Two rules keep a service such as nip.io from reading
    part of it as the address: the label never ends in a word of hexadecimal digits (`pr-42` becomes
    `registry-pr-42-r`, since a parser may join `42` with the address behind the dot), and holds no address of its own
    (`1-2-3-4` becomes `registry-x1-x2-x3-x4-<digest>`). Whatever is changed, shortened or folded to lower case gets a
    digest of the whole name, so that different stacks have different hosts.

    Args:
        stack: A Pulumi stack's name: letters, digits, `-`, `_` and `.`, 1 to 100 characters.
    """
    words = re.findall(r"[a-z0-9]+", stack.lower())
    text = "-".join(words)
    kept = text == stack and not _ADDRESS_LIKE.search(text) and not f"-{text}".endswith(_END)
    if kept:
        label = f"{_PREFIX}-{text}"
        if _HEX_WORD.fullmatch(words[-1]):
            label += _END
        if len(label) <= MAX_LABEL:
            return label
    safe = "-".join(f"x{word}" if _HEX_WORD.fullmatch(word) else word for word in words)
    room = MAX_LABEL - len(_PREFIX) - _DIGEST_LENGTH - 2
    return "-".join(filter(None, [_PREFIX, _cut(safe, room), _digest(stack)]))


def _cut(text: str, length: int) -> str:
    """At most `length` characters of `text`, none of its last words cut down to hexadecimal digits."""
    words = text[:length].split("-")
    while words and (not words[-1] or _HEX_WORD.fullmatch(words[-1])):
        words.pop()
    return "-".join(words)


def _digest(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return "".join(_DIGEST_ALPHABET[(number >> 4 * i) % 16] for i in range(_DIGEST_LENGTH))


def registry_host(stack: str, address: str, dns_suffix: str) -> str:
    """The registry's host name for an address: `registry-<stack>.<dashed address>.<dns_suffix>`, or the address itself.

    An IPv6 address is written in full, `2001-0db8-0000-0000-0000-0000-0000-0001`: no word of it can be read as part of
    an IPv4 address, and no label begins, ends or has its third and fourth character as a dash (RFC 5891, 4.2.3.1). The
    services parse it like any other form (sslip.io's xip.go, which serves nip.io as well).

    A load balancer that has a host name instead of an address (AWS) is reached under that name, and so is the registry.

    Args:
        stack: The Pulumi stack's name.
        address: An IPv4 or IPv6 address, or a DNS name.
        dns_suffix: A wildcard-DNS domain such as `nip.io`, whose names resolve to the address they hold.

    Raises:
        ValueError: `address` is none of these, or is a name that means another machine for everyone.
    """
    if is_ip_address(address):
        ip = ipaddress.ip_address(address)
        dashed = ip.exploded.replace(":", "-").replace(".", "-")
        return f"{registry_label(stack)}.{dashed}.{dns_suffix}"
    name = address.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        msg = (
            f"The Ingress controller publishes the address {address!r}, under which every machine reaches itself. Set "
            "address to one that nodes and clients reach (pulumi config set address 192.0.2.10); for kind, that is the "
            "address of the node with the Ingress controller: kubectl get nodes -o wide."
        )
        raise ValueError(msg)
    if not is_host_name(name):
        msg = (
            f"The cluster is reached at {address!r}, and a registry's host needs an IPv4 or IPv6 address or a DNS "
            "name. Set address to one of these (pulumi config set address 192.0.2.10)."
        )
        raise ValueError(msg)
    return name
