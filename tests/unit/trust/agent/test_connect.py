"""The agent's own connection to the registry, against a real TLS server on loopback."""

import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import OTHER_CA
from trust.agent import certificates, connect
from trust.agent.faults import Fault, Reason

LOOPBACK = list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo("localhost", 443)))


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
        connect.check(host, ca, "node node-a")
    return caught.value


@pytest.mark.parametrize("status", [200, 401])
def test_registry_that_answers(port: int, pki: Path) -> None:
    connect.check(f"localhost:{port}", (pki / "ca.crt").read_text(), "node node-a")
    connect.check(f"localhost:{port}", OTHER_CA + (pki / "ca.crt").read_text(), "node node-a")


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
    monkeypatch.setattr(connect, "_RESOLV_CONF", tmp_path / "resolv.conf")
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


def test_fingerprints_are_those_that_openssl_prints(pki: Path) -> None:
    command = ["openssl", "x509", "-in", pki / "ca.crt", "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wanted = printed.partition("=")[2].strip().replace(":", "").lower()
    assert certificates.fingerprints((pki / "ca.crt").read_text()) == (wanted,)


def test_without_a_ca_the_public_ones_of_the_machine_count(port: int, pki: Path) -> None:
    connect.check(f"localhost:{port}", "", "node node-a", (pki / "ca.crt").read_text())
    for public in (OTHER_CA, ""):
        with pytest.raises(Fault) as caught:
            connect.check(f"localhost:{port}", "", "node node-a", public)
        assert caught.value.reason == Reason.CERTIFICATE_MISMATCH
        assert "under any of the machine's public CAs" in caught.value.sentence
