"""Certificates alone: the real providers and a real cert-manager, on a cluster without nodes.

What nodes and clients notice of it is in `test_ca.py` and `test_renewals.py`.
"""

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local_cluster.paths import REPOSITORY
from registry.certificate.authority import authorities
from registry.certificate.contract import CA_VALIDITY, RENEWAL

from .support import controllers
from .support.cluster import Cluster
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

HOUR = 3600
TLS = ("tls:index/selfSignedCert:SelfSignedCert", "tls:index/locallySignedCert:LocallySignedCert")
PROGRAM = f"""
import sys

sys.path.insert(0, {str(REPOSITORY)!r})
import pulumi
import pulumi_kubernetes as k8s

from registry import names
from registry.certificate.choice import make_certificate
from registry.cluster import Cluster
from registry.settings import load
from registry.stack.identity import make_identity
from registry.stack.preflight import certificates
from registry.stack.recorded import read_state
from trust.handover import hand_over

settings, cluster, recorded = load(pulumi.Config()), Cluster(), read_state()
for error in certificates.errors(settings, cluster):
    raise error
identity = make_identity("identity", settings, cluster, recorded)
certificate = make_certificate(
    "certificate", settings, identity.namespace, settings.host, cluster, recorded.certificates, hand_over
)
place = k8s.meta.v1.ObjectMetaArgs(name=names.LOOKUP, namespace=identity.namespace)
k8s.core.v1.ConfigMap("lookup-facts", metadata=place, data={{"ca.crt": certificate.ca_certificate}})
pulumi.export("ca", certificate.ca_certificate)
pulumi.export("namespace", identity.namespace)
pulumi.export("secret", certificate.secret)
"""
"""The part of `__main__.py` that makes certificates, and the ConfigMap that the nodes would read."""


@dataclass(kw_only=True)
class Certificates(Stack):
    """A stack of the program above."""

    cluster: Cluster
    folder: Path

    def pulumi(self, *arguments: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `pulumi` command in the folder of the program."""
        return super().pulumi(*arguments, "--cwd", str(self.folder), timeout=timeout, check=check)

    def change(self, **settings: str) -> str:
        """Change settings and run `up`, after which nothing is left to change; what `up` says."""
        for key, value in settings.items():
            self.pulumi("config", "set", key, value)
        told = self.up().stdout
        self.pulumi("preview", "--expect-no-changes")
        return told

    def secret(self, name: str) -> dict[str, str]:
        """The texts in a Secret."""
        data: Mapping[str, str] = self.cluster.get("secret", "-n", self.outputs()["namespace"], name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def served(self) -> str:
        """The server certificate, with what is sent beside it."""
        return self.secret(self.outputs()["secret"])["tls.crt"]

    def accepts(self, ca: str, certificate: str) -> bool:
        """Whether OpenSSL, at its strictest, accepts a certificate under a CA."""
        files = {"ca.pem": ca, "certificate.pem": certificate}
        for name, text in files.items():
            (self.folder / name).write_text(text)
        command = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.pem", "certificate.pem"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, timeout=30).returncode == 0

    def end(self, certificate: str) -> float:
        """The end of a certificate, in seconds since 1970."""
        (self.folder / "one.pem").write_text(certificate)
        command = ["openssl", "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", "one.pem"]
        shown = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True, timeout=30).stdout
        return datetime.fromisoformat(shown.strip().partition("=")[2]).timestamp()

    def move_time(self, left: timedelta) -> None:
        """Have it be so late that the CA is valid for `left` only.

        The provider compares the end of a certificate in the stack's state with its clock; so the end is moved.
        """
        state: Any = json.loads(self.state())
        found = {each["type"]: each["outputs"] for each in state["deployment"]["resources"] if each["type"] in TLS}
        moved = datetime.now(UTC) + left - datetime.fromisoformat(found[TLS[0]]["validityEndTime"])
        for each in found.values():
            end = datetime.fromisoformat(each["validityEndTime"]) + moved
            each["validityEndTime"] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        (self.folder / "state.json").write_text(json.dumps(state))
        self.pulumi("stack", "import", "--file", str(self.folder / "state.json"))


@pytest.fixture(scope="module")
def issuing(bare: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster without nodes, with a cert-manager of its own."""
    with controllers.cert_manager(bare, tmp_path_factory.mktemp("cert-manager")):
        yield bare


@contextmanager
def certificates(cluster: Cluster, folder: Path, **settings: str) -> Iterator[Certificates]:
    """A stack that is up, for the host registry.example.com unless the settings say otherwise."""
    project = (REPOSITORY / "Pulumi.yaml").read_text()
    (folder / "Pulumi.yaml").write_text(project.replace("virtualenv: .venv", f"virtualenv: {REPOSITORY / '.venv'}"))
    (folder / "__main__.py").write_text(PROGRAM)
    values = {"host": "registry.example.com", **settings}
    with Certificates(environment=cluster.environment, settings=values, cluster=cluster, folder=folder) as stack:
        stack.change()
        yield stack


def test_tls_renews_in_the_last_60_days_with_the_same_key_and_no_server_certificate_outlives_its_ca(
    issuing: Cluster, tmp_path: Path
) -> None:
    with certificates(issuing, tmp_path) as stack:
        old, first = stack.outputs()["ca"], stack.served()
        assert stack.accepts(old, first)
        stack.move_time(timedelta(hours=RENEWAL, minutes=10))
        stack.pulumi("preview", "--expect-no-changes")
        stack.move_time(timedelta(hours=RENEWAL, minutes=-10))
        assert "The CA was renewed, with the same key." in stack.change()
        new = stack.outputs()["ca"]
        assert new != old
        assert authorities(new)[0].identity == authorities(old)[0].identity
        assert stack.served() != first
        for ca in (old, new):
            assert stack.accepts(ca, stack.served())
        assert stack.accepts(new, first)
        # A server certificate that is made 55 days later, for another host, ends with the same CA.
        for days, host in ((0, "b.example.com"), (55, "c.example.com")):
            stack.move_time(timedelta(hours=CA_VALIDITY) - timedelta(days=days, minutes=5))
            stack.change(host=host)
            left = authorities(new)[0].ends - days * 24 * HOUR - stack.end(stack.served())
            assert 0 < left <= 4 * HOUR
        assert stack.outputs()["ca"] == new
        # Somebody's own CA in the ConfigMap does not become one of the stack.
        place = ("configmap", "private-registry", "-n", stack.outputs()["namespace"])
        issuing.kubectl("patch", *place, "-p", json.dumps({"data": {"ca.crt": "somebody else's"}}))
        stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
        assert issuing.get(*place)["data"]["ca.crt"] == new


def test_each_issuer_and_each_key_follows_the_other_and_cert_managers_ca_signs_for_the_host_alone(
    issuing: Cluster, tmp_path: Path
) -> None:
    with certificates(issuing, tmp_path) as stack:
        before: list[str] = [authorities(stack.outputs()["ca"])[0].pem]
        changes = (
            {"caVersion": "2"},
            {"certificateIssuer": "cert-manager"},
            {"host": "other.example.com"},
            {"caVersion": "3"},
            {"certificateIssuer": "tls"},
        )
        for change in changes:
            assert "The CA is another one than before." in stack.change(**change), change
            found = [each.pem for each in authorities(stack.outputs()["ca"])]
            assert found[1:] == before, change
            assert stack.accepts(found[0], stack.served()), change
            assert not any(stack.accepts(each, stack.served()) for each in before), change
            before = found
        stack.change(certificateIssuer="cert-manager", host="registry-x.10-99-0-200.nip.io")
        ca = authorities(stack.outputs()["ca"])[0].pem
        assert_bounded(stack, ca, "registry-x.10-99-0-200.nip.io")
        server = stack.end(stack.served().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
        assert server < authorities(ca)[0].ends


def assert_bounded(stack: Certificates, ca: str, host: str) -> None:
    """Check that the CA can sign for hosts below nip.io, and for nothing else."""
    found = stack.cluster.get("secrets", "-n", stack.outputs()["namespace"])["items"]
    texts = [stack.secret(each["metadata"]["name"]) for each in found]
    [key] = [each["tls.key"] for each in texts if each.get("tls.crt", "").strip() == ca.strip()]
    (stack.folder / "bounded.crt").write_text(ca)
    (stack.folder / "bounded.key").write_text(key)
    names = {f"DNS:{host}": True, "DNS:example.com": False, "DNS:nip.io.example.com": False, "IP:10.99.0.1": False}
    for name, accepted in names.items():
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
            "2", "-subj", "/CN=x", "-addext", f"subjectAltName={name}", "-addext",
            "basicConstraints=critical,CA:FALSE", "-CA", "bounded.crt", "-CAkey", "bounded.key", "-keyout", "any.key",
            "-out", "any.crt",
        ]  # fmt: skip
        subprocess.run(command, cwd=stack.folder, check=True, capture_output=True, timeout=30)
        assert stack.accepts(ca, (stack.folder / "any.crt").read_text()) == accepted, name


def test_a_cluster_issuer_signs_or_is_refused_and_one_without_a_ca_is_publicly_trusted(
    issuing: Cluster, tmp_path: Path
) -> None:
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90",
        "-subj", "/CN=The company's CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "key", "-out",
        "crt",
    ]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=30)
    company = (tmp_path / "crt").read_text()
    pair = [f"--cert={tmp_path}/crt", f"--key={tmp_path}/key"]
    issuing.kubectl("create", "secret", "tls", "company", "-n", "kube-system", *pair)
    kinds: dict[str, dict[str, Any]] = {
        "company": {"ca": {"secretName": "company"}},
        "public": {"ca": {"secretName": "company"}},
        "broken": {"ca": {"secretName": "missing"}},
        "itself": {"selfSigned": {}},
    }
    issuing.apply(
        *(
            {"apiVersion": "cert-manager.io/v1", "kind": "ClusterIssuer", "metadata": {"name": name}, "spec": spec}
            for name, spec in kinds.items()
        )
    )
    for name in ("company", "public", "itself"):
        issuing.kubectl("wait", "--for=condition=Ready", f"clusterissuer/{name}", "--timeout=30s")
    # cert-manager writes no `ca.crt` for issuers such as Let's Encrypt; here a policy takes it away.
    removal = {"patchType": "JSONPatch", "jsonPatch": {"expression": '[JSONPatch{op: "remove", path: "/data/ca.crt"}]'}}
    spec = {"reinvocationPolicy": "Never", "mutations": [removal]}
    by_it = "object.metadata.?annotations['cert-manager.io/issuer-name'].orValue('') == 'public'"
    where = f"has(object.data) && 'ca.crt' in object.data && {by_it}"
    with ExitStack() as made:
        name = f"public-{secrets.token_hex(3)}"
        made.enter_context(issuing.policy("MutatingAdmissionPolicy", name, "/secrets", spec, {}, where, changes=True))
        refused = {
            "nobody": "there is no ClusterIssuer of that name: the cluster has broken, company, itself, public",
            "itself": "has each certificate sign itself",
            "broken": "is not ready",
        }
        stack = made.enter_context(certificates(issuing, tmp_path, certificateIssuer="cert-manager"))
        objects = issuing.kubectl("get", "issuers,certificates", "-A", "-o", "name")
        for issuer, words in refused.items():
            stack.pulumi("config", "set", "issuer", issuer)
            done = stack.up(check=False)
            assert done.returncode != 0
            assert f"issuer is '{issuer}', but" in done.stdout + done.stderr
            assert words in done.stdout + done.stderr
            assert issuing.kubectl("get", "issuers,certificates", "-A", "-o", "name") == objects
        stack.change(issuer="company")
        assert authorities(stack.outputs()["ca"])[0].pem.strip() == company.strip()
        assert stack.accepts(company, stack.served())
        assert issuing.get("issuers", "-A")["items"] == []
        stack.change(issuer="public")
        assert stack.outputs()["ca"] == ""
        assert stack.accepts(company, stack.served())
        stack.pulumi("config", "rm", "issuer")
        stack.change(certificateIssuer="tls")
        assert stack.accepts(stack.outputs()["ca"], stack.served())
