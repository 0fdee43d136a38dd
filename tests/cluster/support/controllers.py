"""Controllers that the local cluster lacks: cert-manager, a second Ingress controller, one for the Gateway API."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_cluster import network, programs

from .cluster import Cluster
from .commands import wait_until

BY_CERT_MANAGER = {"certificateIssuer": "cert-manager"}
CERT_MANAGER = "github.com/cert-manager/cert-manager"
GATEWAY_API = "gateway.networking.k8s.io"
GATEWAY_ADDRESS = "10.99.0.217"
"""Where the controller of the Gateway API is reached at first."""
KINDS = (
    "gatewayclasses",
    "gateways",
    "httproutes",
    "grpcroutes",
    "tcproutes",
    "tlsroutes",
    "referencegrants",
    "backendtlspolicies",
)
"""The kinds of the Gateway API that Traefik watches."""


@contextmanager
def cert_manager(cluster: Cluster, folder: Path) -> Iterator[None]:
    """cert-manager's own kinds and controllers, which run beside the control plane and log to a file in `folder`."""
    kinds = str(programs.source("cert-manager", CERT_MANAGER) / "deploy" / "crds")
    program = programs.ensure(("cert-manager",)) / "cert-manager-controller"
    cluster.kubectl("apply", "--server-side", "-f", kinds)
    cluster.kubectl("wait", "--for=condition=Established", "-f", kinds, "--timeout=30s")
    with (folder / "log").open("w") as log:
        command = network.inside(str(program), f"--kubeconfig={cluster.environment['KUBECONFIG']}")
        with subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
            try:
                yield
            finally:
                process.terminate()
    cluster.kubectl("delete", "-f", kinds, timeout=120)


@contextmanager
def second_traefik(
    cluster: Cluster, name: str, address: str, options: Sequence[str], *kinds: dict[str, Any]
) -> Iterator[Callable[[str], None]]:
    """A second Traefik with a LoadBalancer address and objects of its own; gives what moves it elsewhere.

    It does not watch Ingresses, unless its options say so; its entry point has the port that clients use.
    """
    own: dict[str, str] = {"name": name, "namespace": "traefik"}
    deployment: dict[str, Any] = cluster.get("deployment", "-n", "traefik", "traefik")
    template = deployment["spec"]["template"]
    template["metadata"] = {"labels": {"app": name}}
    low_ports = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    template["spec"]["securityContext"] = {"sysctls": [low_ports]}
    container = template["spec"]["containers"][0]
    container["args"] = [
        *(option for option in container["args"] if "kubernetesingress" not in option and ":8443" not in option),
        "--entrypoints.websecure.address=:443",
        *options,
    ]
    for port in container["ports"]:
        port["containerPort"] = 443 if port["name"] == "websecure" else port["containerPort"]
    service: dict[str, Any] = cluster.get("service", "-n", "traefik", "traefik")
    ports = [{key: port[key] for key in ("name", "port", "targetPort")} for port in service["spec"]["ports"]]
    annotation = "metallb.io/loadBalancerIPs"
    objects = [
        *kinds,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**own, "annotations": {annotation: address}},
            "spec": {"type": "LoadBalancer", "selector": {"app": name}, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": own,
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        },
    ]

    def published() -> str:
        points = cluster.get("service", "-n", "traefik", name)["status"].get("loadBalancer", {}).get("ingress", [])
        return points[0]["ip"] if points else ""

    def move(target: str) -> None:
        cluster.kubectl("annotate", "--overwrite", "service", name, "-n", "traefik", f"{annotation}={target}")
        wait_until(lambda: published() == target, f"the address is {target}", timeout=30)

    cluster.apply(*objects)
    try:
        cluster.kubectl("rollout", "status", f"deployment/{name}", "-n", "traefik", "--timeout=60s")
        wait_until(lambda: published() == address, f"the address is {address}", timeout=30)
        yield move
    finally:
        for kind in kinds:
            cluster.kubectl("delete", kind["kind"], kind["metadata"]["name"])
        cluster.kubectl("delete", "service,deployment", name, "-n", "traefik")


@contextmanager
def ingress_controller(
    cluster: Cluster, name: str, address: str, hostname: str = ""
) -> Iterator[Callable[[str], None]]:
    """A second Ingress controller with an IngressClass of its own; gives what moves it elsewhere.

    It publishes its address, or the host name that is given, as those of AWS do.
    """
    ingress_class = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": "traefik.io/ingress-controller"},
    }
    provider = "--providers.kubernetesingress"
    options = [
        f"{provider}=true",
        f"{provider}.ingressclass={name}",
        f"{provider}.ingressendpoint." + (f"hostname={hostname}" if hostname else f"publishedservice=traefik/{name}"),
    ]
    with second_traefik(cluster, name, address, options, ingress_class) as move:
        yield move


@contextmanager
def gateway_controller(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """The Gateway API with its experimental channel, and Traefik as its one controller; gives what moves it."""
    crds = programs.source("cluster", "sigs.k8s.io/gateway-api") / "config" / "crd" / "experimental"
    kinds = [option for file in sorted(crds.glob(f"{GATEWAY_API}_*.yaml")) for option in ("-f", str(file))]
    name, api_group = "gateways", "rbac.authorization.k8s.io"
    watched = [f"{kind}{part}" for kind in KINDS for part in ("", "/status")]
    role = {
        "apiVersion": f"{api_group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"apiGroups": [GATEWAY_API], "resources": watched, "verbs": ["get", "list", "watch", "update"]}],
    }
    binding = {
        "apiVersion": f"{api_group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": api_group, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "traefik", "namespace": "traefik"}],
    }
    gateway_class = {
        "apiVersion": f"{GATEWAY_API}/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }
    provider = "--providers.kubernetesgateway"
    options = [
        f"{provider}=true",
        f"{provider}.experimentalchannel=true",
        f"{provider}.statusaddress.service.namespace=traefik",
        f"{provider}.statusaddress.service.name={name}",
    ]
    cluster.kubectl("apply", "--server-side", *kinds)
    try:
        cluster.kubectl("wait", "--for=condition=Established", *kinds, "--timeout=30s")
        with second_traefik(cluster, name, GATEWAY_ADDRESS, options, role, binding, gateway_class) as move:
            yield move
    finally:
        cluster.kubectl("delete", *kinds, timeout=120)
