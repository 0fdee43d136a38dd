"""This machine's DNS: it is told what is wrong, and left alone if nothing is."""

import pytest

from registry.clients import local_dns


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
