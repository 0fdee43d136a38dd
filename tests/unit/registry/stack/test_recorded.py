"""What the state of a stack says of its last `up`."""

import re
from typing import Any

from registry.certificate.contract import CertificateState, Issued
from registry.exposure.contract import ExposureState
from registry.stack.recorded import IDENTITY, SEED_NAME, Recorded, instance_id, recorded_in
from registry.storage.bucket import KEPT, Kept

_BINDING = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"


def entry(kind: str, name: str, **outputs: Any) -> dict[str, dict[str, Any]]:
    return {f"urn:pulumi:dev::private-registry::{IDENTITY}${kind}::{name}": {"type": kind, "outputs": outputs}}


def test_a_stack_without_a_state_says_nothing() -> None:
    assert recorded_in({}) == Recorded()


def test_another_deployment_than_the_registrys_is_no_registry() -> None:
    assert not recorded_in(entry("kubernetes:apps/v1:Deployment", "shares-attach-deployment")).registry


def test_a_whole_state_says_everything() -> None:
    state = {
        **entry(IDENTITY, "identity", clusterId="uid", context="kind", instanceId="x"),
        **entry("tls:index/privateKey:PrivateKey", SEED_NAME, publicKeyPem="pem"),
        **entry("tls:index/privateKey:PrivateKey", "certificate-ca-key-1", publicKeyPem="another"),
        **entry("kubernetes:core/v1:Namespace", "namespace", metadata={"name": "registry-dev"}),
        **entry("kubernetes:apps/v1:Deployment", "registry-deployment"),
        **entry(_BINDING, "use", roleRef={"name": "system:openshift:scc:privileged"}),
        **entry(_BINDING, "use-2", roleRef={"name": "system:openshift:scc:nonroot-v2"}),
        **entry(_BINDING, "attach", roleRef={"name": "attach"}),
        **entry(
            "private-registry:registry:TlsCertificate", "certificate", caCertificate="trusted", beforeRenewal="before"
        ),
        **entry("kubernetes:core/v1:ConfigMap", "lookup-facts", data={"ca.crt": "somebody else has put it there"}),
        **entry("private-registry:registry:Ingress", "ingress", address="10.0.0.9", className="nginx", port=443),
        **entry("private-registry:registry:LoadBalancer", "load-balancer", address="10.0.0.8", port=443),
        **entry("private-registry:registry:Gateway", "gateway", address="", className="envoy"),
        **entry(KEPT, "destroy-keeps-images-in-new", removal="a command"),  # nothing was written there yet
        **entry(KEPT, "destroy-keeps-images-in-team-images", bucket="team-images", endpoint=""),
        **entry("tls:index/certRequest:CertRequest", "certificate-request", dnsNames=["new.example.com", "old"]),
        **entry(
            "tls:index/locallySignedCert:LocallySignedCert",
            "certificate-server",
            certRequestPem="request",
            caCertPem="ca",
            validityPeriodHours=4318,
        ),
    }
    issued = Issued(request="request", ca="ca", hours=4318, names=("new.example.com", "old"))
    assert recorded_in(state) == Recorded(
        cluster="uid",
        context="kind",
        instance=instance_id("pem"),
        namespace="registry-dev",
        registry=True,
        constraints=("nonroot-v2", "privileged"),
        certificates=CertificateState(trusted="trusted", before_renewal="before", issued=issued),
        kept=Kept(bucket="team-images", endpoint=""),
        exposure=ExposureState(
            addresses=frozenset({"10.0.0.8", "10.0.0.9"}),
            namespace="registry-dev",
            ingress_class="nginx",
            gateway_class="envoy",
        ),
    )


def test_only_an_ingress_of_which_no_address_was_published_is_silent() -> None:
    for addresses, silent in (([], True), (["10.0.0.9"], False)):
        state = entry("private-registry:registry:Ingress", "ingress", address="10.0.0.9", addresses=addresses)
        assert recorded_in(state).exposure.silent == silent
    assert not recorded_in(entry("private-registry:registry:Gateway", "gateway", addresses=[])).exposure.silent


def test_an_up_that_was_killed_while_it_made_the_namespace_says_which_cluster_and_instance() -> None:
    state = {
        **entry(IDENTITY, "identity", clusterId="uid", context=""),
        **entry("tls:index/privateKey:PrivateKey", SEED_NAME, publicKeyPem="pem"),
    }
    assert recorded_in(state) == Recorded(cluster="uid", instance=instance_id("pem"))


def test_the_id_of_an_instance_is_12_hexadecimal_digits_of_its_public_key() -> None:
    assert re.fullmatch("[0-9a-f]{12}", instance_id("pem"))
    assert instance_id("pem") != instance_id("another")
