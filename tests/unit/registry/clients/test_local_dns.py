"""This machine's DNS: it is told what is wrong, and left alone if nothing is."""

import time
from typing import Any

import pulumi
import pytest

from registry.clients import local_dns
from tests.unit.support.engine import Recorder, run_component
from tests.unit.support.settings import having


@pytest.mark.parametrize(
    ("found", "reason", "part"),
    [
        (set[str](), "Name or service not known", "has no address for the registry's host r.10-0-0-1.nip.io (Name"),
        ({"0.0.0.0"}, "", "finds 0.0.0.0 instead of 10.0.0.1 for"),
    ],
)
def test_a_machine_that_does_not_find_the_registry_is_told_so(found: set[str], reason: str, part: str) -> None:
    text = local_dns.warning("r.10-0-0-1.nip.io", "10.0.0.1", "nip.io", found, reason)
    assert part in text
    assert "(rebinding protection): allow nip.io there" in text
    assert "echo '10.0.0.1 r.10-0-0-1.nip.io'" in text


def test_a_machine_that_finds_the_registry_is_left_alone() -> None:
    assert local_dns.warning("r.10-0-0-1.nip.io", "10.0.0.1", "nip.io", {"10.0.0.1"}, "") == ""
    assert local_dns.warning("r.example.com", "2001:DB8:0::1", "example.com", {"2001:db8::1"}, "") == ""
    assert local_dns.warning("lb.example.com", "lb.example.com", "nip.io", {"203.0.113.1"}, "") == ""


def test_an_own_host_whose_entry_leads_there_or_cannot_be_compared_is_left_alone() -> None:
    for kept in ((), {"10.0.0.1"}, {"10.0.0.2"}):
        assert local_dns.own_host_warning("r.example.com", "10.0.0.2", kept, {"10.0.0.2"}, "") == ""
    lb = "lb.example.net"
    assert local_dns.own_host_warning("r.example.com", lb, {lb}, {"203.0.113.1"}, "") == ""


def test_an_own_host_whose_way_in_moves_is_told_to_move_its_entry_before_the_old_way_in_goes() -> None:
    for address, found in (("10.0.0.2", {"10.0.0.1"}), ("10.0.0.2", set[str]()), ("lb.example.net", {"10.0.0.1"})):
        text = local_dns.own_host_warning("r.example.com", address, {"10.0.0.1"}, found, "")
        assert f"host r.example.com is served at {address} from now on, and at 10.0.0.1, where it was, until" in text
        assert "let its DNS entry lead to the new address now" in text


@pytest.mark.parametrize(("found", "part"), [(set[str](), "has no address for"), ({"10.0.0.9"}, "finds 10.0.0.9 for")])
def test_an_own_host_whose_entry_leads_elsewhere_is_told_where_it_has_to_lead(found: set[str], part: str) -> None:
    text = local_dns.own_host_warning("r.example.com", "10.0.0.1", {"10.0.0.1"}, found, "Name unknown")
    assert f"This machine {part} the registry's host r.example.com" in text
    assert "Let the DNS entry of r.example.com lead to 10.0.0.1" in text
    assert "dnsSuffix" not in text


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any word of proxies."""
    for name in ("https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


HOST, ADDRESS = "r.10-0-0-1.nip.io", "10.0.0.1"


@pytest.mark.parametrize("no_proxy", ["", "10.0.0.0/8,localhost", "example.com"])
def test_a_machine_whose_proxy_would_be_asked_is_told_what_to_add(
    environment: pytest.MonkeyPatch, no_proxy: str
) -> None:
    environment.setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
    environment.setenv("NO_PROXY", no_proxy)
    text = local_dns.proxy_warning(HOST, ADDRESS, "nip.io")
    assert "add .nip.io to NO_PROXY" in text
    assert "secret" not in text
    assert "add registry.test to NO_PROXY" in local_dns.proxy_warning("registry.test", ADDRESS, "nip.io")
    assert local_dns.proxy_warning("lb.example.test", "lb.example.test", "nip.io") == ""
    assert local_dns.proxy_warning("r.8-8-8-8.nip.io", "8.8.8.8", "nip.io") == "", "a proxy may well lead there"


@pytest.mark.parametrize("no_proxy", ["*", "nip.io", ".nip.io", "*.nip.io", "a, .NIP.IO", HOST])
def test_a_machine_without_a_proxy_for_the_host_is_left_alone(environment: pytest.MonkeyPatch, no_proxy: str) -> None:
    assert local_dns.proxy_warning(HOST, ADDRESS, "nip.io") == ""
    environment.setenv("https_proxy", "http://proxy.example:3128")
    environment.setenv("no_proxy", no_proxy)
    assert local_dns.proxy_warning(HOST, ADDRESS, "nip.io") == ""


class Resolver:
    """A resolver that knows a name after some questions."""

    def __init__(self, *answers: set[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def look_up(self, name: str) -> tuple[set[str], str]:
        self.asked.append(name)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return found, "" if found else "Name or service not known"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(local_dns, "_INTERVAL", 0.01)
    monkeypatch.setattr(pulumi.log, "info", lines.append)
    monkeypatch.setattr(pulumi.log, "warn", lines.append)
    return lines


def resolved(monkeypatch: pytest.MonkeyPatch, resolver: Resolver, address: str, **values: str) -> str:
    """The host, once nodes may be asked."""
    monkeypatch.setattr(local_dns, "look_up", resolver.look_up)

    def make() -> dict[str, Any]:
        host, reached = pulumi.Output.from_input("lb.example.com:8443"), pulumi.Output.from_input(address)
        return {"host": local_dns.resolved(host, reached, having(**values), {"10.0.0.2"})}

    return run_component(Recorder(), make)["host"]


def test_the_name_of_a_load_balancer_is_waited_for_until_dns_knows_it(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    resolver = Resolver(set(), set(), {"203.0.113.1"})
    assert resolved(monkeypatch, resolver, "lb.example.com") == "lb.example.com:8443"
    assert resolver.asked == ["lb.example.com"] * 3
    [line] = said
    assert "Waiting until DNS knows lb.example.com" in line
    assert "of 10m (the setting addressTimeout)" in line


def test_after_the_time_the_nodes_are_asked_all_the_same(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    began = time.monotonic()
    resolved(monkeypatch, Resolver(set()), "lb.example.com", address_timeout="1s")
    assert 1 < time.monotonic() - began < 10
    assert "only its own network may know the name" in said[-1]


def test_a_name_that_is_made_from_an_address_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    resolver = Resolver(set())
    resolved(monkeypatch, resolver, "10.0.0.1")
    assert len(resolver.asked) == 1
    assert "rebinding protection" in said[0]


def test_a_host_of_the_settings_is_warned_of_the_way_in_that_goes(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    resolved(monkeypatch, Resolver({"10.0.0.2"}), "10.0.0.1", host="lb.example.com:8443")
    [line] = said
    assert "served at 10.0.0.1 from now on, and at 10.0.0.2, where it was" in line
