"""The agent's own connection to the registry, against a real TLS server on loopback."""

import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.support.http_proxy import HttpProxy, http_proxy
from tests.unit.trust.agent.fixture_node import OTHER_CA
from trust.agent import certificates, connect, lookup
from trust.agent.client import Client
from trust.agent.faults import Fault, Reason
from trust.agent.proxies import Proxy

LOOPBACK = lookup.look_up("localhost").addresses


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a certificate of it for localhost (but not for 127.0.0.1)."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(
        *new, "-subj", "/", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
        "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.crt",
    )  # fmt: skip
    return folder


@pytest.fixture
def status() -> int:
    return 200


def begins_later(pki: Path, year: int) -> Path:
    """A certificate of the CA for localhost, with its key, that begins in January of a year to come; its path."""
    (pki / "ca.cnf").write_text(
        "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nnew_certs_dir = .\nserial = serial\n"
        "default_md = sha256\npolicy = p\n"
        "unique_subject = no\nx509_extensions = leaf\n[p]\ncommonName = optional\n"
        "[leaf]\nsubjectAltName = DNS:localhost\n"
    )
    (pki / "index.txt").write_text("")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "later.key")
    dates = ("-startdate", f"{year}0102030405Z", "-enddate", f"{year + 1}0102030405Z")
    for command in (
        ("req", "-new", *key, "-subj", "/CN=later", "-out", "later.csr"),
        ("ca", "-batch", "-notext", "-create_serial", "-config", "ca.cnf", "-cert", "ca.crt", "-keyfile", "ca.key",
         "-in", "later.csr", "-out", "later.crt", *dates),
    ):  # fmt: skip
        subprocess.run(["openssl", *command], cwd=pki, check=True, capture_output=True)
    return pki / "later.crt"


@pytest.mark.parametrize("year", [2045, 2055])
def test_a_certificate_that_begins_later_than_the_nodes_clock_says_is_a_fault_of_the_clocks(
    pki: Path, year: int
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(begins_later(pki, year), pki / "later.key")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        fault = fault_of(f"localhost:{server.getsockname()[1]}", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.CERTIFICATE_MISMATCH
    assert f"the clocks differ: it begins {year}-01-02T03:04:05+00:00, and on node node-a it is 20" in fault.sentence
    assert "Ingress" not in fault.sentence


@pytest.fixture
def port(pki: Path, status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v2/" else 500)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def fault_of(host: str, ca: str) -> Fault:
    with pytest.raises(Fault) as caught:
        connect.check(host, ca, Client("node node-a"))
    return caught.value


@pytest.mark.parametrize("status", [200, 401])
def test_registry_that_answers(port: int, pki: Path) -> None:
    connect.check(f"localhost:{port}", (pki / "ca.crt").read_text(), Client("node node-a"))
    connect.check(f"localhost:{port}", OTHER_CA + (pki / "ca.crt").read_text(), Client("node node-a"))


@pytest.mark.parametrize("status", [404, 503])
def test_something_that_is_no_registry(port: int, pki: Path, status: int) -> None:
    fault = fault_of(f"localhost:{port}", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.NO_REGISTRY
    assert "answers HTTP" in fault.sentence
    assert fault.details == {"host": "localhost", "port": port, "addresses": LOOPBACK, "status": status}


def test_certificate_of_another_ca_is_told_by_fingerprints(port: int, pki: Path) -> None:
    fault = fault_of(f"localhost:{port}", OTHER_CA)
    assert fault.reason == Reason.CERTIFICATE_MISMATCH
    assert certificates.fingerprints(OTHER_CA)[0] in fault.sentence
    assert certificates.fingerprints((pki / "server.crt").read_text())[0] in fault.sentence
    served, trusted = (certificates.fingerprints(pem) for pem in ((pki / "server.crt").read_text(), OTHER_CA))
    assert (fault.details.get("served"), fault.details.get("trusted")) == (served[0], list(trusted))


def test_certificate_for_another_name(port: int, pki: Path) -> None:
    fault = fault_of(f"127.0.0.1:{port}", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.CERTIFICATE_MISMATCH
    assert "127.0.0.1" in fault.sentence


def test_name_that_dns_does_not_know(pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "resolv.conf").write_text(
        "search x\nnameserver 192.0.2.53\n# no\nnameserver 2001:db8::53\nnameserver\n"
    )
    monkeypatch.setattr(lookup, "_RESOLV_CONF", tmp_path / "resolv.conf")
    fault = fault_of("registry.invalid", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.NAME_NOT_RESOLVED
    assert fault.sentence.startswith("DNS on node node-a has no address for registry.invalid")
    assert fault.details.get("host") == "registry.invalid"
    assert fault.details.get("resolvers") == ["192.0.2.53", "2001:db8::53"]
    assert "asked: 192.0.2.53, 2001:db8::53" in fault.sentence


def test_port_that_nobody_listens_on(pki: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    fault = fault_of(f"localhost:{closed}", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.NO_CONNECTION
    assert fault.details == {
        "host": "localhost",
        "port": closed,
        "addresses": LOOPBACK,
        "error": "[Errno 111] Connection refused",
    }


def test_server_without_tls(pki: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad\r\n\r\n"), daemon=True).start()
        fault = fault_of(f"localhost:{server.getsockname()[1]}", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.NO_TLS
    assert "SSL" in fault.sentence


def test_server_that_does_not_answer_in_http(pki: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True) as connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=serve, daemon=True).start()
        fault = fault_of(f"localhost:{server.getsockname()[1]}", (pki / "ca.crt").read_text())
    assert fault.reason == Reason.NO_REGISTRY
    assert "BadStatusLine" in fault.sentence


def test_a_way_in_that_does_not_get_through_to_the_registry(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Ingress controller does the handshake by itself, and a network policy keeps it from the pod."""
    monkeypatch.setattr(connect, "_TIMEOUT", 0.5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.crt", pki / "server.key")
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True):
                ended.wait(30)

        threading.Thread(target=serve, daemon=True).start()
        try:
            fault = fault_of(f"localhost:{server.getsockname()[1]}", (pki / "ca.crt").read_text())
        finally:
            ended.set()
    assert fault.reason == Reason.NO_REGISTRY
    assert "no answer within" in fault.sentence
    assert "network policies let the way in reach it" in fault.sentence


def test_fingerprints_are_those_that_openssl_prints(pki: Path) -> None:
    command = ["openssl", "x509", "-in", pki / "ca.crt", "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wanted = printed.partition("=")[2].strip().replace(":", "").lower()
    assert certificates.fingerprints((pki / "ca.crt").read_text()) == (wanted,)


def test_without_a_ca_the_public_ones_of_the_machine_count(port: int, pki: Path) -> None:
    connect.check(f"localhost:{port}", "", Client("node node-a", public=(pki / "ca.crt").read_text()))
    for public in (OTHER_CA, ""):
        with pytest.raises(Fault) as caught:
            connect.check(f"localhost:{port}", "", Client("node node-a", public=public))
        assert caught.value.reason == Reason.CERTIFICATE_MISMATCH
        assert "under any of the machine's public CAs" in caught.value.sentence


# Through a proxy


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    with http_proxy() as server:
        yield server


def client_with(port: int, host: str = "127.0.0.1", scheme: str = "http", login: str = "") -> Client:
    return Client("node node-a", "containerd", proxy=Proxy(scheme, host, port, login))


def test_a_proxy_that_leads_to_the_registry_is_fine(proxy: HttpProxy, port: int, pki: Path) -> None:
    connect.check(f"localhost:{port}", (pki / "ca.crt").read_text(), client_with(proxy.server_port))
    assert proxy.asked == [f"localhost:{port}"]


@pytest.mark.parametrize("status", [503])
def test_what_a_proxy_leads_to_has_to_be_a_registry(proxy: HttpProxy, port: int, pki: Path) -> None:
    with pytest.raises(Fault) as caught:
        connect.check(f"localhost:{port}", (pki / "ca.crt").read_text(), client_with(proxy.server_port))
    assert caught.value.reason == Reason.NO_REGISTRY


def proxy_fault(host: str, ca: str, client: Client) -> Fault:
    with pytest.raises(Fault) as caught:
        connect.check(host, ca, client)
    assert caught.value.reason == Reason.PROXY_IN_THE_WAY
    return caught.value


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_a_proxy_that_does_not_answer_is_named_with_the_entry_for_no_proxy(port: int, pki: Path, scheme: str) -> None:
    closed = closed_port()
    fault = proxy_fault(f"localhost:{port}", (pki / "ca.crt").read_text(), client_with(closed, scheme=scheme))
    assert fault.sentence == (
        f"The proxy {scheme}://127.0.0.1:{closed}, which HTTPS_PROXY on node node-a names for localhost:{port}, does "
        "not lead there ([Errno 111] Connection refused); without the proxy the registry is reached: add localhost to "
        "NO_PROXY in the environment of containerd there, and restart containerd."
    )
    assert fault.details == {
        "host": "localhost",
        "port": port,
        "proxy": f"{scheme}://127.0.0.1:{closed}",
        "error": "[Errno 111] Connection refused",
    }


def test_where_neither_way_leads_to_the_registry_both_are_said(pki: Path) -> None:
    fault = proxy_fault("x.10-0-0-5.nip.invalid", (pki / "ca.crt").read_text(), client_with(closed_port()))
    assert "without it there is NAME_NOT_RESOLVED: have the proxy lead there, or mend that" in fault.sentence
    assert "add .nip.invalid to NO_PROXY" in fault.sentence


def test_a_proxy_that_wants_another_login_is_named_without_any(proxy: HttpProxy, port: int, pki: Path) -> None:
    proxy.login = "Basic dXNlcjpwQHNz"
    ca, host = (pki / "ca.crt").read_text(), f"localhost:{port}"
    connect.check(host, ca, client_with(proxy.server_port, login="Basic dXNlcjpwQHNz"))
    fault = proxy_fault(host, ca, client_with(proxy.server_port, login="Basic c2VjcmV0"))
    assert "it answers 407 Proxy Authentication Required" in fault.sentence
    assert "c2VjcmV0" not in f"{fault} {fault.details}"


def test_a_proxy_that_intercepts_tls_is_named(proxy: HttpProxy, port: int, pki: Path) -> None:
    proxy.places["registry.test"] = "127.0.0.1"
    fault = proxy_fault(f"registry.test:{port}", (pki / "ca.crt").read_text(), client_with(proxy.server_port))
    assert "certificate is not valid for 'registry.test'" in fault.sentence


def test_a_proxy_whose_name_dns_does_not_know_is_named(port: int, pki: Path) -> None:
    client = client_with(3128, host="proxy.invalid")
    fault = proxy_fault(f"localhost:{port}", (pki / "ca.crt").read_text(), client)
    assert "DNS has no address for it" in fault.sentence


def test_of_a_proxy_of_another_kind_only_the_connection_is_tried(proxy: HttpProxy, pki: Path) -> None:
    client = client_with(proxy.server_port, scheme="socks5")
    connect.check("registry.invalid", (pki / "ca.crt").read_text(), client)
    assert proxy.asked == []
