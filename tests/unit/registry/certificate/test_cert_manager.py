"""The issuer `cert-manager`: what the cluster needs to have, what the CA may sign, and what is waited for."""

from typing import Any, cast

import pulumi
import pytest
from kubernetes.client.exceptions import ApiException

from registry.certificate.cert_manager import (
    CertManagerCertificate,
    authority_tag,
    cluster_issuer_error,
    issuer_error,
    name_constraints,
    not_issued,
    not_yet,
)
from registry.cluster import Cluster
from tests.unit.support.clusters import QuietCluster, issued_secret
from tests.unit.support.errors import says
from tests.unit.support.settings import having

READY: dict[str, Any] = {
    "spec": {"ca": {"secretName": "company"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


def test_a_missing_cert_manager_is_told() -> None:
    error = issuer_error(has_cert_manager=False)
    says(error, ":certificateIssuer is 'cert-manager'", "cert-manager.io/v1", "set certificateIssuer tls")
    assert issuer_error(has_cert_manager=True) is None


def test_a_certificate_that_does_not_come_has_reasons_and_a_fix() -> None:
    text = not_issued("2m")
    assert "within 2m (the setting readyTimeout)" in text
    assert "pulumi config set certificateIssuer tls" in text
    assert "the ClusterIssuer letsencrypt does not sign certificates for this host" in not_issued("2m", "letsencrypt")


def test_a_cluster_issuer_that_is_not_there_cannot_be_used_or_is_not_ready_is_told() -> None:
    assert cluster_issuer_error("company", READY, ["company"]) is None
    rest = "pulumi config rm issuer"
    says(
        cluster_issuer_error("compny", None, ["company", "test"]),
        ":issuer is 'compny'", "the cluster has company, test", "config set issuer company", rest,
    )  # fmt: skip
    says(cluster_issuer_error("compny", None, []), "the cluster has none", rest)
    says(cluster_issuer_error("own", {"spec": {"selfSigned": {}}}, ["own"]), "has each certificate sign itself", rest)
    broken = {"type": "Ready", "status": "False", "message": 'secret "x" not found.'}
    late = {**READY, "status": {"conditions": [broken]}}
    says(cluster_issuer_error("company", late, ["company"]), 'is not ready (secret "x" not found)', rest)
    says(cluster_issuer_error("company", {"spec": {}}, ["company"]), "is not ready (cert-manager has not looked at it")


def test_whoever_may_not_read_cluster_issuers_starts_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)

    class Refusing(QuietCluster):
        def find(self, path: str) -> None:
            raise ApiException(status=403, reason="Forbidden")

    settings = having(certificate_issuer="cert-manager", issuer="company")
    assert list(CertManagerCertificate.errors(settings, cast(Cluster, Refusing()))) == []
    assert said == ["Not checked before the start: the cluster answers 403 Forbidden"]
    [error] = CertManagerCertificate.errors(settings, cast(Cluster, QuietCluster()))
    says(error, "there is no ClusterIssuer of that name: the cluster has none")


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("registry-pr-42-r.10-99-0-200.nip.io", "nip.io"),
        ("registry-pr-42-r.10-99-0-200.nip.io:30123", "nip.io"),
        ("registry.example.com:8443", "registry.example.com"),
        ("fake-nip.io", "fake-nip.io"),
    ],
)
def test_the_ca_may_sign_for_the_domain_of_made_hosts_or_for_the_host_alone(host: str, domain: str) -> None:
    found = name_constraints(host, "nip.io")
    assert found["permitted"] == {"dnsDomains": [domain]}
    # Constraints of one kind of name leave the others open.
    assert found["excluded"] == {"ipRanges": ["0.0.0.0/0", "::/0"]}
    assert found["critical"]


def test_another_number_or_another_domain_is_another_ca_and_another_address_is_not() -> None:
    tags = [
        authority_tag(version, name_constraints(host, "nip.io"))
        for version in (1, 2)
        for host in ("r.10-99-0-200.nip.io", "r.10-99-0-201.nip.io", "r.example.com")
    ]
    assert tags[0] == tags[1]
    assert len(set(tags)) == 4
    assert authority_tag(1, None) not in tags


def test_a_certificate_is_waited_for_until_it_is_for_the_host_and_by_the_issuer() -> None:
    secret = issued_secret("x", "b.example.com", "new")
    assert not_yet(secret, "b.example.com", "new") == not_yet(secret, "", "") == ""
    assert not_yet(secret, "a.example.com", "new") == "it still holds one for b.example.com, and not for a.example.com"
    assert not_yet(secret, "b.example.com", "old") == "it still holds one by the issuer new, and not by old"
    assert not_yet({"metadata": {}}, "", "") == "it holds no certificate yet"
