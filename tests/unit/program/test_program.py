"""What the program makes, as recording mocks in place of the engine see it."""

import asyncio
import json
import time
import tomllib
from typing import Any, get_args

import pulumi
import pytest

from registry import names
from registry.clients.nodes import NODES, key_of
from registry.clients.snippets import CLIENTS, client_setup
from registry.credentials import password
from registry.hostname import registry_label
from registry.settings import Exposure
from tests.unit.support.clusters import ADDRESS, QuietCluster
from tests.unit.support.engine import INSTANCE, NAMESPACE, Recorder, pem, run_failing_program, run_program
from tests.unit.support.settings import ROOT

_KIND = "kubernetes:apps/v1:DaemonSet"
UP_BEFORE = {
    f"urn:pulumi:pr-42::p::{kind}::{name}": {"type": kind, "outputs": {}}
    for kind, name in ((_KIND, "trust-daemonset"), ("kubernetes:apps/v1:Deployment", "registry-deployment"))
}
"""What the state says of a stack that was up before."""


@pytest.fixture(scope="module")
def run() -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()
    return recorder, run_program(recorder)


@pytest.fixture
def made(run: tuple[Recorder, dict[str, Any]]) -> Recorder:
    return run[0]


def test_the_outputs_are_the_ones_that_people_use(run: tuple[Recorder, dict[str, Any]]) -> None:
    assert run[1] == {
        "registryUrl": f"{NAMESPACE}.10-99-0-200.nip.io",
        "caCertificate": pem("certificate-ca"),
        "address": ADDRESS,
        "namespace": NAMESPACE,
        "configMap": "private-registry",
        "clusterId": QuietCluster.uid,
        "username": "registry",
        "password": password("key of identity-seed", 1, push=True),
        "version": names.VERSION,
    }


def test_the_outputs_fit_on_one_screen(run: tuple[Recorder, dict[str, Any]]) -> None:
    lines = [line for value in run[1].values() for line in str(value).splitlines()]
    real_ca_lines = 13  # of a namespace with up to 24 characters; each further 24 make it a line longer
    assert len(lines) - len(pem("certificate-ca").splitlines()) + real_ca_lines + 2 < 25


def test_the_version_is_the_one_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == names.VERSION


def test_these_are_all_types_of_components() -> None:
    ingress, gateway, load_balancer, node_port = Recorder(), Recorder(), Recorder(), Recorder()
    login = json.dumps({"auths": {"docker.io": {"auth": "bWU6aGlkZGVu"}}})
    bucket = {"storage": "s3", "s3Bucket": "team-images", "s3Region": "eu-central-1"}
    run_program(ingress, ("imagePullSecret",), advertise="true", imagePullSecret=login, **bucket)
    run_program(gateway, exposure="gateway", certificateIssuer="cert-manager")
    run_program(load_balancer, exposure="loadBalancer")
    run_program(node_port, exposure="nodePort", pullNamespaces='["team-a"]', attachPullSecret="true")
    recorders = (ingress, gateway, load_balancer, node_port)
    assert sorted({token for recorder in recorders for token in recorder.components()}) == [
        "private-registry:registry:Attachment",
        "private-registry:registry:CertManagerCertificate",
        "private-registry:registry:Credentials",
        "private-registry:registry:Gateway",
        "private-registry:registry:Identity",
        "private-registry:registry:ImageLogin",
        "private-registry:registry:Ingress",
        "private-registry:registry:KeptImages",
        "private-registry:registry:LoadBalancer",
        "private-registry:registry:Lookup",
        "private-registry:registry:NamespaceShares",
        "private-registry:registry:NodePort",
        "private-registry:registry:Registry",
        "private-registry:registry:TlsCertificate",
        "private-registry:trust:Accounts",
        "private-registry:trust:Admission",
        "private-registry:trust:NodeTrust",
    ]
    for recorder in recorders:
        registered = [token for token, _ in recorder.registered if token.startswith("private-registry:")]
        assert sorted(registered) == recorder.components(), "each component registers its outputs once"


def test_everything_belongs_to_a_component(made: Recorder) -> None:
    parents = {
        (typ, name): parent
        for (typ, name), parent in made.parents.items()
        if not typ.startswith("private-registry:") and not parent.startswith("private-registry:")
    }
    assert [typ for typ, _ in parents if typ != "pulumi:pulumi:Stack"] == [
        "kubernetes:core/v1:Service",
    ]


def test_the_snippets_are_in_a_config_map_that_kubectl_reads_by_the_names_of_the_clients(made: Recorder) -> None:
    config_map = made.of(":ConfigMap", "client-setup")
    assert config_map["metadata"]["name"] == "client-setup"
    host = f"{NAMESPACE}.10-99-0-200.nip.io"
    assert config_map["data"] == client_setup(host, pem("certificate-ca"), "registry", NAMESPACE, "pr-42")
    assert set(config_map["data"]) == {*CLIENTS, *map(key_of, NODES)}
    assert all(key.isalnum() and key[0].isalpha() for key in config_map["data"])
    assert len(json.dumps(config_map)) < 2**20 / 8, "a ConfigMap's limit is 1 MiB"


def test_the_first_preview_shows_the_registrys_whole_pod() -> None:
    recorder = Recorder(preview=True)
    run_program(recorder)
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["nginx", "proof-image"]
    [registry] = pod["initContainers"]
    assert registry["command"] == ["registry", "serve", "/etc/private-registry/config.yml"]
    assert not [key for key, value in pod.items() if isinstance(value, pulumi.output.Unknown)]


def test_the_host_reaches_ingress_certificate_config_map_and_agent(made: Recorder) -> None:
    host = f"{NAMESPACE}.10-99-0-200.nip.io"
    ingress = made.of(":Ingress", "ingress-served")["spec"]
    assert ingress["rules"][0]["host"] == host
    assert ingress["tls"][0]["hosts"] == [host]
    assert made.of(":CertRequest")["dnsNames"] == [host]
    assert made.of(":ConfigMap", "lookup-facts")["data"]["host"] == host
    pod = made.of(":DaemonSet")["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["initContainers"][0]["env"]}
    assert environment["REGISTRY_HOST"] == host
    assert pod["containers"][0]["image"].startswith(f"{host}/private-registry/proof@sha256:")


def test_the_server_sends_its_certificate_and_then_the_ca_and_the_engine_keeps_both_secret(made: Recorder) -> None:
    data = made.of(":Secret", "certificate")["stringData"]
    assert pulumi.runtime.rpc.is_rpc_secret(data)
    assert pulumi.runtime.rpc.unwrap_rpc_secret(data) == {
        "tls.crt": pem("certificate-server") + pem("certificate-ca"),
        "tls.key": "key of certificate-key",
        "ca.crt": pem("certificate-ca"),
    }


def test_the_ca_key_is_in_no_object_of_the_cluster(made: Recorder) -> None:
    for (typ, _), inputs in made.resources.items():
        if typ.startswith("kubernetes:"):
            assert "key of certificate-ca-key" not in json.dumps(inputs)


def test_nodes_get_the_certificate_of_the_ca_only(made: Recorder) -> None:
    data = made.of(":ConfigMap", "lookup-facts")["data"]
    assert data == {"host": data["host"], "address": ADDRESS, "ca.crt": pem("certificate-ca")}
    volumes = made.of(":DaemonSet")["spec"]["template"]["spec"]["volumes"]
    assert not [volume for volume in volumes if "secret" in volume or "hostPath" in volume]


def test_the_agent_starts_first_and_the_proof_only_after_it_is_ready(made: Recorder) -> None:
    pod = made.of(":DaemonSet")["spec"]["template"]["spec"]
    agent = pod["initContainers"][0]
    assert agent["restartPolicy"] == "Always"
    assert "test -f /tmp/ready" in agent["startupProbe"]["exec"]["command"][-1]
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_virtual_nodes_and_those_that_the_proof_cannot_run_on_are_left_out_by_affinity(made: Recorder) -> None:
    affinity = made.of(":DaemonSet")["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    virtual = [
        {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
        {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet", "kwok"]},
        {"key": "liqo.io/type", "operator": "NotIn", "values": ["virtual-node"]},
    ]
    fits = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
    unknown = {"key": "kubernetes.io/arch", "operator": "DoesNotExist"}
    assert [term["matchExpressions"] for term in terms] == [[*virtual, fits], [*virtual, unknown]]


def test_the_provider_waits_for_the_deletion_of_the_daemon_set_and_not_for_its_nodes(made: Recorder) -> None:
    annotations = made.of(":DaemonSet")["metadata"]["annotations"]
    assert annotations["pulumi.com/waitFor"] == "jsonpath={.metadata.uid}"
    assert "pulumi.com/skipAwait" not in annotations, "it would skip the deletion, too"


def test_the_pods_and_the_namespace_are_in_no_mesh_and_no_selector_says_so(made: Recorder) -> None:
    labels = made.of(":Namespace")["metadata"]["labels"]
    assert labels["istio-injection"] == "disabled"
    assert labels["istio.io/dataplane-mode"] == "none"
    for kind in (":DaemonSet", ":Deployment"):
        spec = made.of(kind)["spec"]
        metadata = spec["template"]["metadata"]
        assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
        assert metadata["labels"]["istio.io/dataplane-mode"] == "none"
        assert metadata["annotations"]["linkerd.io/inject"] == "disabled"
        assert set(spec["selector"]["matchLabels"]) == {"app.kubernetes.io/name", "app.kubernetes.io/part-of"}


def test_everyone_may_reach_the_registrys_pod_whatever_other_network_policies_there_are(made: Recorder) -> None:
    spec = made.of(":NetworkPolicy")["spec"]
    labels = made.of(":Deployment")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert spec["ingress"] == [{"ports": [{"port": port, "protocol": "TCP"} for port in (5000, 5443)]}], "from anywhere"
    assert spec["egress"] == [{}], "to anywhere"
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_a_quota_for_the_agents_priority_class_limits_nothing_and_comes_before_everything_in_the_namespace(
    made: Recorder,
) -> None:
    spec = made.of(":ResourceQuota")["spec"]
    [scope] = spec["scopeSelector"]["matchExpressions"]
    assert scope == {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    assert made.of(":DaemonSet")["spec"]["template"]["spec"]["priorityClassName"] == "system-node-critical"
    assert spec["hard"] == {"pods": "1M"}
    kinds = [typ.rpartition(":")[2] for typ, _ in made.resources if typ.startswith("kubernetes:")]
    assert kinds[:3] == ["Namespace", "ServiceAccount", "ResourceQuota"]


def test_the_registry_pod_keeps_the_restricted_standard(made: Recorder) -> None:
    pod = made.of(":Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"limits", "requests"}


def test_every_kubernetes_object_but_the_namespace_is_in_the_namespace(made: Recorder) -> None:
    for (typ, name), inputs in made.resources.items():
        if typ.startswith("kubernetes:") and not typ.endswith(":Namespace"):
            assert inputs["metadata"]["namespace"] == NAMESPACE, (typ, name)
    assert not [typ for typ, _ in made.resources if "ClusterRole" in typ or "IngressClass" in typ]


def test_every_kubernetes_object_is_made_through_the_provider_that_the_state_keeps() -> None:
    recorder = Recorder()
    run_program(recorder, pullNamespaces='["team-a"]', caNamespaces='["team-a"]', advertise="true")
    made_by = {key: name for key, name in recorder.providers.items() if key[0].startswith("kubernetes:")}
    assert len(made_by) > 10
    assert set(made_by.values()) == {"kubernetes"}


def test_what_exists_in_the_stacks_own_namespace_is_taken_over_and_nothing_elsewhere() -> None:
    recorder = Recorder()
    run_program(recorder, pullNamespaces='["team-a"]', caNamespaces='["team-a"]', advertise="true", exposure="gateway")
    own, elsewhere = set[str](), set[str]()
    for (typ, name), inputs in recorder.resources.items():
        if typ.startswith("kubernetes:") and not typ.endswith("Patch"):
            annotations = inputs["metadata"].get("annotations", {})
            is_own = inputs["metadata"].get("namespace", NAMESPACE) == NAMESPACE
            (own if is_own else elsewhere).add(name)
            is_namespace = typ.endswith(":Namespace")
            assert (annotations.get("pulumi.com/patchForce") == "true") is (is_own and not is_namespace), name
            manager = f"private-registry-{INSTANCE}" if is_namespace else "private-registry" if is_own else NAMESPACE
            assert annotations["pulumi.com/patchFieldManager"] == manager, name
            if not is_own:
                assert inputs["metadata"]["labels"][names.INSTANCE] == INSTANCE, name
    assert {"namespace", "gateway-gateway", "gateway-tlsroute", "trust-daemonset", "lookup-facts"} <= own
    assert elsewhere == {"shares-pull-team-a", "shares-ca-team-a", "shares-advertise"}


def test_the_cluster_is_asked_for_the_namespace_with_the_labels_and_annotations_that_it_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def refusal(_self: QuietCluster, kind: str, body: Any, *_: str) -> str:
        asked.extend([body["metadata"]] if kind == "namespace" else [])
        return ""

    monkeypatch.setattr(QuietCluster, "refusal", refusal)
    recorder = Recorder()
    run_program(recorder, namespace="registry-x")
    metadata = recorder.of(":Namespace")["metadata"]
    before_the_first_up = json.loads(json.dumps(metadata).replace(INSTANCE, "0" * 12))
    assert asked == [before_the_first_up]


def test_the_guard_is_deleted_before_everything_else(made: Recorder) -> None:
    name = f"only-on-cluster-{QuietCluster.uid[:8]}"
    guard = ("kubernetes:core/v1:ServicePatch", name)
    objects = {key for key in made.resources if key[0].startswith(("kubernetes:", "tls:"))}
    assert made.dependencies[guard] >= objects - {guard}
    service = made.of(":Service", "guard")
    assert (service["metadata"]["name"], service["spec"]["clusterIP"]) == (name, "None")
    assert "ports" not in service["spec"], "or the API server would make it on another cluster"


SHARES = {"pullNamespaces": '["team-a"]', "caNamespaces": '["team-a"]', "attachPullSecret": "true", "advertise": "true"}


def needs_of(recorder: Recorder, key: tuple[str, str]) -> set[tuple[str, str]]:
    """All that a resource depends on, directly or not, and so outlives it at `destroy`."""
    found, asked = set[tuple[str, str]](), [key]
    while asked:
        new = recorder.dependencies.get(asked.pop(), set()) - found
        found |= new
        asked += new
    return found


@pytest.mark.parametrize("later", [False, True], ids=["first up", "later up"])
@pytest.mark.parametrize("exposure", get_args(Exposure))
def test_destroy_waits_for_pods_and_load_balancer_side_by_side_and_leaves_the_rest_to_the_end_of_the_namespace(
    exposure: str, later: bool
) -> None:
    recorder = Recorder(state=UP_BEFORE if later else {})
    run_program(recorder, exposure=exposure, **SHARES)
    own = {
        key: inputs
        for key, inputs in recorder.resources.items()
        if key[0].startswith("kubernetes:")
        and not key[0].endswith((":Namespace", ":ServicePatch"))
        and inputs["metadata"]["namespace"] == NAMESPACE
    }
    awaited = {key for key in own if not recorder.ends_with[key] and key not in recorder.retained}
    balanced = [key for key, made in own.items() if made.get("spec", {}).get("type") == "LoadBalancer"]
    kinds = {key[0].rpartition(":")[2] for key in awaited}
    assert kinds == {"Deployment", "DaemonSet"} | ({"Service"} if balanced else set())
    ways_in = {"ingress": {"Ingress"}, "gateway": {"Gateway", "TLSRoute"}}
    assert {key[0].rpartition(":")[2] for key in recorder.retained} == {"ConfigMap"} | ways_in.get(exposure, set())
    assert [key for key in awaited if key[0].endswith(":Service")] == balanced
    for key in awaited:
        assert not needs_of(recorder, key) & awaited, key
        assert ("kubernetes:core/v1:Namespace", "namespace") in needs_of(recorder, key), "it is deleted last"
    elsewhere = {key for key in recorder.resources if key[1].startswith("shares-") and key not in own}
    assert {recorder.ends_with[key] for key in elsewhere} == {""}
    assert {recorder.ends_with[key] for key in own.keys() - awaited - recorder.retained} == {
        "kubernetes:core/v1:Namespace"
    }


def rolled_out_and_what_was_made_before(
    monkeypatch: pytest.MonkeyPatch, recorder: Recorder, until: str, **settings: str
) -> set[str]:
    """The kinds of all that is made before the registry is ready; that is when something of the kind `until` is there.

    Nobody looks at the nodes before.
    """
    before, ready = set[str](), list[bool]()

    async def rolled_out(*_asked: object) -> None:
        deadline = time.monotonic() + 10
        while not any(name == until for _, name in recorder.resources):
            assert time.monotonic() < deadline, f"{until} waits for the registry"
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)  # what waits for nothing else is made by now
        before.update(name for _, name in recorder.resources)
        ready.append(True)

    async def proved(*_asked: object) -> None:
        assert ready

    monkeypatch.setattr("registry.registry.rolled_out", rolled_out)
    monkeypatch.setattr("trust.daemonset.prove", proved)
    run_program(recorder, **settings)
    assert ready
    return before


def test_the_agents_of_a_new_stack_start_beside_the_registry_and_are_waited_for_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "trust-daemonset" in rolled_out_and_what_was_made_before(monkeypatch, Recorder(), "trust-daemonset")


@pytest.mark.parametrize("settings", [{}, {"nodeTrust": "external"}], ids=["later up", "external"])
def test_nodes_that_could_ask_a_registry_that_is_replaced_and_those_without_an_agent_come_after_it(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    recorder = Recorder(state={} if settings else UP_BEFORE)
    before = rolled_out_and_what_was_made_before(monkeypatch, recorder, "lookup-client-setup", **settings)
    assert "trust-daemonset" not in before
    assert recorder.of(":DaemonSet")


def test_what_those_need_who_pull_now_changes_only_when_another_host_is_served() -> None:
    """An `up` whose way in never comes must leave the login for the former host, and the pod that serves it."""
    recorder = Recorder(state=UP_BEFORE)
    run_program(recorder, **SHARES)
    made = [name for _, name in recorder.resources]
    after = made[made.index("ingress-served") :]
    assert {"credentials-secret", "registry-deployment", "shares-pull-team-a"} <= set(after)


def test_two_stacks_of_one_name_share_no_name_that_others_can_see() -> None:
    """Two people's `dev` (the seeds differ), and what a controller or another namespace would see of both."""
    seen: list[set[str]] = []
    for seed in ("one", "two"):
        recorder = Recorder(public_key=seed)
        outputs = run_program(recorder, pullNamespaces='["a"]', caNamespaces='["a"]')
        ingresses = [made for (typ, _), made in recorder.resources.items() if typ.endswith("v1:Ingress")]
        hosts = {rule["host"] for made in ingresses for rule in made["spec"]["rules"]}
        assert len(hosts) == 2, "the placeholder's and the registry's"
        shared = {outputs["sharedName"], outputs["namespace"], outputs["registryUrl"]}
        image = recorder.of(":DaemonSet")["spec"]["template"]["spec"]["containers"][0]["image"]
        subject = recorder.of(":SelfSignedCert")["subject"]["organizationalUnit"]
        seen.append(hosts | shared | {image.rpartition("@")[2], subject})
    assert not seen[0] & seen[1]


def test_the_namespace_says_whose_it_is(made: Recorder) -> None:
    metadata = made.of(":Namespace")["metadata"]
    assert metadata["name"] == NAMESPACE
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "namespace",
        "app.kubernetes.io/part-of": "private-registry",
        "app.kubernetes.io/version": names.VERSION,
        "istio-injection": "disabled",
        "istio.io/dataplane-mode": "none",
        "pod-security.kubernetes.io/enforce": "privileged",
        "private-registry/instance": INSTANCE,
        "private-registry/project": "private-registry",
        "private-registry/stack": "pr-42",
    }
    assert metadata["annotations"]["private-registry/stack"] == "pr-42"
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"
    # No default node selector of OpenShift or of PodNodeSelector keeps the agents off a node.
    assert metadata["annotations"]["openshift.io/node-selector"] == ""
    assert metadata["annotations"]["scheduler.alpha.kubernetes.io/node-selector"] == ""


def test_a_stack_keeps_the_namespace_that_its_state_knows_also_under_another_name() -> None:
    kind = "kubernetes:core/v1:Namespace"
    state = {f"urn:pulumi:old::p::{kind}::namespace": {"type": kind, "outputs": {"metadata": {"name": "registry-old"}}}}
    recorder = Recorder(state=state)
    assert run_program(recorder)["namespace"] == "registry-old"


def test_another_cluster_than_that_of_the_last_up_ends_the_program_before_anything_is_made() -> None:
    kind = "private-registry:registry:Identity"
    recorder = Recorder(state={f"urn:pulumi:x::p::{kind}::identity": {"type": kind, "outputs": {"clusterId": "b"}}})
    with pytest.raises(pulumi.RunError, match=f"on another cluster.* UID b.*{QuietCluster.uid}.*pulumi stack rm"):
        run_failing_program(recorder)


def test_no_resource_without_a_need_is_made(made: Recorder) -> None:
    assert made.kinds() == {
        "Namespace": 1,
        "PersistentVolumeClaim": 1,
        "ConfigMap": 4,
        "Secret": 2,
        "Deployment": 1,
        "Service": 2,
        "ServicePatch": 1,
        "Ingress": 2,
        "DaemonSet": 1,
        "NetworkPolicy": 1,
        "ResourceQuota": 1,
        "ServiceAccount": 1,
    }


def test_the_pod_that_attaches_the_pull_secret_may_change_the_default_accounts_only() -> None:
    recorder = Recorder()
    run_program(recorder, pullNamespaces='["team-a", "team-b"]', attachPullSecret="true")
    roles = [inputs for (typ, _), inputs in recorder.resources.items() if typ.endswith(":Role")]
    accounts = {"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["default"]}
    own = {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["attach"], "verbs": ["get"]}
    assert {role["metadata"]["namespace"]: role["rules"] for role in roles} == {
        "team-a": [{**accounts, "verbs": ["get", "patch"]}],
        "team-b": [{**accounts, "verbs": ["get", "patch"]}],
        NAMESPACE: [own],
    }
    pod = recorder.of(":Deployment", "attach")["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"][1:] == [registry_label(NAMESPACE), "team-a", "team-b"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    bindings = [key for key in recorder.resources if key[0].endswith(":RoleBinding")]
    deployed = recorder.dependencies["kubernetes:apps/v1:Deployment", "shares-attach-deployment"]
    assert len(bindings) == 3
    assert set(bindings) <= deployed, "it ends before it loses its rights"


def test_the_pod_that_attaches_the_pull_secret_may_reach_the_api_server_from_its_beginning_to_its_end() -> None:
    recorder = Recorder()
    run_program(recorder, pullNamespaces='["team-a"]', attachPullSecret="true")
    policy = recorder.of(":NetworkPolicy", "attach")
    labels = recorder.of(":Deployment", "attach")["spec"]["template"]["metadata"]["labels"]
    assert policy["metadata"] | {"annotations": {}} == {
        "name": "attach",
        "namespace": NAMESPACE,
        "labels": names.labels("attach"),
        "annotations": {},
    }
    spec = policy["spec"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert (spec["policyTypes"], spec["egress"], spec.get("ingress")) == (["Egress"], [{}], None)
    key = next(key for key in recorder.resources if key[0].endswith(":NetworkPolicy") and "attach" in key[1])
    assert key in recorder.dependencies["kubernetes:apps/v1:Deployment", "shares-attach-deployment"]


def test_an_ingress_with_an_address_of_its_own_is_refused() -> None:
    with pytest.raises(pulumi.RunError, match=r"10\.99\.0\.201.*10\.99\.0\.200.*exposure loadBalancer.*ingressClass"):
        run_failing_program(Recorder(published=({"ip": "10.99.0.201"},)))


def test_an_ingress_may_have_more_addresses_than_the_placeholder_in_any_order() -> None:
    published = ({"ip": "10.99.0.99"}, {"ip": ADDRESS}, {"hostname": "lb.example.com"})
    assert run_program(Recorder(published=published))["address"] == ADDRESS


def test_a_load_balancer_that_has_a_host_name_gives_the_registry_its_host() -> None:
    points = ({"hostname": "Abc-1.elb.example.com"},)
    recorder = Recorder(placeholder=points, published=points)
    outputs = run_program(recorder)
    assert outputs["registryUrl"] == "abc-1.elb.example.com"
    assert recorder.of(":CertRequest")["dnsNames"] == ["abc-1.elb.example.com"]
    assert recorder.of(":Ingress", "ingress-served")["spec"]["rules"][0]["host"] == "abc-1.elb.example.com"


def test_a_load_balancer_called_localhost_is_refused_with_the_setting_that_helps() -> None:
    with pytest.raises(pulumi.RunError, match=r"'localhost'.*pulumi config set address"):
        run_failing_program(Recorder(placeholder=({"hostname": "localhost"},)))


def test_an_address_that_is_set_goes_before_the_clusters_and_needs_no_placeholder() -> None:
    recorder = Recorder(published=({"hostname": "localhost"},))
    outputs = run_program(recorder, address="192.0.2.10")
    assert outputs["registryUrl"] == f"{NAMESPACE}.192-0-2-10.nip.io"
    assert outputs["address"] == "192.0.2.10"
    assert not [name for _, name in recorder.resources if "placeholder" in name]


def test_a_host_that_is_set_needs_no_placeholder_and_its_port_is_in_no_certificate() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, host="registry.example.com:8443")
    assert outputs["registryUrl"] == "registry.example.com:8443"
    assert outputs["address"] == ADDRESS, "read from the Ingress that serves it"
    assert recorder.of(":CertRequest")["dnsNames"] == ["registry.example.com"]
    assert recorder.of(":Ingress", "ingress-served")["spec"]["tls"][0]["hosts"] == ["registry.example.com"]
    assert not [name for _, name in recorder.resources if "placeholder" in name]


def test_behind_a_load_balancer_the_registrys_pod_terminates_tls() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, exposure="loadBalancer")
    assert outputs["registryUrl"] == f"{NAMESPACE}.10-99-0-200.nip.io"
    ports = [{"name": "tls", "port": 443, "targetPort": "tls"}]
    assert recorder.of(":Service", "load-balancer-service")["spec"]["ports"] == ports
    assert recorder.kinds() == {
        "Namespace": 1,
        "PersistentVolumeClaim": 1,
        "ConfigMap": 4,
        "Secret": 2,
        "Deployment": 1,
        "Service": 3,
        "ServicePatch": 1,
        "DaemonSet": 1,
        "NetworkPolicy": 1,
        "ResourceQuota": 1,
        "ServiceAccount": 1,
    }
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    tls = next(volume for volume in pod["volumes"] if volume["name"] == "tls")
    assert tls["secret"]["secretName"] == "certificate-tls"


def test_at_a_port_of_the_nodes_the_port_is_in_every_name_and_in_no_certificate() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, exposure="nodePort")
    host = f"{NAMESPACE}.10-99-0-11.nip.io:30123"
    assert outputs["registryUrl"] == host
    assert outputs["address"] == "10.99.0.11"
    assert recorder.of(":ConfigMap", "lookup-facts")["data"]["host"] == host
    assert recorder.of(":CertRequest")["dnsNames"] == [f"{NAMESPACE}.10-99-0-11.nip.io"]
    pod = recorder.of(":DaemonSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"].startswith(f"{host}/private-registry/proof@sha256:")


def test_behind_a_gateway_tls_is_handed_through_to_the_registry() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, exposure="gateway", gatewayPort="8443")
    assert outputs["registryUrl"] == f"{NAMESPACE}.10-99-0-200.nip.io"
    assert outputs["address"] == ADDRESS
    gateway = recorder.of(":Gateway", "gateway-gateway")["spec"]
    assert gateway["gatewayClassName"] == "the-only-one"
    [listener] = gateway["listeners"]
    assert (listener["protocol"], listener["port"], listener["tls"]) == ("TLS", 8443, {"mode": "Passthrough"})
    route = recorder.of(":TLSRoute")["spec"]
    assert route["hostnames"] == [f"{NAMESPACE}.10-99-0-200.nip.io"]
    assert route["rules"] == [{"backendRefs": [{"name": "gateway", "port": 443}]}]
    assert route["parentRefs"] == [{"name": recorder.of(":Gateway", "gateway-gateway")["metadata"]["name"]}]


@pytest.mark.parametrize("exposure", ["loadBalancer", "nodePort", "gateway"])
def test_an_address_that_is_set_names_the_registry_in_every_exposure(exposure: str) -> None:
    outputs = run_program(Recorder(), exposure=exposure, address="192.0.2.10")
    assert outputs["registryUrl"].startswith(f"{NAMESPACE}.192-0-2-10.nip.io")


@pytest.mark.parametrize("exposure", get_args(Exposure))
def test_the_registrys_pod_is_the_same_for_every_exposure(exposure: str, made: Recorder) -> None:
    recorder = Recorder()
    run_program(recorder, exposure=exposure)
    assert recorder.of(":Deployment")["spec"]["template"]["spec"] == made.of(":Deployment")["spec"]["template"]["spec"]


def test_in_memory_there_is_no_volume_and_the_node_has_to_have_the_memory_of_the_images_to_spare() -> None:
    recorder = Recorder()
    run_program(recorder, storage="memory")
    assert not [typ for typ, _ in recorder.resources if typ.endswith(":PersistentVolumeClaim")]
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    data = next(volume for volume in pod["volumes"] if volume["name"] == "data")
    assert data["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    resources = pod["initContainers"][0]["resources"]
    assert int(resources["limits"]["memory"]) == 2 * 2**30 + 512 * 2**20
    assert int(resources["requests"]["memory"]) == 2 * 2**30 + 64 * 2**20


def test_with_a_bucket_several_pods_are_made_and_an_output_says_how_the_images_are_removed() -> None:
    recorder = Recorder()
    keys = {"s3AccessKey": "the access key", "s3SecretKey": "the secret key"}
    outputs = run_program(recorder, storage="s3", s3Bucket="team-images", s3Region="eu-central-1", replicas="2", **keys)
    assert outputs["removeImages"] == (
        f"aws s3 rm --recursive s3://team-images/{NAMESPACE}/ --region eu-central-1  # destroy keeps these images"
    )
    assert recorder.of(":KeptImages", "destroy-keeps-images-in-team-images") == {}
    [kept] = [outputs for typ, outputs in recorder.registered if typ.endswith(":KeptImages")]
    assert (kept["bucket"], kept["endpoint"]) == ("team-images", ""), "by which another one is refused later"
    assert recorder.of(":Deployment")["spec"]["replicas"] == 2
    assert not [typ for typ, _ in recorder.resources if typ.endswith(":PersistentVolumeClaim")]
    for (_, name), inputs in recorder.resources.items():
        for key in keys.values():
            assert (key in json.dumps(inputs)) == (name == "registry-s3"), name


def test_default_classes_are_left_to_the_cluster(made: Recorder) -> None:
    assert "storageClassName" not in made.of(":PersistentVolumeClaim")["spec"]
    assert "ingressClassName" not in made.of(":Ingress", "ingress-served")["spec"]


def test_named_classes_are_used() -> None:
    recorder = Recorder()
    run_program(recorder, ingressClass="nginx", storageClass="fast", storageSize="3Gi")
    assert recorder.of(":PersistentVolumeClaim")["spec"]["storageClassName"] == "fast"
    assert recorder.of(":PersistentVolumeClaim")["spec"]["resources"]["requests"] == {"storage": "3Gi"}
    for name in ("ingress-served", "placeholder"):
        assert recorder.of(":Ingress", name)["spec"]["ingressClassName"] == "nginx"


@pytest.mark.parametrize("exposure", ["ingress", "loadBalancer"])
def test_cert_manager_makes_what_is_served_and_its_ca_key_is_mounted_nowhere(exposure: str) -> None:
    recorder = Recorder()
    outputs = run_program(recorder, certificateIssuer="cert-manager", exposure=exposure)
    assert outputs["caCertificate"] == pem("issued-ca")
    assert recorder.of(":ConfigMap", "lookup-facts")["data"]["ca.crt"] == pem("issued-ca")
    server = recorder.of("v1:Certificate", "server-certificate")["spec"]
    assert server["dnsNames"] == [f"{NAMESPACE}.10-99-0-200.nip.io"]
    assert server["secretName"] == "certificate-issued"
    authority = recorder.of("v1:Certificate", "ca-certificate")["spec"]
    assert authority["isCA"] is True
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    pods = [inputs["spec"]["template"] for (typ, _), inputs in recorder.resources.items() if "apps/v1" in typ]
    assert len(pods) == 2
    assert authority["secretName"] not in json.dumps(pods)
    assert not [typ for typ, _ in recorder.resources if typ.startswith("tls:") and "Cert" in typ]


def test_the_registry_runs_on_linux_nodes_only(run: tuple[Recorder, dict[str, Any]]) -> None:
    pod = run[0].of(":Deployment")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_the_login_for_the_images_is_a_secret_that_every_pod_of_ours_names() -> None:
    recorder = Recorder()
    login = json.dumps({"auths": {"mirror.example.com": {"auth": "bWU6aGlkZGVu"}}})
    run_program(recorder, ("imagePullSecret",), imageRegistry="mirror.example.com/hub", imagePullSecret=login)
    made = recorder.of(":Secret", "image-login")
    assert made["metadata"]["name"] == "image-login"
    assert made["type"] == "kubernetes.io/dockerconfigjson"
    assert pulumi.runtime.rpc.is_rpc_secret(made["stringData"]), "the state holds it encrypted"
    assert made["stringData"]["value"] == {".dockerconfigjson": login}
    pods = [recorder.of(kind)["spec"]["template"]["spec"] for kind in (":Deployment", ":DaemonSet")]
    assert [[each["name"] for each in pod["imagePullSecrets"]] for pod in pods] == [
        ["image-login"],
        [names.CREDENTIALS, "image-login"],
    ]
    own = [each for pod in pods for each in (*pod["initContainers"], *pod["containers"]) if each["name"] != "proof"]
    assert all(each["image"].startswith("mirror.example.com/hub/") for each in own)
    before = {
        key
        for key, needs in recorder.dependencies.items()
        if ("kubernetes:core/v1:Secret", "image-login-secret") in needs
    }
    assert {typ.rpartition(":")[2] for typ, _ in before} >= {"Deployment", "DaemonSet"}
    others = [json.dumps(inputs) for (_, name), inputs in recorder.resources.items() if name != "image-login-secret"]
    assert not [inputs for inputs in others if "bWU6aGlkZGVu" in inputs]
