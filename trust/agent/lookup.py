"""Looks a name up as the node's container runtime does: with the resolver files that it sees, as they are now.

The agent's own files are copies from when its pod was started. And the C library of its image may be musl, which finds
no address at all where DNS has one of version 4 and answers the question for version 6 with an error: many servers do,
such as dnsmasq's `address=` or CoreDNS's `template`. Runtimes are Go programs and take the address.
"""

import contextlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

_RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True)
class Answer:
    """What a lookup finds."""

    addresses: list[str]
    """IP addresses, those of version 4 first."""
    resolvers: list[str]
    """IP addresses of the DNS servers that were asked."""
    why: str = ""
    """Why there is no address; empty if there is one."""


def look_up(name: str, root: Path | None = None) -> Answer:
    """Look up a name with the resolver files below `root`; None: with those of this process."""
    if root is None:
        return _ask(name)
    reader, writer = os.pipe()
    child = os.fork()  # only another process may have another root
    if child == 0:
        try:
            os.write(writer, json.dumps(asdict(_ask_below(name, root))).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return Answer(**json.loads(text)) if text else Answer([], [], "the lookup ended without an answer")


def _ask_below(name: str, root: Path) -> Answer:
    try:
        os.chroot(root)
    except OSError as error:
        return Answer([], [], str(error))
    return _ask(name)


def _ask(name: str) -> Answer:
    addresses: list[str] = []
    why = ""
    for family in (socket.AF_INET, socket.AF_INET6):  # never both at once, since one may spoil the other
        try:
            found = socket.getaddrinfo(name.encode(), None, family, socket.SOCK_STREAM)
            addresses += dict.fromkeys(str(entry[4][0]) for entry in found)
        except OSError as error:
            why = why or error.strerror or str(error)
    return Answer(addresses, _resolvers(), "" if addresses else why)


def _resolvers() -> list[str]:
    with contextlib.suppress(OSError):
        lines = (line.split() for line in _RESOLV_CONF.read_text(errors="replace").splitlines())
        return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return []
