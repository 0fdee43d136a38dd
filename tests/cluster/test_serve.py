"""The real registry, whose port is handed on when its certificate changes: nobody is refused, nothing is cut off."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_cluster import programs
from registry import registry
from registry.pod import serve

from .support.commands import wait_until

pytestmark = pytest.mark.cluster  # not the cluster itself, but what it is built from


def make_certificate(folder: Path) -> str:
    """Put a new certificate for localhost into the folder, key first, as one atomic change each; its serial number."""
    for name in ("new.key", "new.crt"):
        (folder / name).unlink(missing_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost", "-keyout", "new.key", "-out", "new.crt"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "new.key").rename(folder / "tls.key")
    (folder / "new.crt").rename(folder / "tls.crt")
    return ssl.PEM_cert_to_DER_cert((folder / "tls.crt").read_text()).hex()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def connect(port: int) -> http.client.HTTPSConnection:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("localhost", port, timeout=20, context=context)


def shown(port: int) -> str:
    """The certificate that a new connection is shown."""
    connection = connect(port)
    try:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate.hex()
    finally:
        connection.close()


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`serve.py` with the real registry: the process and its port."""
    port = free_port()
    make_certificate(folder)
    config = json.dumps(registry.configuration(tls=True))
    config = config.replace("/etc/private-registry-tls", str(folder)).replace("/var/lib/registry", str(folder / "data"))
    (folder / "config.yml").write_text(config)
    names = [folder / "config.yml", folder / "tls.crt", folder / "tls.key"]
    command = [sys.executable, serve.__file__, programs.ensure() / "registry", *names, port]
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none", "REGISTRY_HTTP_SECRET": "test"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, text=True, env=environment)
        try:
            wait_until(lambda: answers(port), "the registry answers", timeout=30)
            yield process, port
        finally:
            process.terminate()
            process.wait(30)


def answers(port: int) -> bool:
    try:
        return bool(shown(port))
    except OSError:
        return False


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
def test_no_client_is_refused_while_certificates_change(tmp_path: Path) -> None:
    with served(tmp_path) as (process, port):
        stop, failed, done = threading.Event(), list[str](), list[int]()

        def ask() -> None:
            while not stop.is_set():
                connection = connect(port)
                try:
                    connection.request("GET", "/v2/")
                    done.append(connection.getresponse().status)
                except OSError as error:
                    failed.append(str(error))
                finally:
                    connection.close()

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            certificate = make_certificate(tmp_path)
            wait_until(lambda certificate=certificate: shown(port) == certificate, "it is served", timeout=15)
            wait_until(lambda: len(children(process)) == 1, "the one before has ended", timeout=30)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert set(done) == {200}
        assert len(done) > 100


@pytest.mark.slow
def test_a_push_that_began_before_the_change_is_completed(tmp_path: Path) -> None:
    with served(tmp_path) as (process, port):
        start = connect(port)
        start.request("POST", "/v2/test/app/blobs/uploads/", headers={"Content-Length": "0"})
        location = start.getresponse().headers["Location"]
        body = os.urandom(2**20)
        connection = connect(port)
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: 2**19])
        (old,) = children(process)
        certificate = make_certificate(tmp_path)
        wait_until(lambda: shown(port) == certificate, "the new one is served", timeout=15)
        settled = time.monotonic() + serve.SETTLE + 2 * serve.INTERVAL
        wait_until(lambda: time.monotonic() > settled, "it was told to end", timeout=60)
        assert old in children(process), "it waits for the end of the push"
        connection.send(body[2**19 :])
        assert connection.getresponse().status == 202
        connection.close()
        start.close()
        wait_until(lambda: old not in children(process), "it has ended", timeout=30)


@pytest.mark.slow
def test_a_certificate_that_does_not_fit_its_key_changes_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as (process, port):
        before, (old,) = shown(port), children(process)
        key = (tmp_path / "tls.key").read_text()
        make_certificate(tmp_path)
        (tmp_path / "tls.key").write_text(key)
        looked = time.monotonic() + 3 * serve.INTERVAL
        wait_until(lambda: time.monotonic() > looked, "it has looked", timeout=60)
        assert shown(port) == before
        assert children(process) == [old]
        certificate = make_certificate(tmp_path)
        wait_until(lambda: shown(port) == certificate, "a good one is taken", timeout=15)


def test_it_ends_when_it_is_told_and_when_the_registry_ends(tmp_path: Path) -> None:
    with served(tmp_path) as (process, _):
        began = time.monotonic()
        process.terminate()
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
    with served(tmp_path) as (process, _):
        (child,) = children(process)
        os.kill(child, signal.SIGKILL)
        assert process.wait(10) == 1
