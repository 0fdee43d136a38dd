"""Which proxy a Go program uses for the registry's host; `tests/cluster/test_proxies.py` compares with Go itself."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.hostname import is_ip_address, is_loopback, registry_host
from tests.unit.trust.agent.fixture_node import HOST
from trust.agent.proxies import Proxy, entry_for, proxy_for

PROXY = {"HTTPS_PROXY": "http://proxy.example:3128"}
LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
ADDRESSES = st.ip_addresses().map(str).filter(lambda text: is_ip_address(text) and not is_loopback(text))


def asks_proxy(host: str, no_proxy: str) -> bool:
    return proxy_for(host, {**PROXY, "NO_PROXY": no_proxy}) is not None


@pytest.mark.parametrize(
    "no_proxy",
    [
        "*",
        "nip.io",
        ".nip.io",
        "*.nip.io",
        "localhost, .NIP.io ,x",
        HOST,
        f".{HOST.partition('.')[2]}",
        f"{HOST}:443",
        ".nip.io:443",
        "nip.io:",
    ],
)
def test_entries_that_cover_the_host(no_proxy: str) -> None:
    assert not asks_proxy(HOST, no_proxy)
    assert not asks_proxy(f"{HOST}:443", no_proxy)


@pytest.mark.parametrize(
    "no_proxy",
    [
        "",
        "10.0.0.0/8,10.99.0.200",  # a name is no address, even if it holds one
        "0.0.0.0/0,::/0",
        "io.nip",
        "p.io",
        f"x.{HOST}",
        f".{HOST}",
        f"*.{HOST}",
        f"{HOST}:5000",
        "*nip.io",
        "nip.*",
        "nip.io;x",
        ":443",
        "[nip.io]",
    ],
)
def test_entries_that_do_not_cover_the_host(no_proxy: str) -> None:
    assert asks_proxy(HOST, no_proxy)


def test_addresses_are_covered_by_addresses_and_networks() -> None:
    for entry in ("10.0.0.0/8", "10.1.2.3", "10.1.2.3:443", "*"):
        assert not asks_proxy("10.1.2.3", entry)
    for entry in ("10.0.0.0/16", "10.1.2.4", "10.1.2.3:80", ".2.3", "2.3"):
        assert asks_proxy("10.1.2.3", entry)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1", "127.9.9.9:443"])
def test_the_machine_itself_is_never_asked_through_a_proxy(host: str) -> None:
    assert not asks_proxy(host, "")


def test_the_environment_names_the_proxy_in_either_case_and_only_the_one_for_https() -> None:
    proxy = Proxy("http", "proxy.example", 3128)
    assert proxy_for(HOST, PROXY) == proxy
    assert proxy_for(HOST, {"https_proxy": "http://proxy.example:3128"}) == proxy
    assert proxy_for(HOST, {**PROXY, "https_proxy": "http://other.example"}) == proxy
    assert proxy_for(HOST, {"HTTPS_PROXY": "", "https_proxy": "proxy.example:3128"}) == proxy
    assert proxy_for(HOST, {**PROXY, "no_proxy": "nip.io"}) is None
    assert proxy_for(HOST, {**PROXY, "NO_PROXY": "x", "no_proxy": "nip.io"}) == proxy
    for others in ({}, {"HTTP_PROXY": "http://p"}, {"ALL_PROXY": "http://p"}, {"Https_Proxy": "http://p"}):
        assert proxy_for(HOST, others) is None


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("proxy.example", Proxy("http", "proxy.example", 80)),
        ("https://proxy.example", Proxy("https", "proxy.example", 443)),
        ("socks5://10.0.0.1", Proxy("socks5", "10.0.0.1", 1080)),
        ("http://[2001:db8::1]:3128/", Proxy("http", "2001:db8::1", 3128)),
        ("http://user:p%40ss@proxy.example:1", Proxy("http", "proxy.example", 1, "Basic dXNlcjpwQHNz")),
        ("user:p@ss@proxy.example:1", Proxy("http", "proxy.example", 1, "Basic dXNlcjpwQHNz")),
        ("http://proxy.example:none", None),
        ("http://[", None),
    ],
)
def test_the_value_is_a_url_or_a_host_with_a_port(value: str, proxy: Proxy | None) -> None:
    assert proxy_for(HOST, {"HTTPS_PROXY": value}) == proxy


@settings(max_examples=50)
@given(user=LABELS, password=st.text("abcdefghij", min_size=8), scheme=st.sampled_from(["http://", "https://", ""]))
def test_credentials_are_never_shown(user: str, password: str, scheme: str) -> None:
    proxy = proxy_for(HOST, {"HTTPS_PROXY": f"{scheme}{user}:{password}@proxy.example:3128"})
    assert proxy is not None
    assert proxy.authorization
    for shown in (str(proxy), repr(proxy)):
        assert password not in shown
        assert proxy.authorization not in shown


@settings(max_examples=50)
@given(NAMES, st.lists(NAMES | ADDRESSES | st.text(".*:/[]a0", max_size=8)), st.integers(1, 65535))
def test_the_entry_to_add_always_helps(host: str, others: list[str], port: int) -> None:
    no_proxy = ",".join([*others, entry_for(f"{host}:{port}")])
    assert not asks_proxy(host, no_proxy)
    assert not asks_proxy(f"{host}:{port}", no_proxy)


@settings(max_examples=50)
@given(ADDRESSES, NAMES)
def test_the_entry_for_a_host_with_an_address_covers_the_whole_domain(address: str, domain: str) -> None:
    host = registry_host("registry-dev", address, domain)
    assert entry_for(host) == f".{domain}"
    assert not asks_proxy(host, f".{domain}")


@settings(max_examples=50)
@given(NAMES, ADDRESSES)
def test_networks_say_nothing_of_names(host: str, address: str) -> None:
    network = ipaddress.ip_network(f"{address}/8", strict=False)
    assert asks_proxy(host, f"{network},{network.network_address}")
    assert not asks_proxy(str(network.network_address), str(network)) or network.version == 6, "IPv6 needs brackets"


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        (HOST, ".nip.io"),
        (f"{HOST}:30500", ".nip.io"),
        ("registry.example.com", "registry.example.com"),
        ("abc-1-2.elb.eu.amazonaws.com:443", "abc-1-2.elb.eu.amazonaws.com"),
    ],
)
def test_the_entry_to_add(host: str, entry: str) -> None:
    assert entry_for(host) == entry
