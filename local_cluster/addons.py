"""What users' clusters have and a bare one lacks: LoadBalancer addresses, a default IngressClass and StorageClass."""

import base64
import json
import secrets
import subprocess
import time
from pathlib import Path

from registry.pod.trouble import condition_of

from . import control_plane, network
from .errors import ClusterError

MANIFESTS = Path(__file__).parent / "manifests"

WORKLOADS = (
    ("metallb-system", "deployment/controller"),
    ("metallb-system", "daemonset/speaker"),
    ("local-path-storage", "deployment/local-path-provisioner"),
    ("traefik", "deployment/traefik"),
)
"""Namespace and name of what must be rolled out."""


def apply() -> None:
    """Apply the manifests. They are ready some seconds after the first node is: see `wait`."""
    names = ("control-plane.yaml", "metallb.yaml", "local-path.yaml", "traefik.yaml")
    manifests = [(MANIFESTS / name).read_text() for name in names]
    # Kinds first, so that the objects of these kinds can follow.
    _apply(*manifests, json.dumps(_memberlist()))
    _wait_established("ipaddresspools.metallb.io", "l2advertisements.metallb.io")
    _apply((MANIFESTS / "metallb-pool.yaml").read_text())


def _wait_established(*kinds: str, seconds: float = 30) -> None:
    """Wait until kinds are served. `kubectl wait` ends with an error where a kind has no condition yet."""
    deadline = time.monotonic() + seconds
    while not all(map(_is_established, kinds)):
        if time.monotonic() > deadline:
            raise ClusterError(f"the API server did not serve {' and '.join(kinds)} within {seconds:.0f} s")
        time.sleep(0.2)


def _is_established(kind: str) -> bool:
    found = json.loads(control_plane.kubectl("get", "crd", kind, "--output=json"))
    return condition_of(found, "Established").get("status") == "True"


def wait(*, seconds: float = 120) -> None:
    """Wait until every workload is rolled out and the IngressClass answers on its LoadBalancer address.

    Raises:
        ClusterError: Something is not ready in time; the message says what, and shows its pods.
    """
    deadline = time.monotonic() + seconds
    for namespace, workload in WORKLOADS:
        left = max(1, round(deadline - time.monotonic()))
        try:
            control_plane.kubectl("rollout", "status", f"--namespace={namespace}", workload, f"--timeout={left}s")
        except ClusterError as error:
            pods = control_plane.kubectl("get", "pods", f"--namespace={namespace}", "--output=wide")
            raise ClusterError(f"{workload} was not ready within {seconds:.0f} s: {error}\n{pods}") from None
    while not answers():
        if time.monotonic() > deadline:
            raise ClusterError(
                f"Traefik does not answer on its LoadBalancer address after {seconds:.0f} s: see its log"
            )
        time.sleep(0.2)


def answers() -> bool:
    """Tell whether Traefik answers on the address of its LoadBalancer Service."""
    path = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}"
    address = control_plane.kubectl("get", "service", "--namespace=traefik", "traefik", path)
    if not address:
        return False
    options = ("--silent", "--insecure", "--max-time", "2", "--output", "/dev/null")
    probe = network.client("curl", *options, f"https://{address}/")
    return subprocess.run(probe, check=False).returncode == 0


def _apply(*manifests: str) -> None:
    options = ("--server-side", "--force-conflicts", "--field-manager=local-cluster", "--filename=-")
    control_plane.kubectl("apply", *options, stdin="\n---\n".join(manifests))


def _memberlist() -> dict[str, object]:
    """Return the Secret by which MetalLB's speakers recognize each other."""
    key = base64.b64encode(base64.b64encode(secrets.token_bytes(128))).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "memberlist", "namespace": "metallb-system"},
        "data": {"secretkey": key},
    }
