"""Every issuer keeps the contract; each is made alone here."""

from typing import Any, cast, get_args

import pytest

from registry.certificate.choice import ISSUERS, make_certificate
from registry.cluster import Cluster
from registry.settings import Issuer
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.engine import NAMESPACE, Recorder, pem, run_component
from tests.unit.support.settings import having

ISSUER_NAMES = get_args(Issuer)


def run(issuer: Issuer) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()

    def make() -> dict[str, Any]:
        settings = having(certificate_issuer=issuer)
        certificate = make_certificate("certificate", settings, NAMESPACE, "registry.example.com:8443", [])
        return {"ca_certificate": certificate.ca_certificate, "secret": certificate.secret}

    return recorder, run_component(recorder, make)


def test_every_value_of_the_setting_has_an_issuer() -> None:
    assert set(ISSUERS) == set(ISSUER_NAMES)


@pytest.mark.parametrize("issuer", ISSUER_NAMES)
def test_it_makes_a_ca_and_a_secret_that_belong_to_it(issuer: Issuer) -> None:
    assert list(ISSUERS[issuer].errors(having(certificate_issuer=issuer), cast(Cluster, QuietCluster()))) == []
    recorder, known = run(issuer)
    assert known == {
        "ca_certificate": pem("issued-ca" if issuer == "cert-manager" else "certificate-ca"),
        "secret": "certificate-tls",
    }
    [token] = recorder.components()
    assert {parent for (typ, _), parent in recorder.parents.items() if typ.startswith(("kubernetes:", "tls:"))} == {
        token
    }
    [(_, outputs)] = [each for each in recorder.registered if each[0] == token]
    assert set(outputs) == {"caCertificate", "secret"}
