"""An API server on the loopback address, with certificates as older clusters have them."""

import gzip
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3.connection
import urllib3.util
import urllib3.util.ssl_
import yaml

from registry import kubeconfig

_CA = """
[req]
distinguished_name = name
x509_extensions = ca
prompt = no
[name]
CN = old-ca
[ca]
basicConstraints = critical,CA:TRUE
"""
"""A CA with neither key identifiers nor a key usage."""
_LEAF = "[leaf]\nsubjectAltName = IP:127.0.0.1\nauthorityKeyIdentifier = none\nsubjectKeyIdentifier = none\n"


def old_certificates(folder: Path, name: str = "old") -> tuple[Path, Path, Path]:
    """A CA, and a certificate for 127.0.0.1 with its key; Python 3.13 refuses both of them by default."""
    (folder / "ca.cnf").write_text(_CA)
    (folder / "leaf.cnf").write_text(_LEAF)
    ca, ca_key, leaf, key = (folder / f"{name}-{part}" for part in ("ca.crt", "ca.key", "leaf.crt", "leaf.key"))
    request = folder / f"{name}.csr"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for command in (
        ["req", "-x509", *curve, "-days", "1", "-config", folder / "ca.cnf", "-keyout", ca_key, "-out", ca],
        ["req", "-new", *curve, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", request],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "1",
         "-extfile", folder / "leaf.cnf", "-extensions", "leaf", "-out", leaf],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return ca, leaf, key


TOKENS: list[str] = []
"""The header Authorization of each request, the last one at the end."""


class JsonHandler(BaseHTTPRequestHandler):
    """Answers with JSON, and logs nothing."""

    def answer(self, content: object, status: int = 200) -> None:
        """Send an answer, compressed for whom takes that."""
        body = json.dumps(content).encode()
        self.send_response(status)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], certificate: tuple[Path, Path] | None = None) -> Iterator[str]:
    """A server on the loopback address, with TLS if it has a certificate and its key; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Version(JsonHandler):
    def do_GET(self) -> None:
        TOKENS.append(self.headers.get("Authorization", ""))
        self.answer({"major": "1", "minor": "29", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                     "buildDate": "", "goVersion": "", "compiler": "", "platform": ""})  # fmt: skip


@contextmanager
def api_server(leaf: Path, key: Path) -> Iterator[str]:
    """An API server that knows its version alone; gives its URL."""
    with serving(_Version, (leaf, key)) as url:
        yield url


def write_kubeconfig(path: Path, url: str, ca: Path | None = None, context: str = "c") -> Path:
    """A kubeconfig for the API server at a URL; the one context is the current one."""
    trusted = {"certificate-authority": str(ca)} if ca else {}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "clusters": [{"name": context, "cluster": {"server": url, **trusted}}],
        "users": [{"name": context, "user": {"token": context}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def as_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have urllib3 verify certificates as strictly as it does from Python 3.13 on (urllib3/util/ssl_.py)."""
    real: Callable[..., ssl.SSLContext] = urllib3.util.ssl_.create_urllib3_context

    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = real(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    for module in (urllib3.util.ssl_, urllib3.util, urllib3.connection, kubeconfig):
        monkeypatch.setattr(module, "create_urllib3_context", strict)
