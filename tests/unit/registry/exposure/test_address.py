"""Addresses: which of several is taken, and what to do when there is none."""

import pytest

from registry.exposure.address import NO_LOAD_BALANCER, choose_address, no_address


@pytest.mark.parametrize(
    ("found", "address"),
    [
        (["10.0.0.9", "10.0.0.10"], "10.0.0.9"),
        (["2001:db8::1", "10.0.0.1"], "10.0.0.1"),
        (["lb.example.com", "2001:db8::1"], "2001:db8::1"),
        (["b.example.com", "a.example.com"], "a.example.com"),
        ([], ""),
    ],
)
def test_the_address_of_several_does_not_depend_on_their_order(found: list[str], address: str) -> None:
    assert choose_address(found) == choose_address(found[::-1]) == address


@pytest.mark.parametrize(
    ("found", "address"),
    [
        (["10.0.0.1", "10.0.0.9"], "10.0.0.9"),
        (["10.0.0.1", "lb.example.com"], "lb.example.com"),
        (["10.0.0.9", "10.0.0.8", "lb.example.com"], "10.0.0.9"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.1"),
    ],
)
def test_an_address_in_use_goes_before_all_others(found: list[str], address: str) -> None:
    kept = {"10.0.0.9", "lb.example.com"}
    assert choose_address(found, kept) == choose_address(found[::-1], kept) == address


def test_an_address_that_does_not_come_has_a_reason_and_fixes_that_help() -> None:
    text = no_address("The registry's Service", "2m", NO_LOAD_BALANCER)
    assert "nothing in this cluster gives addresses" in text
    assert "within 2m (the setting addressTimeout)" in text
    assert "pulumi config set exposure nodePort" in text
    assert "config set address" not in text, "the Service would be waited for all the same"
    assert no_address("It", "2m", NO_LOAD_BALANCER, ", or sing").endswith("exposure nodePort), or sing.")
