"""Whether the machine that runs the program finds the registry's host, so that pushes from it can work.

Some load balancers have a name instead of an address, and DNS knows it minutes later (on AWS). Resolvers remember for a
while that a name does not exist, so no node is asked to pull before this machine has found the name.
What this deliberately does not do: it does not check what nodes resolve. The agent on each node does.
"""

import asyncio
import ipaddress
import socket
import time
import urllib.request
from collections.abc import Collection
from typing import Any, cast

import pulumi

from ..hostname import is_ip_address, split_port
from ..settings import Settings
from ..waiting import seconds_of

_TIMEOUT = 5.0
"""Seconds to wait for an answer."""
_INTERVAL = 5.0
"""Seconds between two questions for a name that is not known yet."""
_REMIND = 60.0
"""Seconds after which it is said again that the name is not known yet."""


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
    if not is_ip_address(address):
        return (
            f"This machine has no address for the registry's host {name} ({reason}), so pushes from here will fail; "
            "the nodes look it up by themselves. If the load balancer is new, its name takes a few minutes (a longer "
            "addressTimeout waits for it). If it is private, only its own network may know the name."
        )
    state = f"finds {', '.join(sorted(found))} instead of {address} for" if found else "has no address for"
    because = "" if found else f" ({reason})"
    return (
        f"This machine {state} the registry's host {name}{because}, so pushes from here will fail; the nodes look it "
        "up by themselves. Many routers and resolvers drop answers with private addresses (rebinding protection): "
        f"allow {domain} there, use another resolver, or set dnsSuffix to a wildcard domain of your own (pulumi config "
        f"set dnsSuffix registry.example.com). For this machine alone: echo '{address} {name}' | sudo tee -a /etc/hosts"
    )


def own_host_warning(name: str, address: str, kept: Collection[str], found: Collection[str], reason: str) -> str:
    """What is wrong with the DNS entry of a host that the settings name, and what to do; empty if nothing is.

    While the way in changes, nodes and clients still reach the registry at the old one, where nothing is wrong yet.

    Args:
        name: The host's DNS name.
        address: Address that the name should have; if it is a DNS name, addresses are not compared.
        kept: The addresses that were in use before this `up`.
        found: Addresses that this machine finds for the name.
        reason: Why it finds none.
    """
    if is_ip_address(address) and ipaddress.ip_address(address) in map(ipaddress.ip_address, found):
        return ""
    if kept and address not in kept:
        return (
            f"The registry's host {name} is served at {address} from now on, and at {' and '.join(sorted(kept))}, "
            "where it was, until the end of this up at most: let its DNS entry lead to the new address now, or pulls "
            "and pushes fail then."
        )
    if found and not is_ip_address(address):
        return ""
    state = f"finds {', '.join(sorted(found))} for" if found else "has no address for"
    because = "" if found else f" ({reason})"
    return (
        f"This machine {state} the registry's host {name}{because}, and the registry is reached at {address}. Unless a "
        f"NAT stands between, pushes from here will fail; the nodes look it up by themselves. Let the DNS entry of "
        f"{name} lead to {address}; where a resolver drops private addresses (rebinding protection), allow it there."
    )


def proxy_warning(name: str, address: str, domain: str) -> str:
    """What to do if this machine's programs would ask a proxy for a private address; empty if they would not.

    Args:
        name: The registry's DNS name.
        address: Address at which it is reached.
        domain: The wildcard-DNS domain that the name may be in.
    """
    if not is_ip_address(address) or not ipaddress.ip_address(address).is_private:
        return ""
    proxies = urllib.request.getproxies_environment()
    without = {"no": proxies.get("no", "").replace("*.", ".")}  # what *.example.com means to Go programs
    if "https" not in proxies or cast(Any, urllib.request).proxy_bypass_environment(name, without):
        return ""
    entry = f".{domain}" if name.endswith(f".{domain}") else name
    return (
        f"Programs on this machine ask for the registry's host {name} through the proxy that HTTPS_PROXY names, and "
        f"its address {address} is private. If pushes from here fail, add {entry} to NO_PROXY: export "
        f'NO_PROXY="$NO_PROXY,{entry}"; a network such as 10.0.0.0/8 there does not cover names.'
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


async def wait_for(name: str, timeout: str) -> tuple[set[str], str]:
    """What `look_up` finds once it finds something, or at the end of the time, such as `10m`."""
    began = time.monotonic()
    said = began - _REMIND
    while True:
        found, reason = await look_up(name)
        now = time.monotonic()
        if found or now - began > seconds_of(timeout):
            return found, reason
        if now - said >= _REMIND:
            pulumi.log.info(
                f"Waiting until DNS knows {name} ({reason}): a new load balancer's name takes a few minutes. So far "
                f"{now - began:.0f} s of {timeout} (the setting addressTimeout)."
            )
            said = now
        await asyncio.sleep(_INTERVAL)


def resolved(
    host: pulumi.Output[str], address: pulumi.Output[str], settings: Settings, kept: Collection[str]
) -> pulumi.Output[str]:
    """The host, once nodes may be asked to pull from it; with a warning if this machine does not resolve it.

    If its address is a name, this is when this machine has found that in DNS, or else at the end of the time, since the
    machine may be outside of the network that knows it. A preview does not ask.

    Args:
        host: The registry's host, as image references spell it.
        address: Address at which it is reached.
        settings: The settings.
        kept: The addresses that were in use before this `up`.
    """

    async def check(values: list[str]) -> str:
        if pulumi.runtime.is_dry_run():
            return values[0]
        name, expected = split_port(values[0])[0], values[1]
        is_name = not is_ip_address(expected)
        found, reason = await (wait_for(name, settings.known_within) if is_name else look_up(name))
        domain = settings.dns_suffix
        if settings.host:
            wrong = own_host_warning(name, expected, kept, found, reason)
        else:
            wrong = warning(name, expected, domain, found, reason)
        for text in (wrong, proxy_warning(name, expected, domain)):
            if text:
                pulumi.log.warn(text)
        return values[0]

    return pulumi.Output.all(host, address).apply(check)
