"""An HTTP proxy that connects to wherever it is asked to: `python3 http_proxy.py PORT` on the loopback address.

It needs the standard library only, so that it can run in a pod that has this file's text and no more.
"""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HttpProxy(ThreadingHTTPServer):
    """The proxy."""

    def __init__(self, port: int = 0) -> None:
        """Listen on a port of the loopback address, 0 for any."""
        super().__init__(("127.0.0.1", port), _Tunnel)
        self.asked: list[str] = []
        """`host:port` of each connection that was asked for."""
        self.login = ""
        """The header Proxy-Authorization without which nothing is connected; empty: there need not be any."""
        self.places: dict[str, str] = {}
        """The address to connect to for a name, where DNS does not know it."""

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.server_port}"


class _Tunnel(BaseHTTPRequestHandler):
    server: HttpProxy

    def do_CONNECT(self) -> None:  # noqa: N802 - the name that the library calls
        """Connect, and copy in both directions."""
        self.server.asked.append(self.path)
        if self.server.login not in ("", self.headers.get("Proxy-Authorization")):
            self.send_error(407)
            return
        name, _, port = self.path.rpartition(":")
        try:
            there = socket.create_connection((self.server.places.get(name, name), int(port)), timeout=5)
        except OSError:
            self.send_error(502)
            return
        there.settimeout(None)
        self.send_response(200)
        self.end_headers()
        with there:
            back = threading.Thread(target=_copy, args=(there, self.connection))
            back.start()
            _copy(self.connection, there)
            back.join()

    def log_message(self, format: str, *args: object) -> None:
        """Print what was asked for."""
        print(format % args, flush=True)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def http_proxy() -> Iterator[HttpProxy]:
    """A proxy that runs in this process."""
    server = HttpProxy()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    HttpProxy(int(sys.argv[1])).serve_forever()
