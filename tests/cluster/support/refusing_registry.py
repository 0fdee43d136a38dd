"""A registry that gives nothing: the first part of the image's path, such as `limited`, says how it refuses a pull.

    python3 refusing_registry.py PORT

It answers over plain HTTP on a node's loopback address, where container runtimes expect no TLS. The words are those of
Docker Hub and of registries that ask for a login.
"""

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Refusal).serve_forever()
