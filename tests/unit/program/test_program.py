"""What the program makes, seen by recording mocks in place of the engine."""

import asyncio
import base64
import collections
import concurrent.futures
import json
import multiprocessing
import re
import runpy
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from registry import client_setup, dns, preflight
from registry.cluster import Object
from trust.daemonset import some_node

ROOT = Path(__file__).parents[2]
ADDRESS = "10.99.0.200"
NAMESPACE = "registry-pr-42-1a2b3c4d"


def pem(name: str) -> str:
    """What the TLS provider makes, but for the certificate in it."""
    return ssl.DER_cert_to_PEM_cert(name.encode())


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Records every resource, and answers what a cluster and the TLS provider would."""

    placeholder: tuple[dict[str, str], ...] = ({"ip": ADDRESS},)
    published: tuple[dict[str, str], ...] = ({"ip": ADDRESS},)
    resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.resources[args.typ, args.name] = args.inputs
        state = json.loads(json.dumps(args.inputs))
        if args.typ == "kubernetes:core/v1:Namespace":
            state["metadata"]["name"] = NAMESPACE
        if args.typ.endswith(":Ingress") and args.typ.startswith("kubernetes:"):
            points = self.placeholder if "placeholder" in args.name else self.published
            state["status"] = {"loadBalancer": {"ingress": list(points)}}
        if args.typ == "kubernetes:core/v1:Secret" and "issued" in args.name:
            state["data"] = {"ca.crt": base64.b64encode(pem("issued-ca").encode()).decode()}
            state["metadata"] = {"name": "certificate-tls"}
        if args.typ == "kubernetes:core/v1:Service":
            state["status"] = {"loadBalancer": {"ingress": list(self.published)}}
            if args.inputs["spec"]["type"] == "NodePort":
                state["spec"]["ports"][0]["nodePort"] = 30123
        if args.typ == "tls:index/privateKey:PrivateKey":
            state["privateKeyPem"] = f"key of {args.name}"
        if "Cert" in args.typ:
            state["certPem"] = pem(args.name)
            state["certRequestPem"] = args.name
        return args.name, state

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        return {}, None

    def of(self, suffix: str, name: str = "") -> dict[str, Any]:
        """The inputs of the one resource whose type ends in `suffix` and whose name has `name` in it."""
        found = [inputs for (typ, own), inputs in self.resources.items() if typ.endswith(suffix) and name in own]
        assert len(found) == 1, (suffix, name, sorted(self.resources))
        return found[0]


@dataclass
class QuietCluster:
    """A cluster that has one of everything and refuses nothing."""

    gateway_classes: tuple[Object, ...] = ({"metadata": {"name": "the-only-one"}},)

    nodes: list[Object] = field(
        default_factory=lambda: [
            {
                "metadata": {"name": "node-a"},
                "spec": {},
                "status": {"addresses": [{"type": "InternalIP", "address": "10.99.0.11"}]},
            }
        ]
    )

    def version(self) -> tuple[int, int]:
        return 1, 36

    def ingress_classes(self) -> None:
        return None

    storage_classes = ingress_classes

    def refusal(self, *_: object) -> str:
        return ""

    def serves(self, _group_version: str, _kind: str) -> bool:
        return True

    def read(self, _group_version: str, plural: str, _namespace: str, _name: str) -> Object:
        if plural == "gateways":
            return {"status": {"addresses": [{"type": "IPAddress", "value": ADDRESS}]}}
        return {"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}}


async def resolved(_name: str) -> tuple[set[str], str]:
    """An answer that has every address of these tests."""
    return {ADDRESS, "10.99.0.11", "192.0.2.10"}, ""


def run_program(recorder: Recorder, **config: str) -> dict[str, Any]:
    """Run `__main__.py` and wait until nothing is pending; its exports."""
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    defaults = {
        f"private-registry:{key}": entry["default"] if entry["type"] == "string" else json.dumps(entry["default"])
        for key, entry in schema.items()
        if ":" not in key
    }
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, project="private-registry", stack="pr-42", preview=False)
    pulumi.runtime.set_all_config({**defaults, **{f"private-registry:{k}": v for k, v in config.items()}})
    exports: dict[str, Any] = {}

    async def program() -> None:
        runpy.run_path(str(ROOT / "__main__.py"))

    loop = asyncio.get_event_loop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "Cluster", QuietCluster)
        patch.setattr(dns, "look_up", resolved)
        patch.setattr(pulumi, "export", lambda name, value: exports.__setitem__(name, value))
        loop.run_until_complete(pulumi.runtime.stack.run_pulumi_func(lambda: program()))
        values = {
            name: loop.run_until_complete(value.future()) if isinstance(value, pulumi.Output) else value
            for name, value in exports.items()
        }
    return {name: value for name, value in values.items() if value is not None}  # the engine drops them, too


def run_failing_program(recorder: Recorder, **config: str) -> None:
    """Run `__main__.py` in a process of its own: what a failed program leaves pending is waited for by the next one."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(run_program, recorder, **config).result()


@pytest.fixture(scope="module")
def run() -> tuple[Recorder, dict[str, Any]]:
    recorder = Recorder()
    return recorder, run_program(recorder)


@pytest.fixture
def made(run: tuple[Recorder, dict[str, Any]]) -> Recorder:
    return run[0]


def test_the_outputs_are_the_ones_that_people_use(run: tuple[Recorder, dict[str, Any]]) -> None:
    assert run[1] == {
        "registryUrl": "registry-pr-42-r.10-99-0-200.nip.io",
        "caCertificate": pem("certificate-ca"),
        "address": ADDRESS,
        "namespace": NAMESPACE,
        "configMap": "private-registry",
        "clientSetup": client_setup("registry-pr-42-r.10-99-0-200.nip.io", pem("certificate-ca")),
    }


def test_the_component_types_are_these(made: Recorder) -> None:
    types = sorted(typ for typ, _ in made.resources if typ.startswith("private-registry:"))
    assert types == [
        "private-registry:registry:Certificate",
        "private-registry:registry:Credentials",
        "private-registry:registry:Ingress",
        "private-registry:registry:IngressAddress",
        "private-registry:registry:Registry",
        "private-registry:trust:Trust",
    ]


def test_the_host_reaches_ingress_certificate_config_map_and_agent(made: Recorder) -> None:
    host = "registry-pr-42-r.10-99-0-200.nip.io"
    ingress = made.of(":Ingress", "ingress-ingress")["spec"]
    assert ingress["rules"][0]["host"] == host
    assert ingress["tls"][0]["hosts"] == [host]
    assert made.of(":CertRequest")["dnsNames"] == [host]
    assert made.of(":ConfigMap", "lookup")["data"]["host"] == host
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
    data = made.of(":ConfigMap", "lookup")["data"]
    assert data == {"host": data["host"], "address": ADDRESS, "ca.crt": pem("certificate-ca")}
    volumes = made.of(":DaemonSet")["spec"]["template"]["spec"]["volumes"]
    assert not [volume for volume in volumes if "secret" in volume or "hostPath" in volume]


def test_the_agent_starts_first_and_the_proof_only_after_it_is_ready(made: Recorder) -> None:
    pod = made.of(":DaemonSet")["spec"]["template"]["spec"]
    agent = pod["initContainers"][0]
    assert agent["restartPolicy"] == "Always"
    assert agent["startupProbe"]["exec"]["command"][:2] == ["test", "-f"]
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_the_registry_pod_keeps_the_restricted_standard(made: Recorder) -> None:
    pod = made.of(":Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
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


def test_no_resource_without_a_need_is_made(made: Recorder) -> None:
    counts: dict[str, int] = {}
    for typ, _ in made.resources:
        counts[typ] = counts.get(typ, 0) + 1
    assert {re.sub(r"^.*:", "", typ): n for typ, n in counts.items() if typ.startswith("kubernetes:")} == {
        "Namespace": 1,
        "PersistentVolumeClaim": 1,
        "ConfigMap": 3,
        "Secret": 2,
        "Deployment": 1,
        "Service": 1,
        "Ingress": 2,
        "DaemonSet": 1,
    }


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
    assert recorder.of(":Ingress", "ingress-ingress")["spec"]["rules"][0]["host"] == "abc-1.elb.example.com"


def test_a_load_balancer_called_localhost_is_refused_with_the_setting_that_helps() -> None:
    with pytest.raises(pulumi.RunError, match=r"'localhost'.*pulumi config set address"):
        run_failing_program(Recorder(placeholder=({"hostname": "localhost"},)))


def test_an_address_that_is_set_goes_before_the_clusters_and_needs_no_placeholder() -> None:
    recorder = Recorder(published=({"hostname": "localhost"},))
    outputs = run_program(recorder, address="192.0.2.10")
    assert outputs["registryUrl"] == "registry-pr-42-r.192-0-2-10.nip.io"
    assert outputs["address"] == "192.0.2.10"
    assert not [name for _, name in recorder.resources if "placeholder" in name]


def test_a_host_that_is_set_needs_no_placeholder_and_its_port_is_in_no_certificate() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, host="registry.example.com:8443")
    assert outputs["registryUrl"] == "registry.example.com:8443"
    assert outputs["address"] == ADDRESS, "read from the Ingress that serves it"
    assert recorder.of(":CertRequest")["dnsNames"] == ["registry.example.com"]
    assert recorder.of(":Ingress", "ingress-ingress")["spec"]["tls"][0]["hosts"] == ["registry.example.com"]
    assert not [name for _, name in recorder.resources if "placeholder" in name]


def types(recorder: Recorder) -> dict[str, int]:
    """How many objects of each kind are made in the cluster."""
    return dict(
        collections.Counter(re.sub(r"^.*:", "", typ) for typ, _ in recorder.resources if typ.startswith("kubernetes:"))
    )


def test_behind_a_load_balancer_the_registry_terminates_tls_itself() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, exposure="loadBalancer")
    assert outputs["registryUrl"] == "registry-pr-42-r.10-99-0-200.nip.io"
    assert recorder.of(":Service")["spec"]["ports"] == [{"name": "registry", "port": 443, "targetPort": 5000}]
    assert types(recorder) == {
        "Namespace": 1,
        "PersistentVolumeClaim": 1,
        "ConfigMap": 3,
        "Secret": 2,
        "Deployment": 1,
        "Service": 1,
        "DaemonSet": 1,
    }
    config = json.loads(recorder.of(":ConfigMap", "registry")["data"]["config.yml"])
    assert config["http"]["tls"]["minimumtls"] == "tls1.2"
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    assert [c["livenessProbe"]["httpGet"]["scheme"] for c in pod["containers"] if "livenessProbe" in c] == ["HTTPS"]
    tls = next(volume for volume in pod["volumes"] if volume["name"] == "tls")
    assert tls["secret"]["secretName"] == "certificate-tls"


def test_at_a_port_of_the_nodes_the_port_is_in_every_name_and_in_no_certificate() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, exposure="nodePort")
    host = "registry-pr-42-r.10-99-0-11.nip.io:30123"
    assert outputs["registryUrl"] == host
    assert outputs["address"] == "10.99.0.11"
    assert recorder.of(":ConfigMap", "lookup")["data"]["host"] == host
    assert recorder.of(":CertRequest")["dnsNames"] == ["registry-pr-42-r.10-99-0-11.nip.io"]
    pod = recorder.of(":DaemonSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"].startswith(f"{host}/private-registry/proof@sha256:")


def test_behind_a_gateway_tls_is_handed_through_to_the_registry() -> None:
    recorder = Recorder()
    outputs = run_program(recorder, exposure="gateway", gatewayPort="8443")
    assert outputs["registryUrl"] == "registry-pr-42-r.10-99-0-200.nip.io"
    assert outputs["address"] == ADDRESS
    gateway = recorder.of(":Gateway", "exposure-gateway")["spec"]
    assert gateway["gatewayClassName"] == "the-only-one"
    [listener] = gateway["listeners"]
    assert (listener["protocol"], listener["port"], listener["tls"]) == ("TLS", 8443, {"mode": "Passthrough"})
    route = recorder.of(":TLSRoute")["spec"]
    assert route["hostnames"] == ["registry-pr-42-r.10-99-0-200.nip.io"]
    assert route["rules"] == [{"backendRefs": [{"name": "exposure", "port": 5000}]}]
    assert route["parentRefs"] == [{"name": "exposure"}]
    config = json.loads(recorder.of(":ConfigMap", "registry")["data"]["config.yml"])
    assert "tls" in config["http"]


@pytest.mark.parametrize("exposure", ["loadBalancer", "nodePort", "gateway"])
def test_an_address_that_is_set_names_the_registry_in_every_exposure(exposure: str) -> None:
    outputs = run_program(Recorder(), exposure=exposure, address="192.0.2.10")
    assert outputs["registryUrl"].startswith("registry-pr-42-r.192-0-2-10.nip.io")


def test_every_container_of_a_registry_with_tls_keeps_the_restricted_standard() -> None:
    recorder = Recorder()
    run_program(recorder, exposure="loadBalancer")
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"limits", "requests"}


def test_in_memory_there_is_no_volume_and_the_memory_of_the_images_comes_on_top() -> None:
    recorder = Recorder()
    run_program(recorder, storage="memory", storageSize="2Gi")
    assert not [typ for typ, _ in recorder.resources if typ.endswith(":PersistentVolumeClaim")]
    pod = recorder.of(":Deployment")["spec"]["template"]["spec"]
    data = next(volume for volume in pod["volumes"] if volume["name"] == "data")
    assert data["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}
    assert int(pod["containers"][0]["resources"]["limits"]["memory"]) == 2 * 2**30 + 512 * 2**20


def test_default_classes_are_left_to_the_cluster(made: Recorder) -> None:
    assert "storageClassName" not in made.of(":PersistentVolumeClaim")["spec"]
    assert "ingressClassName" not in made.of(":Ingress", "ingress-ingress")["spec"]


def test_named_classes_are_used() -> None:
    recorder = Recorder()
    run_program(recorder, ingressClass="nginx", storageClass="fast", storageSize="3Gi")
    assert recorder.of(":PersistentVolumeClaim")["spec"]["storageClassName"] == "fast"
    assert recorder.of(":PersistentVolumeClaim")["spec"]["resources"]["requests"] == {"storage": "3Gi"}
    for name in ("ingress-ingress", "placeholder"):
        assert recorder.of(":Ingress", name)["spec"]["ingressClassName"] == "nginx"


@pytest.mark.parametrize("exposure", ["ingress", "loadBalancer"])
def test_cert_manager_makes_what_is_served_and_its_ca_key_is_mounted_nowhere(exposure: str) -> None:
    recorder = Recorder()
    outputs = run_program(recorder, certificateIssuer="cert-manager", exposure=exposure)
    assert outputs["caCertificate"] == pem("issued-ca")
    assert recorder.of(":ConfigMap", "lookup")["data"]["ca.crt"] == pem("issued-ca")
    server = recorder.of(":Certificate", "server-certificate")["spec"]
    assert server["dnsNames"] == ["registry-pr-42-r.10-99-0-200.nip.io"]
    assert server["secretName"] == "certificate-tls"
    authority = recorder.of(":Certificate", "ca-certificate")["spec"]
    assert authority["isCA"] is True
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    pods = [inputs["spec"]["template"] for (typ, _), inputs in recorder.resources.items() if "apps/v1" in typ]
    assert len(pods) == 2
    assert authority["secretName"] not in json.dumps(pods)
    assert not [typ for typ, _ in recorder.resources if typ.startswith("tls:") and "Cert" in typ]


def test_a_daemon_set_that_matches_no_node_is_an_error() -> None:
    with pytest.raises(pulumi.RunError, match="matches no node, so no kubelet trusts the registry"):
        some_node(0)
    for desired in (None, 1, 5):
        some_node(desired)


def test_the_registry_runs_on_linux_nodes_only(run: tuple[Recorder, dict[str, Any]]) -> None:
    pod = run[0].of(":Deployment")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
