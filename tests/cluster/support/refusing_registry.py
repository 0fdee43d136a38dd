"""A registry that gives nothing: what it answers to a pull is the first part of the image's path, such as 429.

    python3 refusing_registry.py PORT

It answers over plain HTTP on a node's loopback address, where container runtimes expect no TLS. The words are those of
Docker Hub and of registries that ask for a login.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWERS = {
    "429": ("TOOMANYREQUESTS", "You have reached your unauthenticated pull rate limit."),
    "401": ("UNAUTHORIZED", "authentication required"),
    "403": ("DENIED", "requested access to the resource is denied"),
}


class Refusal(BaseHTTPRequestHandler):
    """Answers every request with the status that its path names."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
        """Refuse."""
        status = self.path.removeprefix("/v2/").partition("/")[0]
        code, message = ANSWERS.get(status, ("UNKNOWN", ""))
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.send_response(int(status) if status in ANSWERS else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == "401":
            self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that the library calls

    def log_message(self, *_: Any) -> None:
        """Be silent."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Refusal).serve_forever()
