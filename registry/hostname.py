"""The names of a stack's namespace and of its registry's host.

The host is made from the namespace and from the address at which the cluster is reached. A cluster has one namespace of
a name, so no two stacks of a cluster have the same host.

What this deliberately does not do: it resolves no names and asks no cluster. It is pure, so that a preview, an update
and a test agree on the result. It runs with Python 3.9 and the standard library, because `registry.clients` uses it.
"""

import hashlib
import ipaddress
import re
from collections.abc import Sequence

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


def is_loopback(address: str) -> bool:
    """Whether an address or a name is one under which every machine reaches itself."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        name = address.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def split_port(host: str) -> tuple[str, int]:
    """Name and TCP port of a host as image references spell it: 443 where it says none."""
    name, _, port = host.partition(":")
    return name, int(port or HTTPS)


def with_port(name: str, port: int) -> str:
    """A host as image references spell it: without a port where that is 443."""
    return name if port == HTTPS else f"{name}:{port}"


def named_after(name: str, *traits: str) -> str:
    """The name of an object that keeps some traits for life: with another one, the new is made before the old one goes.

    Args:
        name: What its name begins with.
        traits: What it keeps, such as the host that it serves.
    """
    return f"{name}-{hashlib.sha256('/'.join(traits).encode()).hexdigest()[:8]}"


def registry_label(namespace: str) -> str:
    """The first label of the registry's host name, made from the namespace and safe for wildcard-DNS services.

    A namespace whose name begins with `registry-` is its own label, and so is `registry`. Two rules keep a service such
    as nip.io from reading part of it as the address: the label never ends in a word of hexadecimal digits
    (`registry-pr-42` becomes `registry-pr-42-r`, since a parser may join `42` with the address behind the dot), and
    holds no address of its own (`registry-1-2-3-4` becomes `registry-x1-x2-x3-x4-<digest>`). Whatever is changed in
    another way, or gets the prefix, gets a digest of the whole name, so that different namespaces have different
    labels.

    Args:
        namespace: A namespace's name: lower-case letters, digits and inner dashes, 1 to 63 characters.
    """
    first, *rest = words = re.findall(r"[a-z0-9]+", namespace)
    kept = first == _PREFIX and "-".join(words) == namespace and not _ADDRESS_LIKE.search(namespace)
    if kept and not namespace.endswith(_END):
        label = namespace + (_END if _HEX_WORD.fullmatch(words[-1]) else "")
        if len(label) <= MAX_LABEL:
            return label
    return _safe(rest if first == _PREFIX else words, _digest(namespace))


def stack_namespace(stack: str, instance: str) -> str:
    """The name of a stack's namespace where the settings name none: `registry-<stack>-<letters>`.

    It is a label as `registry_label` makes them, so that namespace and host share it. Two stacks of one name have
    different instances, and so different letters.

    Args:
        stack: A Pulumi stack's name: letters, digits, `-`, `_` and `.`, 1 to 100 characters.
        instance: The id of this instance of the stack.
    """
    words = re.findall(r"[a-z0-9]+", stack.lower())
    words = words[1:] if words[:1] == [_PREFIX] else words
    return _safe(words, _digest(instance), plain=not _ADDRESS_LIKE.search("-".join(words)))


def _safe(words: Sequence[str], digest: str, *, plain: bool = False) -> str:
    """`registry-<words>-<digest>`; unless the words are plain, a letter before each hexadecimal one makes it no such.

    The digest has no hexadecimal digit, so a hexadecimal word before it does no harm unless it is part of an address.
    """
    text = "-".join(word if plain or not _HEX_WORD.fullmatch(word) else f"x{word}" for word in words)
    room = MAX_LABEL - len(_PREFIX) - _DIGEST_LENGTH - 2
    kept = text[:room].split("-")
    while len(text) > room and kept and (not kept[-1] or _HEX_WORD.fullmatch(kept[-1])):
        kept.pop()  # what is cut off may leave a hexadecimal word
    return "-".join(filter(None, [_PREFIX, *kept, digest]))


def _digest(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return "".join(_DIGEST_ALPHABET[(number >> 4 * i) % 16] for i in range(_DIGEST_LENGTH))


def placeholder_host(namespace: str) -> str:
    """A host that nobody can ask for (RFC 2606) and that no other stack has: some controllers refuse a host twice."""
    return f"{namespace}.placeholder.invalid"


def registry_host(namespace: str, address: str, dns_suffix: str) -> str:
    """The registry's host name for an address: `<label>.<dashed address>.<dns_suffix>`, or the address itself.

    An IPv6 address is written in full, `2001-0db8-0000-0000-0000-0000-0000-0001`: no word of it can be read as part of
    an IPv4 address, and no label begins, ends or has its third and fourth character as a dash (RFC 5891, 4.2.3.1). The
    services parse it like any other form (sslip.io's xip.go, which serves nip.io as well).

    A load balancer that has a host name instead of an address (AWS) is reached under that name, and so is the registry.

    Args:
        namespace: The stack's namespace, from which the label is made.
        address: An IPv4 or IPv6 address, or a DNS name.
        dns_suffix: A wildcard-DNS domain such as `nip.io`, whose names resolve to the address they hold.

    Raises:
        ValueError: `address` is none of these, or means another machine for everyone.
    """
    if is_loopback(address):
        msg = (
            f"The cluster publishes the address {address!r}, under which every machine reaches itself. Set address to "
            "one that nodes and clients reach (pulumi config set address 192.0.2.10); for kind and for MicroK8s, that "
            "is the address of the node with the Ingress controller: kubectl get nodes -o wide."
        )
        raise ValueError(msg)
    if is_ip_address(address):
        ip = ipaddress.ip_address(address)
        dashed = ip.exploded.replace(":", "-").replace(".", "-")
        return f"{registry_label(namespace)}.{dashed}.{dns_suffix}"
    name = address.lower().rstrip(".")
    if not is_host_name(name):
        msg = (
            f"The cluster is reached at {address!r}, and a registry's host needs an IPv4 or IPv6 address or a DNS "
            "name. Set address to one of these (pulumi config set address 192.0.2.10)."
        )
        raise ValueError(msg)
    return name
