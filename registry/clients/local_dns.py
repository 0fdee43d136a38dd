"""Whether the machine that runs the program resolves the registry's host, so that pushes from it can work.

What this deliberately does not do: it does not check what nodes resolve. The agent on each node does.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection

import pulumi

from ..hostname import is_ip_address, split_port

_TIMEOUT = 5.0
"""Seconds to wait for an answer."""


def warning(name: str, address: str, domain: str, found: Collection[str], reason: str) -> str:
    """What is wrong with this machine's DNS, and what to do; empty if nothing is.

    Args:
        name: The registry's DNS name.
        address: Address that the name should have; if it is a DNS name, addresses are not compared.
        domain: The wildcard-DNS domain that the name is in.
        found: Addresses that this machine finds for the name.
        reason: Why it finds none.
    """
    if found and (not is_ip_address(address) or ipaddress.ip_address(address) in map(ipaddress.ip_address, found)):
        return ""
    state = f"finds {', '.join(sorted(found))} instead of {address} for" if found else "has no address for"
    because = "" if found else f" ({reason})"
    return (
        f"This machine {state} the registry's host {name}{because}, so pushes from here will fail; the nodes look it "
        "up by themselves. Many routers and resolvers drop answers with private addresses (rebinding protection): "
        f"allow {domain} there, use another resolver, or set dnsSuffix to a wildcard domain of your own (pulumi config "
        f"set dnsSuffix registry.example.com). For this machine alone: echo '{address} {name}' | sudo tee -a /etc/hosts"
    )


async def look_up(name: str) -> tuple[set[str], str]:
    """Every address that this machine finds for a DNS name, or none and the reason."""
    try:
        question = asyncio.to_thread(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
        entries = await asyncio.wait_for(question, _TIMEOUT)
    except TimeoutError:
        return set(), f"no answer within {_TIMEOUT:.0f} s"
    except OSError as error:
        return set(), str(error.strerror or error)
    return {str(entry[4][0]) for entry in entries}, ""


def warn_if_unresolved(host: pulumi.Output[str], address: pulumi.Output[str], domain: str) -> None:
    """Warn if this machine does not resolve the registry's host. A preview does not ask.

    Args:
        host: The registry's host, as image references spell it.
        address: Address at which it is reached.
        domain: The wildcard-DNS domain of the host.
    """

    async def check(values: list[str]) -> None:
        name, expected = split_port(values[0])[0], values[1]
        found, reason = await look_up(name)
        text = warning(name, expected, domain, found, reason)
        if text:
            pulumi.log.warn(text)

    if not pulumi.runtime.is_dry_run():
        pulumi.Output.all(host, address).apply(check)
