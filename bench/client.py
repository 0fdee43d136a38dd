"""A client that pushes blobs, pulls them, and prints how long that took.

    python -m bench.client URL CA_FILE COUNT BYTES

LOGIN in the environment holds `user:password`, or is empty. Each blob is pushed as Docker, containerd and crane do it:
POST, PATCH with all bytes, PUT. It is light on purpose, so that what is measured is the other side: bytes are neither
read from a disk nor written to one, and digests are made before the clock starts.
"""

import base64
import hashlib
import http.client
import json
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECTIONS = 4
"""Connections that are kept open, each with one blob at a time."""
_CHUNK = 2**20
_BLOBS = "/v2/bench/blobs/blobs"


@dataclass(frozen=True)
class Blob:
    """A blob that no registry has: a few bytes of its own, and then the same ones again and again."""

    own: bytes
    chunk: bytes
    size: int

    def pieces(self) -> Iterator[memoryview]:
        """Its content."""
        yield memoryview(self.own)[: self.size]
        left = self.size - len(self.own)
        while left > 0:
            yield memoryview(self.chunk)[:left]
            left -= len(self.chunk)

    def digest(self) -> str:
        """Its name."""
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece)
        return f"sha256:{found.hexdigest()}"


class Connection:
    """A connection to a registry, opened by its first request."""

    def __init__(self, url: str, ca_file: str, login: str) -> None:
        """Describe it; `login` is `user:password`, or empty."""
        context = ssl.create_default_context(cafile=ca_file)
        self._http = http.client.HTTPSConnection(urlsplit(url).netloc, context=context, timeout=600)
        self._headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
        self._buffer = bytearray(_CHUNK)

    def push(self, blob: Blob, digest: str) -> None:
        """Push a blob."""
        location = self._send("POST", f"{_BLOBS}/uploads/", 202)
        location = self._send("PATCH", location, 202, blob)
        self._send("PUT", f"{location}&digest={digest}", 201)

    def pull(self, blob: Blob, digest: str) -> None:
        """Pull a blob.

        Raises:
            ConnectionError: it is not the one that was pushed.
        """
        self._http.request("GET", f"{_BLOBS}/{digest}", headers=self._headers)
        answer, got = self._http.getresponse(), 0
        while count := answer.readinto(self._buffer):
            got += count
        if (answer.status, got) != (200, blob.size):
            msg = f"{answer.status} with {got} bytes for a blob of {blob.size}"
            raise ConnectionError(msg)

    def _send(self, method: str, path: str, status: int, blob: Blob | None = None) -> str:
        """Send one request of a push; gives where the next one goes."""
        headers = {**self._headers, "Content-Length": str(blob.size if blob else 0)}
        self._http.request(method, path, blob and blob.pieces(), headers)
        answer = self._http.getresponse()
        said = answer.read()
        if answer.status != status:
            msg = f"{answer.status} for {method} {path}: {said[:500]!r}"
            raise ConnectionError(msg)
        location = urlsplit(answer.headers.get("Location", ""))
        return f"{location.path}?{location.query}"


def timed(
    connections: Sequence[Connection], blobs: Sequence[tuple[str, Blob]], way: Callable[[Connection, Blob, str], None]
) -> float:
    """The seconds until every blob went one way; each connection has every n-th of them."""

    def work(number: int) -> None:
        for digest, blob in blobs[number :: len(connections)]:
            way(connections[number], blob, digest)

    began = time.monotonic()
    with ThreadPoolExecutor(len(connections)) as pool:
        list(pool.map(work, range(len(connections))))
    return time.monotonic() - began


def main(url: str, ca_file: str, count: str, size: str) -> None:
    """Push and pull `count` blobs of `size` bytes; prints the seconds of both as a JSON object."""
    chunk = os.urandom(_CHUNK)
    blobs = [(blob.digest(), blob) for blob in (Blob(os.urandom(16), chunk, int(size)) for _ in range(int(count)))]
    login = os.environ.get("LOGIN", "")
    connections = [Connection(url, ca_file, login) for _ in range(min(CONNECTIONS, len(blobs)))]
    print(json.dumps({way.__name__: timed(connections, blobs, way) for way in (Connection.push, Connection.pull)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
