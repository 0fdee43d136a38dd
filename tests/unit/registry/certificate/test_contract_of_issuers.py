"""Every issuer keeps the contract; each is made alone here."""

import json
import re
from typing import Any, cast, get_args

import pytest

from registry.certificate import authority
from registry.certificate.cert_manager import authority_tag, name_constraints
from registry.certificate.choice import ISSUERS, errors, make_certificate
from registry.certificate.contract import CA_VALIDITY, COMPONENTS, RENEWAL, CertificateState
from registry.cluster import Cluster
from registry.settings import Issuer
from tests.unit.support.clusters import QuietCluster, issued_secret
from tests.unit.support.engine import NAMESPACE, Recorder, pem, run_component
from tests.unit.support.errors import says
from tests.unit.support.settings import having

ISSUER_NAMES = get_args(Issuer)
HOST = "registry.example.com"
RECORDED = CertificateState(before_renewal="before")
OWN = authority_tag(1, name_constraints(HOST, "nip.io"))


async def nobody(*_: object) -> None:
    raise AssertionError("nothing is handed over where the same CA is trusted as before, or none")


def run(by: Issuer, cluster: QuietCluster | None = None, **values: Any) -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()
    signer = values.get("issuer") or f"certificate-ca-{OWN}"
    cluster = cluster or QuietCluster(issued=issued_secret("issued-ca", HOST, signer))

    def make() -> dict[str, Any]:
        settings = having(certificate_issuer=by, **values)
        certificate = make_certificate(
            "certificate", settings, NAMESPACE, f"{HOST}:8443", cast(Cluster, cluster), RECORDED, nobody
        )
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
        # Two names, so that one issuer can follow the other: at the end what the first one made is deleted.
        "secret": "certificate-issued" if issuer == "cert-manager" else "certificate-tls",
    }
    [token] = recorder.components()
    assert token in COMPONENTS
    assert {parent for (typ, _), parent in recorder.parents.items() if typ.startswith(("kubernetes:", "tls:"))} == {
        token
    }
    [(_, outputs)] = [each for each in recorder.registered if each[0] == token]
    assert set(outputs) == {"caCertificate", "beforeRenewal", "secret"}
    assert outputs["beforeRenewal"] == ""


@pytest.mark.parametrize("issuer", ISSUER_NAMES)
@pytest.mark.parametrize(("node_trust", "external"), [("agent", False), ("external", True)])
def test_what_is_said_of_the_ca_depends_on_who_sets_up_the_nodes(
    issuer: Issuer, node_trust: str, external: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def warnings(*_: object, **options: Any) -> list[str]:
        asked.append(options)
        return []

    monkeypatch.setattr(authority, "warnings", warnings)
    run(issuer, node_trust=node_trust)
    assert asked == [{"renewed": "before", "external": external}]


def test_the_ca_is_valid_for_180_days_and_renewed_in_its_last_60_with_its_key_by_each_issuer() -> None:
    assert (CA_VALIDITY, RENEWAL) == (180 * 24, 60 * 24)
    recorder, _ = run("tls")
    ca, server = recorder.of("SelfSignedCert"), recorder.of("LocallySignedCert")
    assert (ca["validityPeriodHours"], ca["earlyRenewalHours"]) == (CA_VALIDITY, RENEWAL)
    assert server["validityPeriodHours"] in (CA_VALIDITY - 1, CA_VALIDITY - 2)
    # Were the server certificate due before the CA, it would be made anew alone, and then end after the CA.
    assert server["validityPeriodHours"] - server["earlyRenewalHours"] >= CA_VALIDITY - RENEWAL
    recorder, _ = run("cert-manager")
    ca = recorder.of("Certificate", "certificate-ca-certificate")["spec"]
    assert (ca["duration"], ca["renewBefore"]) == (f"{CA_VALIDITY}h", f"{RENEWAL}h")
    assert ca["privateKey"]["rotationPolicy"] == "Never"
    server = recorder.of("Certificate", "certificate-server")["spec"]
    assert server["duration"] == f"{RENEWAL - 1}h"


def test_another_number_is_another_key() -> None:
    for issuer in ISSUER_NAMES:
        tag = authority_tag(2, name_constraints(HOST, "nip.io"))
        cluster = QuietCluster(issued=issued_secret("issued-ca", HOST, f"certificate-ca-{tag}"))
        first, second = run(issuer)[0], run(issuer, cluster, ca_version=2)[0]
        if issuer == "tls":
            keys = [{name for typ, name in each.resources if typ.endswith("PrivateKey")} for each in (first, second)]
            assert keys == [{"certificate-ca-key-1", "certificate-key"}, {"certificate-ca-key-2", "certificate-key"}]
        else:
            secrets = [each.of("Certificate", "-ca-certificate")["spec"]["secretName"] for each in (first, second)]
            assert secrets == [f"certificate-ca-{OWN}", f"certificate-ca-{tag}"]


def test_the_ca_of_cert_manager_may_sign_for_the_domain_of_the_host_only_where_its_feature_gate_is_on() -> None:
    recorder, _ = run("cert-manager")
    found = recorder.of("Certificate", "certificate-ca-certificate")["spec"]["nameConstraints"]
    assert found == name_constraints(HOST, "nip.io")
    asked: list[tuple[str, str]] = []

    class Without(QuietCluster):
        def refusal(self, *given: object) -> str:
            kind, body, namespace = given
            asked.append((str(kind), str(namespace)))
            assert json.loads(json.dumps(body))["spec"]["nameConstraints"] == found
            return "spec.nameConstraints: Forbidden: feature gate NameConstraints must be enabled"

    cluster = Without(issued=issued_secret("issued-ca", HOST, f"certificate-ca-{authority_tag(1, None)}"))
    recorder, _ = run("cert-manager", cluster)
    assert "nameConstraints" not in recorder.of("Certificate", "certificate-ca-certificate")["spec"]
    assert asked == [("certificates", NAMESPACE)]


def test_a_cluster_issuer_signs_and_then_there_is_no_ca_of_the_stack() -> None:
    recorder, known = run("cert-manager", issuer="company")
    assert known["ca_certificate"] == pem("issued-ca")
    # A Secret of its own, so that the one before is served until the nodes trust the ClusterIssuer's CA.
    assert re.fullmatch("certificate-[0-9a-f]{8}", known["secret"])
    assert [name for typ, name in recorder.resources if typ.startswith("kubernetes:cert")] == [
        "certificate-server-certificate"
    ]
    spec = recorder.of("Certificate", "server")["spec"]
    assert spec["issuerRef"] == {"kind": "ClusterIssuer", "name": "company"}
    assert "duration" not in spec


def test_a_publicly_trusted_certificate_gives_nothing_to_trust() -> None:
    secret = issued_secret("issued-ca", HOST, "letsencrypt")
    del secret["data"]["ca.crt"]
    _, known = run("cert-manager", QuietCluster(issued=secret), issuer="letsencrypt")
    assert known["ca_certificate"] == ""


def test_a_cluster_issuer_without_cert_manager_is_refused() -> None:
    [error] = errors(having(issuer="company"), cast(Cluster, QuietCluster()))
    says(
        error,
        ":issuer is 'company'",
        "only cert-manager has ClusterIssuers",
        "pulumi config set certificateIssuer cert-manager",
    )
