"""A registry that gives nothing: the first part of the image's path, such as `limited`, says how it refuses a pull.

    python3 refusing_registry.py PORT

It listens on a node's loopback address, where container runtimes verify no certificate. Some versions expect TLS there,
and others plain HTTP, so it speaks both on one port. PEM in the environment holds a certificate with its key. The words
are those of Docker Hub and of registries that ask for a login.
"""

import json
import os
import socket
import ssl
import sys
import tempfile
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWERS = {
    "limited": (429, "TOOMANYREQUESTS", "You have reached your unauthenticated pull rate limit."),
    "login": (401, "UNAUTHORIZED", "authentication required"),
    "closed": (403, "DENIED", "requested access to the resource is denied"),
}
"""Status, code and message of each refusal, by the first part of the path."""


class Refusal(BaseHTTPRequestHandler):
    """Refuses every request as its path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
        """Refuse."""
        status, code, message = ANSWERS.get(f"{self.path}//".split("/")[2], (404, "UNKNOWN", ""))
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that the library calls

    def log_message(self, *_: Any) -> None:
        """Be silent."""


class Server(ThreadingHTTPServer):
    """Serves TLS and plain HTTP on one port."""

    def __init__(self, port: int, certificate: Path) -> None:
        """Listen on a port, with a certificate and its key from a file."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        super().__init__(("127.0.0.1", port), Refusal)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer on a connection; a TLS record of a handshake begins with the byte 22."""
        if request.recv(1, socket.MSG_PEEK) != bytes([22]):
            super().finish_request(request, client_address)
            return
        with self._context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


if __name__ == "__main__":
    pem = Path(tempfile.mkdtemp(), "server.pem")
    pem.write_text(os.environ["PEM"])
    Server(int(sys.argv[1]), pem).serve_forever()
