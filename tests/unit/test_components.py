"""What the program makes, seen by recording mocks in place of the engine."""

import asyncio
import json
import re
import runpy
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from registry import client_setup

ROOT = Path(__file__).parents[2]
ADDRESS = "10.99.0.200"
NAMESPACE = "registry-pr-42-1a2b3c4d"


def pem(name: str) -> str:
    """What the TLS provider makes, but for the certificate in it."""
    return ssl.DER_cert_to_PEM_cert(name.encode())


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Records every resource, and answers what a cluster and the TLS provider would."""

    ingress_address: str = ADDRESS
    resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.resources[args.typ, args.name] = args.inputs
        state = json.loads(json.dumps(args.inputs))
        if args.typ == "kubernetes:core/v1:Namespace":
            state["metadata"]["name"] = NAMESPACE
        if args.typ.endswith(":Ingress") and args.typ.startswith("kubernetes:"):
            ip = ADDRESS if "placeholder" in args.name else self.ingress_address
            state["status"] = {"loadBalancer": {"ingress": [{"ip": ip}]}}
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


def run_program(recorder: Recorder, **config: str) -> dict[str, Any]:
    """Run `__main__.py` and wait until nothing is pending; its exports."""
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    defaults = {
        f"private-registry:{key}": json.dumps(entry["default"]) if entry["type"] == "boolean" else entry["default"]
        for key, entry in schema.items() if ":" not in key
    }
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, project="private-registry", stack="pr-42", preview=False)
    pulumi.runtime.set_all_config({**defaults, **{f"private-registry:{k}": v for k, v in config.items()}})
    exports: dict[str, Any] = {}

    async def program() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pulumi, "export", lambda name, value: exports.__setitem__(name, value))
            runpy.run_path(str(ROOT / "__main__.py"))

    asyncio.get_event_loop().run_until_complete(pulumi.runtime.stack.run_pulumi_func(lambda: program()))
    loop = asyncio.get_event_loop()
    return {
        name: loop.run_until_complete(value.future()) if isinstance(value, pulumi.Output) else value
        for name, value in exports.items()
    }


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
        "private-registry:registry:Address",
        "private-registry:registry:Certificate",
        "private-registry:registry:Ingress",
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
        "Namespace": 1, "PersistentVolumeClaim": 1, "ConfigMap": 3, "Secret": 2, "Deployment": 1, "Service": 1,
        "Ingress": 2, "DaemonSet": 1,
    }


def test_an_ingress_with_an_address_of_its_own_is_refused() -> None:
    with pytest.raises(pulumi.RunError, match=r"10\.99\.0\.201.*10\.99\.0\.200.*ingressClass"):
        run_program(Recorder(ingress_address="10.99.0.201"))


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
