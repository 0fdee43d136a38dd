"""The issuer `cert-manager`: the cluster needs to have it, and it has to issue in time."""

from registry.certificate.cert_manager import issuer_error, not_issued
from tests.unit.support.errors import says


def test_a_missing_cert_manager_is_told() -> None:
    error = issuer_error(has_cert_manager=False)
    says(error, ":certificateIssuer is 'cert-manager'", "cert-manager.io/v1", "set certificateIssuer tls")
    assert issuer_error(has_cert_manager=True) is None


def test_a_certificate_that_does_not_come_has_reasons_and_a_fix() -> None:
    text = not_issued("2m")
    assert "within 2m (the setting readyTimeout)" in text
    assert "pulumi config set certificateIssuer tls" in text
