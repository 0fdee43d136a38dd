"""A client that pushes and pulls blobs and prints how long that took; it is run in the network of the cluster.

    python -m bench.client URL CA_FILE COUNT BYTES

LOGIN in the environment holds `user:password`, or is empty. Each blob is pushed as Docker, containerd and crane do it:
POST, PATCH with all bytes, PUT. It is light on purpose: bytes are neither read from a disk nor hashed nor written, so
that what is measured is the other side. Digests are made before the clock starts.
"""

import base64
import hashlib
import http.client
import itertools
import json
import os
import queue
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

CONNECTIONS = 4
"""Blobs on their way at once, each on a connection that is kept open."""
_CHUNK = 2**20
_REPOSITORY = "/v2/bench/blobs/blobs"


@dataclass(frozen=True)
class Blob:
    """A blob that no registry has: a few bytes of its own, and then the same ones again and again."""

    own: bytes
    chunk: memoryview
    size: int

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Its content."""
        yield self.own
        left = self.size - len(self.own)
        while left > 0:
            yield self.chunk[:left]
            left -= len(self.chunk)

    def digest(self) -> str:
        """Its name."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return f"sha256:{digest.hexdigest()}"


class Connection:
    """A connection to the registry that is kept open, as far as the registry keeps it."""

    def __init__(self, url: str, ca_file: str, login: str) -> None:
        """Describe it; the first request opens it."""
        parts = urlsplit(url)
        if parts.scheme == "https":
            self._http = http.client.HTTPSConnection(
                parts.netloc, context=ssl.create_default_context(cafile=ca_file), timeout=600
            )
        else:
            self._http = http.client.HTTPConnection(parts.netloc, timeout=600)
        self._headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
        self._buffer = bytearray(_CHUNK)

    def push(self, blob: Blob, digest: str) -> None:
        """Push a blob."""
        location = self._send("POST", f"{_REPOSITORY}/uploads/", 202)
        location = self._send("PATCH", location, 202, blob)
        self._send("PUT", f"{location}{'&' if '?' in location else '?'}digest={digest}", 201)

    def pull(self, blob: Blob, digest: str) -> None:
        """Pull a blob."""
        self._http.request("GET", f"{_REPOSITORY}/{digest}", headers=self._headers)
        answer, got = self._http.getresponse(), 0
        while count := answer.readinto(self._buffer):
            got += count
        if (answer.status, got) != (200, blob.size):
            msg = f"{answer.status} and {got} bytes for a blob of {blob.size}"
            raise ConnectionError(msg)

    def _send(self, method: str, path: str, status: int, blob: Blob | None = None) -> str:
        headers = {**self._headers, "Content-Length": str(blob.size if blob else 0)}
        body = blob.pieces() if blob else None
        self._http.request(method, path, body, headers)  # type: ignore[arg-type]
        answer = self._http.getresponse()
        said = answer.read()
        if answer.status != status:
            msg = f"{answer.status} for {method} {path}: {said[:500]!r}"
            raise ConnectionError(msg)
        location = urlsplit(answer.headers.get("Location", ""))
        return f"{location.path}?{location.query}" if location.query else location.path


def timed(connections: list[Connection], blobs: dict[str, Blob], what: Callable[[Connection, Blob, str], None]) -> float:
    """The seconds until something was done with every blob."""
    waiting: queue.SimpleQueue[tuple[str, Blob]] = queue.SimpleQueue()
    for each in blobs.items():
        waiting.put(each)
    failed: list[Exception] = []

    def work(connection: Connection) -> None:
        try:
            while not failed:
                digest, blob = waiting.get_nowait()
                what(connection, blob, digest)
        except queue.Empty:
            pass
        except Exception as error:  # noqa: BLE001 - it is raised by the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=work, args=[each]) for each in connections]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return time.monotonic() - began


def main(url: str, ca_file: str, count: str, size: str) -> None:
    """Push and pull `count` blobs of `size` bytes; prints a JSON object with the seconds of each."""
    chunk = memoryview(os.urandom(_CHUNK))
    made = (Blob(os.urandom(16), chunk, int(size)) for _ in itertools.repeat(None, int(count)))
    blobs = {blob.digest(): blob for blob in made}
    connections = [Connection(url, ca_file, os.environ.get("LOGIN", "")) for _ in range(min(CONNECTIONS, len(blobs)))]
    seconds = {name: timed(connections, blobs, way) for name, way in (("push", Connection.push), ("pull", Connection.pull))}
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
