"""The node agent has an account of its own, and on OpenShift the pods' accounts may use what OpenShift wants."""

from typing import Any, cast

import pytest

from registry import names
from registry.cluster import Cluster
from registry.registry import registry_pod
from tests.unit.support.clusters import QuietCluster
from tests.unit.support.engine import Recorder, run_component
from tests.unit.support.settings import having
from trust.admission import admitted
from trust.daemonset import trust_pod
from trust.refusals import refused

ROLES = {constraint: f"{names.CONSTRAINT}{constraint}" for constraint in ("privileged", "nonroot-v2")}
AGENT = {"kind": "ServiceAccount", "name": "trust", "namespace": "ns"}
EVERY = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts:ns"}


def made(cluster: QuietCluster, recorded: tuple[str, ...] = (), **settings: Any) -> Recorder:
    """What there is in the namespace once the program's pods may be made there."""
    recorder, wanted = Recorder(), having(**settings)

    def make() -> dict[str, Any]:
        pods = [trust_pod(wanted), registry_pod(wanted, cast(Cluster, cluster))]
        return {"namespace": admitted("ns", cast(Cluster, cluster), pods, recorded, "2m")}

    assert run_component(recorder, make) == {"namespace": "ns"}
    return recorder


def bound(recorder: Recorder) -> dict[str, list[dict[str, str]]]:
    """Who may use what each ClusterRole allows, as far as the program says so."""
    bindings = [inputs for (typ, _), inputs in recorder.resources.items() if typ.endswith(":RoleBinding")]
    assert {binding["metadata"]["namespace"] for binding in bindings} <= {"ns"}
    return {binding["roleRef"]["name"]: binding["subjects"] for binding in bindings}


def test_the_agent_has_an_account_of_its_own_without_a_token() -> None:
    account = made(QuietCluster()).of(":ServiceAccount")
    assert account["metadata"]["name"] == "trust"
    assert account["automountServiceAccountToken"] is False
    assert "ServiceAccount" not in made(QuietCluster(), node_trust="external").kinds()


def test_nobody_is_let_use_a_constraint_where_there_is_none() -> None:
    assert bound(made(QuietCluster())) == {}


def test_on_openshift_the_agent_may_be_privileged_and_every_other_pod_may_choose_a_user_that_is_not_root() -> None:
    assert bound(made(QuietCluster(openshift=True))) == {ROLES["privileged"]: [AGENT], ROLES["nonroot-v2"]: [EVERY]}


def test_on_openshift_without_an_agent_nobody_may_be_privileged() -> None:
    assert bound(made(QuietCluster(openshift=True), node_trust="external")) == {ROLES["nonroot-v2"]: [EVERY]}


def test_on_openshift_account_and_bindings_are_there_before_the_pods_are_asked_for() -> None:
    recorder = made(QuietCluster(openshift=True))
    quota = {name for (typ, _), names_ in recorder.dependencies.items() if typ.endswith(":ResourceQuota")
             for _, name in names_}  # fmt: skip
    assert quota == {"trust-accounts-agent", "trust-accounts-privileged", "trust-accounts-nonroot-v2"}


@pytest.mark.parametrize("constraint", ROLES)
def test_what_the_user_may_not_bind_is_left_to_an_administrator(constraint: str) -> None:
    other = {name: subjects for name, subjects in {ROLES["privileged"]: [AGENT], ROLES["nonroot-v2"]: [EVERY]}.items()
             if name != ROLES[constraint]}  # fmt: skip
    assert bound(made(QuietCluster(openshift=True, refused=(ROLES[constraint],)))) == other


def test_what_the_last_up_has_bound_stays_whoever_runs_this_one_and_while_the_api_of_openshift_is_down() -> None:
    both = {ROLES["privileged"], ROLES["nonroot-v2"]}
    recorded = ("nonroot-v2", "privileged")
    assert set(bound(made(QuietCluster(openshift=True, refused=tuple(both)), recorded))) == both
    assert set(bound(made(QuietCluster(), recorded))) == both
    assert set(bound(made(QuietCluster(), recorded, node_trust="external"))) == {ROLES["nonroot-v2"]}


@pytest.mark.parametrize(
    ("pod", "command"),
    [
        ({"serviceAccountName": "trust"}, "oc adm policy add-scc-to-user privileged -z trust -n ns,"),
        ({}, "oc adm policy add-scc-to-user nonroot-v2 -z default -n ns,"),
        ({"serviceAccountName": "attach"}, "oc adm policy add-scc-to-user nonroot-v2 -z attach -n ns,"),
    ],
)
def test_a_refusal_of_openshift_names_the_account_and_the_constraint(pod: dict[str, Any], command: str) -> None:
    words = 'unable to validate against any security context constraint: [provider "anyuid": Forbidden]'
    assert command in refused("the pod's", words, "ns", {"containers": [], **pod})
