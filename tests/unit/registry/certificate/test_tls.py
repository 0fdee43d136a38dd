"""The issuer `tls`: which names its server certificate is for."""

from registry.certificate.tls import certified


def test_the_certificate_is_for_the_host_before_as_well_and_is_not_made_anew_when_nothing_changes() -> None:
    first = certified("a.example.com:8443", [])
    assert first == ["a.example.com"]
    second = certified("b.example.com", tuple(first))
    assert second == ["b.example.com", "a.example.com"]
    assert certified("b.example.com", tuple(second)) == second
    assert certified("c.example.com", second) == ["c.example.com", "b.example.com"]
    assert certified("a.example.com", second) == ["a.example.com", "b.example.com"]
