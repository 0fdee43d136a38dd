"""Program and doctor reach and accept the API servers that kubectl does, and never call a TLS fault a login problem."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import kubernetes
import pulumi
import pytest
import urllib3
import yaml

from registry import kubeconfig
from registry.cluster import Cluster, Object
from registry.kubeconfig import KubeconfigError, connect
from registry.pod.pods import pods_of
from registry.waiting import rolled_out
from tests.cluster.support.http_proxy import http_proxy
from tests.unit.support.api_server import (
    TOKENS,
    JsonHandler,
    api_server,
    as_python_3_13,
    old_certificates,
    serving,
    write_kubeconfig,
)
from tests.unit.support.settings import ROOT
from trust.handover import hand_over
from trust.proving import Unproved, prove

client: Any = kubernetes.client


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """Certificates as older clusters have them, for a Python that verifies strictly."""
    as_python_3_13(monkeypatch)
    pulumi.runtime.set_all_config({})
    return old_certificates(tmp_path)


def test_a_strict_python_refuses_these_certificates_by_default(old: tuple[Path, Path, Path]) -> None:
    ca, leaf, key = old
    with api_server(leaf, key) as url, pytest.raises(urllib3.exceptions.MaxRetryError, match="CERTIFICATE_VERIFY_FAIL"):
        urllib3.PoolManager(ca_certs=str(ca), retries=0).request("GET", f"{url}/version")


def test_the_program_accepts_an_api_server_whose_certificates_have_no_key_identifiers(
    old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, leaf, key = old
    with api_server(leaf, key) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url, ca)))
        assert Cluster().version() == (1, 29)
        assert '"major"' in Cluster().ask("/version")


def test_certificates_are_loaded_once_and_not_for_each_connection(
    old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading them while another thread connects crashes the process, so no connection may load any."""
    ca, leaf, key = old
    with api_server(leaf, key) as url:
        path = write_kubeconfig(tmp_path / "kubeconfig", url, ca)
        monkeypatch.setenv("KUBECONFIG", str(path))
        cluster, api = Cluster(), connect(str(path)).client
        ca.unlink()
        assert cluster.version() == (1, 29)
        assert client.VersionApi(api).get_code(_request_timeout=5).minor == "29"


def test_a_kubeconfig_without_its_ca_file_is_one_sentence(
    old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, _, _ = old
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", ca)))
    ca.unlink()
    with pytest.raises(pulumi.RunError, match="There is no usable kubeconfig in .*kubectl get nodes"):
        Cluster()


def test_the_doctor_accepts_it_too(old: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ca, leaf, key = old
    with api_server(leaf, key) as url:
        path = str(write_kubeconfig(tmp_path / "kubeconfig", url, ca))
        api = connect(path).client
        assert client.VersionApi(api).get_code(_request_timeout=5).minor == "29"


def test_a_foreign_ca_is_a_fault_of_the_certificate_and_not_of_the_login(
    old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, leaf, key = old
    foreign, _, _ = old_certificates(tmp_path, "foreign")
    with api_server(leaf, key) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url, foreign)))
        with pytest.raises(pulumi.RunError) as caught:
            Cluster().version()
        assert f"The cluster at {url} cannot be reached over TLS" in str(caught.value)
        assert "certificate verify failed" in str(caught.value)
        assert "Log in" not in str(caught.value)
        with pytest.raises(ConnectionError, match="certificate verify failed"):
            Cluster().ask("/version")


class Silent(JsonHandler):
    """An API server that accepts connections and says nothing."""

    over: ClassVar[threading.Event] = threading.Event()

    def do_GET(self) -> None:
        self.over.wait(30)


def test_a_program_in_a_pod_of_an_api_server_that_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi.runtime.set_all_config({})
    monkeypatch.setattr(kubeconfig, "_HANDSHAKE", 0.2)
    with serving(Silent) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        with pytest.raises(ConnectionError, match="timed out"):
            Cluster().execute("ns", "registry-1", "registry", ["true"], lambda: None)
        Silent.over.set()


class Busy(JsonHandler):
    """An API server that knows one kind, and answers another status to every question but one for what it lacks."""

    statuses: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        if self.path == "/apis/lacking.example.com/v1":
            self.answer({"kind": "Status", "message": "not found"}, 404)
        elif self.statuses:
            self.answer({"kind": "Status", "message": "not now"}, self.statuses.pop())
        else:
            self.answer({"kind": "APIResourceList", "resources": [{"name": "routes", "kind": "Route"}]})


def test_only_a_cluster_that_says_so_lacks_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi.runtime.set_all_config({})
    with serving(Busy) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        cluster = Cluster()
        for Busy.statuses in ([429], [503], [403]):
            with pytest.raises(
                pulumi.RunError, match="does not say whether it has the kind Route .*: it answers not now"
            ):
                cluster.serves("example.com/v1", "Route")
        assert cluster.serves("example.com/v1", "Route"), "an error is not remembered"
        assert not cluster.serves("example.com/v1", "Gateway")
        assert not cluster.serves("lacking.example.com/v1", "Route")
    with pytest.raises(pulumi.RunError, match="cannot be reached"):
        cluster.serves("other.example.com/v1", "Route")


class Asked(JsonHandler):
    """An API server that keeps what it is asked, and answers whatever it is given, with a status."""

    asked: ClassVar[list[tuple[str, str, str, Any]]] = []
    result: ClassVar[tuple[Any, int]] = ({}, 200)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type") or ""
        self.asked.append((self.command, self.path, kind, json.loads(body) if body else None))
        self.answer(*self.result)

    do_POST = do_PATCH = do_GET  # noqa: N815 - the names that the library looks for


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose API server is `Asked`."""
    pulumi.runtime.set_all_config({})
    Asked.asked, Asked.result = [], ({}, 200)
    with serving(Asked) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        yield Cluster()


POD: Object = {"metadata": {"generateName": "x-"}, "spec": {}}
ROUTE: Object = {"apiVersion": "route.openshift.io/v1", "metadata": {"name": "x"}}
REVIEW = {"verb": "bind", "group": "g", "resource": "r", "name": "n"}
CALLS: list[tuple[Callable[[Cluster], object], object, str, object]] = [
    (lambda c: c.ingress_classes(), [POD], "GET /apis/networking.k8s.io/v1/ingressclasses", None),
    (lambda c: c.storage_classes(), [POD], "GET /apis/storage.k8s.io/v1/storageclasses", None),
    (lambda c: c.nodes, [POD], "GET /api/v1/nodes", None),
    (lambda c: c.gateway_classes, [POD], "GET /apis/gateway.networking.k8s.io/v1/gatewayclasses", None),
    (lambda c: c.services(), [POD], "GET /api/v1/services", None),
    (lambda c: c.read("g/v1", "things", "ns", "n")["items"], [POD], "GET /apis/g/v1/namespaces/ns/things/n", None),
    (
        lambda c: c.may(**REVIEW),
        True,
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"spec": {"resourceAttributes": REVIEW}},
    ),
    (lambda c: c.refusal("namespace", POD), "", "POST /api/v1/namespaces?dryRun=All", POD),
    (lambda c: c.refusal("pod", POD, "ns"), "", "POST /api/v1/namespaces/ns/pods?dryRun=All", POD),
    (
        lambda c: c.refusal("routes", ROUTE, "ns"),
        "",
        "POST /apis/route.openshift.io/v1/namespaces/ns/routes?dryRun=All&fieldValidation=Strict",
        ROUTE,
    ),
    (
        lambda c: c.put_data("ns", "n", {"k": "v"}),
        None,
        "PATCH /api/v1/namespaces/ns/configmaps/n",
        {"data": {"k": "v"}},
    ),
]
TYPES = {"GET": "", "POST": "application/json", "PATCH": "application/merge-patch+json"}


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(("call", "result", "request_line", "body"), CALLS, ids=[each[2] for each in CALLS])
def test_what_the_cluster_is_asked_and_how_its_answer_is_read(
    asked: Cluster,
    call: Callable[[Cluster], object],
    result: object,
    request_line: str,
    body: object,
    status: int,
) -> None:
    Asked.result = ({"items": [POD], "status": {"allowed": True}}, status)
    assert call(asked) == result
    method, _, path = request_line.partition(" ")
    assert Asked.asked == [(method, path, TYPES[method], body)]


def test_what_the_cluster_refuses_is_its_own_sentence_or_a_warning_or_nothing_as_before(
    asked: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    Asked.result = ({"kind": "Status", "message": "denied by y."}, 403)
    assert asked.refusal("pod", POD, "ns") == "denied by y."
    assert asked.nodes is None
    assert warned == ["Not checked before the start: the cluster answers denied by y."]
    assert asked.may(**REVIEW)
    assert asked.read("g/v1", "things", "ns", "n") == {}
    asked.wake("daemonsets", "ns", "trust")
    with pytest.raises(ConnectionError, match="denied by y"):
        asked.put_data("ns", "n", {})
    with pytest.raises(PermissionError, match="denied by y"):
        asked.ask("/api/v1/nodes")
    Asked.result = ({"kind": "Status", "message": 'pods "x" already exists'}, 409)
    assert asked.refusal("pod", POD, "ns") == ""


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_cluster_that_is_busy_refuses_no_pod(asked: Cluster, status: int) -> None:
    Asked.result = ({"kind": "Status", "message": "too many requests"}, status)
    assert asked.refusal("pod", POD, "ns") == ""
    Asked.result = ({"kind": "Status", "message": "failed calling webhook"}, 500)
    assert asked.refusal("pod", POD, "ns") == "failed calling webhook"


class _Compressing(JsonHandler):
    def do_GET(self) -> None:
        self.answer({"kind": "NodeList", "items": ["gzip" in self.headers["Accept-Encoding"]]})


def test_program_and_doctor_take_compressed_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of thousands of nodes would take longer on a thin line than an API server gives a request."""
    with serving(_Compressing) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        assert Cluster().nodes == [True]
        assert json.loads(Cluster().ask("/api/v1/nodes"))["items"] == [True]
        listed = client.CoreV1Api(connect().client).list_node(_preload_content=False, _request_timeout=5)
        assert json.loads(listed.data)["items"] == [True]


class Foreign(JsonHandler):
    """What answers each request with a status and a text, and is no API server, or one that is busy."""

    status: ClassVar[int] = 200
    text: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text)

    do_POST = do_PATCH = do_GET  # noqa: N815 - the names that the library looks for


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose API server is `Foreign`."""
    pulumi.runtime.set_all_config({})
    with serving(Foreign) as url:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        yield Cluster()


HTML = b"<html>Sign in</html>"
LOGIN = "refuses the user of the kubeconfig ("
BUSY = "does not answer as a Kubernetes API ("
NO_API = "is not a Kubernetes API ("


@pytest.mark.parametrize(
    ("status", "text", "told", "fix"),
    [
        (401, b'{"message": "Unauthorized"}', f"{LOGIN}Unauthorized)", "Log in again"),
        (403, b'{"message": "denied"}', f"{LOGIN}denied)", "Log in again"),
        (429, b"", f"{BUSY}429 Too Many Requests)", "Run the command again"),
        (500, HTML, f"{BUSY}500 Internal Server Error)", "Run the command again"),
        (502, HTML, f"{BUSY}502 Bad Gateway)", "Run the command again"),
        (503, b'{"message": "apiserver not ready"}', f"{BUSY}apiserver not ready)", "Run the command again"),
        (404, HTML, f"{NO_API}/version gives no version of Kubernetes)", "`server:`"),
        (400, b"Client sent an HTTP request", f"{NO_API}400 Bad Request)", "`server:`"),
        (200, HTML, f"{NO_API}200 OK, but no JSON object)", "`server:`"),
        (200, b"[]", f"{NO_API}200 OK, but no JSON object)", "`server:`"),
        (200, b'{"version": "7"}', f"{NO_API}/version gives no version of Kubernetes)", "`server:`"),
        (200, b'{"major": "seven", "minor": null}', f"{NO_API}/version gives no version", "`server:`"),
    ],
)
def test_a_busy_api_server_and_an_address_that_is_none_are_no_fault_of_the_login(
    foreign: Cluster, status: int, text: bytes, told: str, fix: str
) -> None:
    Foreign.status, Foreign.text = status, text
    with pytest.raises(pulumi.RunError) as caught:
        foreign.version()
    assert foreign.server in str(caught.value)
    assert told in str(caught.value)
    assert fix in str(caught.value)
    assert ("Log in" in str(caught.value)) == (status in (401, 403))


@pytest.mark.parametrize("text", [HTML, b"", b"[]", b"null"])
def test_an_answer_that_is_no_object_is_an_error_with_a_sentence_and_no_traceback(
    foreign: Cluster, text: bytes
) -> None:
    Foreign.status, Foreign.text = 200, text
    with pytest.raises(pulumi.RunError, match="is not a Kubernetes API .200 OK, but no JSON object"):
        _ = foreign.uid
    with pytest.raises(pulumi.RunError, match="does not say whether it has the kind Route .*no JSON object"):
        foreign.serves("example.com/v1", "Route")
    assert foreign.may(**REVIEW)
    assert foreign.read("g/v1", "things", "ns", "n") == {}
    assert foreign.nodes is None
    assert foreign.refusal("pod", POD, "ns") == ""
    foreign.wake("daemonsets", "ns", "trust")
    with pytest.raises(ConnectionError, match="200 OK, but no JSON object"):
        foreign.put_data("ns", "n", {})
    assert foreign.ask("/api/v1/namespaces/ns/pods/p/log", tailLines="5") == text.decode()


@pytest.mark.parametrize("text", [HTML, b"", b"[]", b"{}", b'{"error": "busy"}'])
def test_a_wait_outlasts_an_answer_that_is_no_object_of_the_api(foreign: Cluster, text: bytes) -> None:
    """Else one such answer of a proxy would end an `up`; or, if it were read as an empty list, a wait."""
    Foreign.status, Foreign.text = 200, text
    with pytest.raises(ConnectionError, match="answers 200 OK, but no object of the Kubernetes API"):
        pods_of(foreign, "ns", "registry")
    with pytest.raises(pulumi.RunError, match="was not ready within 0s"):
        asyncio.run(rolled_out(foreign, "ns", "registry", "0s", print, str))
    with pytest.raises(pulumi.RunError, match="The new CA cannot be given to the nodes.* no object of the Kubernetes"):
        asyncio.run(hand_over(foreign, "ns", ""))
    with pytest.raises(Unproved, match="does not say how far the nodes are: .* no object of the Kubernetes"):
        asyncio.run(prove(foreign, "ns", "host", "0s", lambda _: None, lambda _: None))


def test_an_up_loads_none_of_the_librarys_classes_for_groups_of_the_api(asked: Cluster) -> None:
    """They take a second: `pulumi up` runs the program anew each time."""
    Asked.result = ({"status": {"allowed": True}}, 200)
    code = (
        "import pulumi, sys; from registry.cluster import Cluster; pulumi.runtime.set_all_config({}); c = Cluster(); "
        "c.version, c.nodes, c.services(), c.refusal('pod', {}, 'ns'), c.may('v', 'g', 'r', 'n'); "
        "print([name for name in sys.modules if name.startswith('kubernetes.client.api.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
    assert len(Asked.asked) == 4, asked.server


@pytest.mark.parametrize("by", ["HTTPS_PROXY", "proxy-url", "NO_PROXY"])
def test_the_api_server_is_reached_through_the_proxy_that_kubectl_takes(
    by: str, old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, leaf, key = old
    with api_server(leaf, key) as url, http_proxy() as proxy:
        path = write_kubeconfig(tmp_path / "kubeconfig", url, ca)
        if by == "proxy-url":
            content = yaml.safe_load(path.read_text())
            content["clusters"][0]["cluster"]["proxy-url"] = proxy.url
            path.write_text(yaml.safe_dump(content))
        else:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("NO_PROXY", "127.0.0.0/8" if by == "NO_PROXY" else "")
        monkeypatch.setenv("KUBECONFIG", str(path))
        assert Cluster().version() == (1, 29)
        assert proxy.asked == ([] if by == "NO_PROXY" else [url.removeprefix("https://")])
        api = connect(str(path)).client
        assert client.VersionApi(api).get_code(_request_timeout=5).minor == "29"
        assert len(proxy.asked) == (0 if by == "NO_PROXY" else 2)


def test_the_credentials_that_a_program_prints_are_taken(
    old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as `aws eks get-token`: the kubeconfig names a program in the place of a token."""
    ca, leaf, key = old
    plugin = tmp_path / "get-token"
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "got"}}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(credential)}'\n")
    plugin.chmod(0o755)
    with api_server(leaf, key) as url:
        path = write_kubeconfig(tmp_path / "kubeconfig", url, ca)
        content = yaml.safe_load(path.read_text())
        called = {"apiVersion": credential["apiVersion"], "command": "./get-token", "interactiveMode": "Never"}
        content["users"][0]["user"] = {"exec": called}
        path.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("KUBECONFIG", str(path))
        assert Cluster().ask("/version")
        assert TOKENS[-1] == "Bearer got"


def test_the_first_file_that_names_a_current_context_counts_as_for_kubectl(
    old: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, leaf, key = old
    with api_server(leaf, key) as url, api_server(leaf, key) as other:
        first = write_kubeconfig(tmp_path / "first", url, ca, "first")
        last = write_kubeconfig(tmp_path / "last", other, ca, "last")
        neither = tmp_path / "neither"
        neither.write_text("apiVersion: v1\nkind: Config\ncurrent-context: ''\n")
        files = (tmp_path / "missing", neither, first, last, neither)
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, files)))
        cluster = Cluster()
        assert (cluster.context, cluster.server) == ("first", url)
        assert cluster.version() == (1, 29)
        assert TOKENS[-1] == "Bearer first"
        assert connect(context="last").client.configuration.host == other


TOKEN = "very-secret-token"  # noqa: S105 - the secret of a kubeconfig that has to stay one
CONTENT = f"apiVersion: v1\nusers:\n- name: c\n  user:\n    token: {TOKEN}\n"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (base64.b64encode((CONTENT * 20).encode()).decode(), "It is base64: decode it first."),
        (base64.encodebytes(CONTENT.encode()).decode(), "It is base64: decode it first."),
        (f"{CONTENT}  broken: [{TOKEN}\n{TOKEN}: {{{TOKEN}", "(line 7 is no YAML). First make"),
        (f"{TOKEN}{'x' * 300}", "First make"),
        (f"{CONTENT}client-certificate-data: {TOKEN}\ncurrent-context: c\n", "First make"),
    ],
    ids=["base64", "base64 in lines", "no YAML", "a name that is too long", "incomplete"],
)
def test_a_kubeconfig_in_the_setting_is_not_printed(setting: str, told: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        connect(setting)
    said = str(caught.value)
    assert said.startswith("There is no usable kubeconfig in the setting kubernetes:kubeconfig (")
    assert told in said
    assert TOKEN not in said
    assert setting[:40] not in said
    assert len(said) < 250


def test_a_file_that_is_no_yaml_is_named_with_its_line_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(f"users:\n- token: {TOKEN}: {TOKEN}\n")
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(KubeconfigError) as caught:
        connect()
    assert f"in {file} (line 2 is no YAML)" in str(caught.value)
    assert TOKEN not in str(caught.value)
