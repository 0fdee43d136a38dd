"""The host name keeps DNS's limits and is never misread by a wildcard-DNS service."""

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.hostname import (
    MAX_LABEL,
    is_dns_name,
    is_loopback,
    placeholder_host,
    registry_host,
    registry_label,
    split_port,
    stack_namespace,
    with_port,
)

_ADDRESS_LIKE = st.lists(
    st.one_of(st.integers(0, 300).map(str), st.from_regex(r"[0-9a-f]{1,8}", fullmatch=True)), min_size=1, max_size=12
).map("-".join)
STACKS = st.from_regex(r"[A-Za-z0-9_.-]{1,100}", fullmatch=True) | _ADDRESS_LIKE
INSTANCES = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)
_LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True) | _ADDRESS_LIKE
NAMESPACES = (_LABELS | _LABELS.map("registry-{}".format)).filter(lambda name: len(name) <= 63) | st.builds(
    stack_namespace, STACKS, INSTANCES
)
"""Namespaces' names: of users' own, and of those that the program makes."""
ADDRESSES = st.ip_addresses(v=4).filter(lambda ip: not ip.is_unspecified and not ip.is_loopback).map(str)

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_HEXTET = r"[0-9a-f]{1,4}"


def addresses_seen(host: str, suffix: str) -> set[str]:
    """Every address that a parser may see in a host: a model wider than any one service.

    Dotted, dashed and mixed IPv4, eight hexadecimal digits, and dashed IPv6, at any boundary (sslip.io's xip.go; nip.io
    is served by the same code; its former one took the last four parts split at both signs).
    """
    name = host.removesuffix("." + suffix)
    seen: set[str] = set()
    for match in re.finditer(rf"(?=(?:^|[.-])({_OCTET}(?:[.-]{_OCTET}){{3}})(?:$|[.-]))", name):
        seen.add(re.sub("[.-]", ".", match.group(1)))
    for match in re.finditer(r"(?=(?:^|[.-])([0-9a-f]{8})(?:$|[.-]))", name):
        seen.add(match.group(1))
    for match in re.finditer(rf"(?=(?:^|[.-])({_HEXTET}(?:-{_HEXTET}){{7}}|[0-9a-f-]*--[0-9a-f-]*)(?:$|[.-]))", name):
        seen.add(match.group(1))
    return seen


@given(NAMESPACES, ADDRESSES)
@example("1-2-3-4", "10.0.0.1")
@example("registry-1-2-3-4", "10.0.0.1")
@example("registry-pr-42", "10.0.0.1")
@example("registry-deadbeef", "10.0.0.1")
@example("registry-a-b-c-d-e-f-1-2", "10.0.0.1")
@example("registry-a--1", "10.0.0.1")
@example("x" * 51 + "-1-2", "10.0.0.1")
@example(stack_namespace("x" * 35 + "-1-2-3-45z", "0123456789ab"), "10.0.0.1")
@example(stack_namespace("-.-", "0123456789ab"), "10.0.0.1")
def test_a_wildcard_dns_service_sees_the_address_and_nothing_else(namespace: str, address: str) -> None:
    assert addresses_seen(registry_host(namespace, address, "nip.io"), "nip.io") == {address}


@given(NAMESPACES, ADDRESSES)
def test_every_host_is_a_legal_dns_name(namespace: str, address: str) -> None:
    for host in (registry_host(namespace, address, "nip.io"), placeholder_host(namespace)):
        assert is_dns_name(host)
        assert all(len(label) <= MAX_LABEL for label in host.split("."))


@given(st.lists(NAMESPACES, min_size=2, max_size=20, unique=True))
@example(["registry-pr-42", "registry-pr-42-r"])
@example(["dev", "registry-dev", "registry"])
@example(["registry-a-b", "registry-a--b", "a-b", "a--b"])
@example(["registry-1-2-3-4", "registry-x1-x2-x3-x4", "1-2-3-4"])
def test_two_namespaces_never_share_a_host(namespaces: list[str]) -> None:
    assert len({registry_label(namespace) for namespace in namespaces}) == len(namespaces)
    assert len({placeholder_host(namespace) for namespace in namespaces}) == len(namespaces)


@pytest.mark.parametrize(
    ("namespace", "label"),
    [
        ("registry", "registry"),
        ("registry-dev", "registry-dev"),
        ("registry-pr-42", "registry-pr-42-r"),
        ("registry-feature-login", "registry-feature-login"),
        ("registry-v2", "registry-v2"),
    ],
)
def test_a_plain_namespace_stays_readable(namespace: str, label: str) -> None:
    assert registry_label(namespace) == label


@given(NAMESPACES)
def test_the_prefix_is_there_once(namespace: str) -> None:
    label = registry_label(namespace)
    assert label == "registry" or label.startswith("registry-")
    assert not label.startswith("registry-registry") or namespace.startswith("registry-registry")


@given(STACKS, INSTANCES)
@example("registry-dev", "0123456789ab")
@example("Feature_X.long" * 7, "0123456789ab")
def test_the_namespace_that_a_stack_makes_is_the_hosts_label(stack: str, instance: str) -> None:
    namespace = stack_namespace(stack, instance)
    assert registry_label(namespace) == namespace
    assert re.fullmatch("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace)


@given(STACKS, st.lists(INSTANCES, min_size=2, max_size=10, unique=True))
def test_two_stacks_of_one_name_have_two_namespaces(stack: str, instances: list[str]) -> None:
    assert len({stack_namespace(stack, instance) for instance in instances}) == len(instances)


def test_the_namespace_of_a_stack_is_readable() -> None:
    assert re.fullmatch("registry-pr-42-[g-z]{6}", stack_namespace("pr-42", "0123456789ab"))


def test_the_address_is_dashed() -> None:
    assert registry_host("registry-dev", "192.168.1.40", "nip.io") == "registry-dev.192-168-1-40.nip.io"


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("2001:db8::1", "2001-0db8-0000-0000-0000-0000-0000-0001"),
        ("::2", "0000-0000-0000-0000-0000-0000-0000-0002"),
        ("fd00:1:2:3:4::", "fd00-0001-0002-0003-0004-0000-0000-0000"),
    ],
)
def test_an_ipv6_address_is_written_in_full(address: str, label: str) -> None:
    assert registry_host("registry-dev", address, "sslip.io") == f"registry-dev.{label}.sslip.io"


@given(NAMESPACES, st.ip_addresses(v=6).filter(lambda ip: not ip.is_unspecified and not is_loopback(str(ip))))
@example("registry-pr-1", ipaddress.IPv6Address("1:2:3:4:5:6:7:8"))
@example("registry-1-2-3-4", ipaddress.IPv6Address("::ffff:10.0.0.1"))
def test_a_wildcard_dns_service_sees_the_ipv6_address_and_no_ipv4_one(
    namespace: str, ip: ipaddress.IPv6Address
) -> None:
    host = registry_host(namespace, str(ip), "nip.io")
    assert is_dns_name(host)
    (seen,) = addresses_seen(host, "nip.io")
    assert ipaddress.IPv6Address(seen.replace("-", ":")) == ip
    assert not any(label.startswith("-") or label.endswith("-") or label[2:4] == "--" for label in host.split("."))


@pytest.mark.parametrize("address", ["lb.example.com", "LB.Example.com", "lb.example.com."])
def test_a_load_balancers_host_name_is_the_registrys(address: str) -> None:
    assert registry_host("registry-dev", address, "nip.io") == "lb.example.com"


@pytest.mark.parametrize("host", ["a.example.com", "a.example.com:8443"])
def test_port_and_name_come_apart_and_together(host: str) -> None:
    assert with_port(*split_port(host)) == host
    assert with_port("a.example.com", 443) == "a.example.com"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST.", "kind.localhost"],
)
def test_an_address_under_which_every_machine_reaches_itself_is_refused_with_the_setting_that_helps(
    address: str,
) -> None:
    with pytest.raises(ValueError, match=rf"{re.escape(repr(address))}.*reaches itself.*config set address"):
        registry_host("registry-dev", address, "nip.io")


@given(st.ip_addresses())
def test_only_loopback_addresses_are_refused_for_reaching_oneself(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    assert is_loopback(str(ip)) == (str(mapped or ip).startswith("127.") or str(ip) == "::1")


@pytest.mark.parametrize(
    "address", ["", "0.0.0.0", "::", "localhost", "kind.localhost", "fe80::1%eth0", "1.2.3", "1.2.3.4.5", "lb"]
)
def test_what_is_no_address_is_refused_by_name(address: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(address))):
        registry_host("registry-dev", address, "nip.io")
