"""How long the issuer `tls` makes the server certificate valid, and for which names; renewals are in test_ca.py."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from registry.certificate.contract import CA_VALIDITY, RENEWAL, Issued
from registry.certificate.tls import certified, server_hours

HOUR = 3600
MADE = 1_800_000_000


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@given(st.integers(0, (CA_VALIDITY - RENEWAL) * HOUR))
def test_a_server_certificate_ends_within_two_hours_before_its_ca_whenever_it_is_made(age: int) -> None:
    end = MADE + CA_VALIDITY * HOUR
    now = MADE + age
    made = server_hours("request", "ca", rfc3339(end), Issued(), now)
    assert end - 2 * HOUR <= now + made * HOUR <= end - HOUR


@given(st.integers(0, (CA_VALIDITY - RENEWAL) * HOUR), st.integers(1, CA_VALIDITY))
def test_the_one_that_is_there_stays_until_host_or_ca_change(age: int, hours: int) -> None:
    end, now = rfc3339(MADE + CA_VALIDITY * HOUR), MADE + age
    issued = Issued(request="request", ca="ca", hours=hours)
    assert server_hours("request", "ca", end, issued, now) == hours
    anew = server_hours("request", "ca", end, Issued(), now)
    for other in (Issued(request="another", ca="ca", hours=hours), Issued(request="request", ca="old", hours=hours)):
        assert server_hours("request", "ca", end, other, now) == anew


def test_the_certificate_is_for_the_host_before_as_well_and_is_not_made_anew_when_nothing_changes() -> None:
    first = certified("a.example.com:8443", [])
    assert first == ["a.example.com"]
    second = certified("b.example.com", tuple(first))
    assert second == ["b.example.com", "a.example.com"]
    assert certified("b.example.com", tuple(second)) == second
    assert certified("c.example.com", second) == ["c.example.com", "b.example.com"]
    assert certified("a.example.com", second) == ["a.example.com", "b.example.com"]
