"""The registry's host name, made from the stack's name and the load balancer's address.

What this deliberately does not do: resolve names, or ask a cluster. It is pure, so that a preview, the program
and a test agree on the result.
"""

import hashlib
import ipaddress
import re

MAX_LABEL = 63
"""Longest DNS label in octets (RFC 1035, section 2.3.4)."""

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
    """The registry's host name for a load balancer's IPv4 address: `registry-<stack>.<dashed address>.<dns_suffix>`.

    Args:
        stack: The Pulumi stack's name.
        address: An IPv4 address in dotted form.
        dns_suffix: A wildcard-DNS domain such as `nip.io`, whose names resolve to the address they hold.

    Raises:
        ValueError: `address` is not an IPv4 address, or is the unspecified one.
    """
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError:
        ip = None
    if ip is None or ip.is_unspecified:
        msg = (
            f"The Ingress's load balancer has the address {address!r}, and a {dns_suffix} name can hold only an IPv4 "
            "address; use a load balancer that gives one."
        )
        raise ValueError(msg)
    return f"{registry_label(stack)}.{str(ip).replace('.', '-')}.{dns_suffix}"
