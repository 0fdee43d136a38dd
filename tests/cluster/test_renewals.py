"""A certificate that is renewed under a running stack reaches clients, and nobody notices."""

import json
from functools import partial
from pathlib import Path

import pytest

from .support.certificates import served_certificate
from .support.changes import CHANGES
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.controllers import BY_CERT_MANAGER
from .support.loop import Loop
from .support.stacks import Deployed, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROPAGATION = 150.0
"""Seconds that a kubelet may take to bring a changed Secret into a running pod: its sync period and its cache's age."""


def renew_by_pulumi(deployed: Deployed, certificate: str = "certificate-server") -> None:
    """Have a certificate made anew, as `up` does by itself when it is about to expire."""
    entries = json.loads(deployed.stack.state())["deployment"]["resources"]
    urn = next(entry["urn"] for entry in entries if entry["urn"].endswith(f"::{certificate}"))
    deployed.stack.pulumi("up", "--yes", "--skip-preview", "--replace", urn)


def renew_by_cert_manager(deployed: Deployed, kind: str = "issued") -> None:
    """Have cert-manager renew a certificate, as it does by itself in time; `cmctl renew` sets the same condition.

    `kind` is `issued` for the server certificate, and `ca`.
    """
    names = [
        each["metadata"]["name"] for each in deployed.cluster.get("certificates", "-n", deployed.namespace)["items"]
    ]
    [certificate] = [name for name in names if name.startswith(f"certificate-{kind}")]
    condition = {
        "type": "Issuing",
        "status": "True",
        "reason": "ManuallyTriggered",
        "message": "renewal by a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = ("certificate", certificate, "-n", deployed.namespace)
    found = deployed.cluster.get(*path)
    conditions = [entry for entry in found["status"]["conditions"] if entry["type"] != "Issuing"]
    patch = json.dumps({"status": {"conditions": [*conditions, condition]}})
    revision = found["status"]["revision"]
    deployed.cluster.kubectl("patch", *path, "--subresource=status", "--type=merge", "-p", patch)
    wait_until(
        lambda: deployed.cluster.get(*path)["status"]["revision"] > revision, f"{certificate} is renewed", timeout=30
    )


RENEWALS = {
    "ingress, cert-manager": (BY_CERT_MANAGER, renew_by_cert_manager),
    "loadBalancer, tls": ({"exposure": "loadBalancer"}, renew_by_pulumi),
    "loadBalancer, tls, CA": ({"exposure": "loadBalancer"}, partial(renew_by_pulumi, certificate="certificate-ca")),
    "ingress, tls, CA": ({"exposure": "ingress"}, partial(renew_by_pulumi, certificate="certificate-ca")),
    "loadBalancer, cert-manager": ({"exposure": "loadBalancer", **BY_CERT_MANAGER}, renew_by_cert_manager),
}


@pytest.mark.usefixtures("cert_manager")
@pytest.mark.parametrize("case", RENEWALS)
def test_a_renewed_certificate_reaches_clients_without_one_failed_pull_or_push(
    cluster: Cluster, tmp_path: Path, namespace: str, case: str
) -> None:
    values, renew = RENEWALS[case]
    with deployed_stack(cluster, tmp_path, values) as deployed:
        before = served_certificate(deployed)
        pods = {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", deployed.namespace)["items"]}
        with Loop(deployed, namespace, tmp_path) as loop:
            renew(deployed)
            wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
            # Clients go on with the CA certificate that they have.
            loop.settle()
            loop.check(CHANGES["renewal"].allowed)
        assert {pod["metadata"]["uid"] for pod in cluster.get("pods", "-n", deployed.namespace)["items"]} == pods


@pytest.mark.usefixtures("cert_manager")
def test_a_ca_that_cert_manager_renews_needs_no_up_and_no_new_trust(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, BY_CERT_MANAGER) as deployed:
        image = f"{deployed.host}/test/app:1"
        deployed.crane("push", app_image, image)
        before = served_certificate(deployed)
        renew_by_cert_manager(deployed, "ca")
        renew_by_cert_manager(deployed)
        wait_until(lambda: served_certificate(deployed) != before, "the new one is served", timeout=PROPAGATION)
        deployed.start_pods(namespace, image, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        # The next `up` hands the new CA certificate out; it vouches for the same.
        deployed.stack.up()
        renewed = deployed.stack.outputs()["caCertificate"]
        assert renewed != deployed.ca
        assert renewed == cluster.get("configmap", "-n", deployed.namespace, "private-registry")["data"]["ca.crt"]
        deployed.ca_file.write_text(renewed)
        served_certificate(deployed)
        deployed.stack.pulumi("preview", "--expect-no-changes")
