"""The proof image: the smallest image whose running container proves that a node could pull from the registry.

One OCI image index of two platforms, each with one static ELF program that waits for a signal. It is made from this
file and the stack's namespace alone, so its digest is known before the registry runs. The registry's pod runs this file
as a program to push the image and to push it again when it has gone missing; it must therefore import only the standard
library. On the way it finds out whether the registry's storage takes what is pushed: it says so in its log, one JSON
object on a line, which is where `pulumi up` and the doctor read it, and has nginx refuse pushes while it is full.

Sources: OCI image specification 1.1 (index, manifest, config); ELF-64 object file format; Linux system call tables.
"""

import hashlib
import http.client
import io
import json
import os
import re
import signal
import struct
import sys
import tarfile
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

REPOSITORY = "private-registry/proof"
"""The repository that holds the proof image; the first part of its name is one that users will hardly choose."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_LOAD_ADDRESS = 0x400000
_HEADERS = 64 + 56  # an ELF header and one program header

READY = "READY"
"""The reason with which nothing is wrong."""
_RESERVE = 16 * 2**20
"""A storage with fewer bytes left counts as full. Of a small storage it is a sixteenth."""
_SELDOM = 12
"""Looks at a storage that works between two at which it is written to."""

# Each program is `for (;;) pause();`, with one instruction a line.
_PROGRAMS = {
    "amd64": (
        62,  # EM_X86_64
        "b822000000"  # mov eax, 34 (pause)
        "0f05"  # syscall
        "ebf7",  # jmp to the first instruction
    ),
    "arm64": (
        183,  # EM_AARCH64; it has no pause, so ppoll(NULL, 0, NULL, NULL, 0)
        "000080d2"  # mov x0, 0
        "010080d2"  # mov x1, 0
        "020080d2"  # mov x2, 0
        "030080d2"  # mov x3, 0
        "040080d2"  # mov x4, 0
        "280980d2"  # mov x8, 73 (ppoll)
        "010000d4"  # svc 0
        "f9ffff17",  # b to the first instruction
    ),
}


@dataclass(frozen=True, kw_only=True)
class Content:
    """One piece of content as a registry stores it."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """The content's digest, `sha256:<hex>`."""
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    def descriptor(self, **more: object) -> dict[str, object]:
        """The OCI descriptor that refers to this content."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image index with everything it refers to."""

    blobs: tuple[Content, ...]
    manifests: tuple[Content, ...]
    index: Content


def elf(machine: int, code: bytes) -> bytes:
    """A static ELF-64 program whose only segment is headers and `code`, started at `code`."""
    size = _HEADERS + len(code)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _LOAD_ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return identification + header + segment + code


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _layer(program: bytes) -> tuple[bytes, Content]:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo("proof")
        entry.size, entry.mode = len(program), 0o555
        archive.addfile(entry, io.BytesIO(program))
    return tar.getvalue(), Content(media_type=_LAYER, data=_stored_gzip(tar.getvalue()))


def _stored_gzip(data: bytes) -> bytes:
    """`data` in the gzip format, stored instead of compressed (RFC 1951, 3.2.4; RFC 1952).

    Compressors differ between versions of zlib, and the digest has to be the same everywhere.
    """
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    block = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF)  # the last block; struct refuses more than 65,535
    return header + block + data + struct.pack("<II", zlib.crc32(data), len(data))


def build(namespace: str) -> Image:
    """The proof image of a stack: the same bytes on every machine and at every call.

    It holds the stack's namespace. So its digest is the stack's own, and no other stack's registry can serve it.
    """
    blobs: list[Content] = []
    manifests: list[Content] = []
    descriptors: list[dict[str, object]] = []
    for architecture, (machine, code) in _PROGRAMS.items():
        raw, layer = _layer(elf(machine, bytes.fromhex(code)))
        config = Content(
            media_type=_CONFIG,
            data=_json(
                {
                    "architecture": architecture,
                    "os": "linux",
                    "config": {
                        "Entrypoint": ["/proof"],
                        "User": "65534:65534",
                        "Labels": {"private-registry/namespace": namespace},
                    },
                    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(raw).hexdigest()]},
                }
            ),
        )
        manifest = Content(
            media_type=_MANIFEST,
            data=_json(
                {
                    "schemaVersion": 2,
                    "mediaType": _MANIFEST,
                    "config": config.descriptor(),
                    "layers": [layer.descriptor()],
                }
            ),
        )
        blobs += [layer, config]
        manifests.append(manifest)
        descriptors.append(manifest.descriptor(platform={"architecture": architecture, "os": "linux"}))
    index = Content(
        media_type=_INDEX,
        data=_json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": descriptors}),
    )
    return Image(blobs=tuple(blobs), manifests=tuple(manifests), index=index)


class ProofPusher:
    """A client of the registry that knows the few calls that a push needs (OCI distribution specification 1.1).

    It speaks plain HTTP and has no password, because it connects to the registry itself, within the pod.
    """

    def __init__(self, address: str) -> None:
        """Make a client.

        Args:
            address: `host:port` of the registry.
        """
        self._address = address

    def _call(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> tuple[int, str, str]:
        """Status, location and text of the answer to a request."""
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            # Without the header Accept the registry says of a manifest that it is not there.
            headers = {"Content-Type": media_type} if media_type else {"Accept": f"{_MANIFEST}, {_INDEX}"}
            connection.request(method, path, body or None, {"Content-Length": str(len(body)), **headers})
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return response.status, response.headers.get("Location", ""), text
        finally:
            connection.close()

    def _begin(self) -> tuple[int, str, str]:
        return self._call("POST", f"/v2/{REPOSITORY}/blobs/uploads/")

    def _put(self, path: str, content: Content) -> None:
        status, _, _ = self._call("PUT", path, content.data, content.media_type)
        if status != http.client.CREATED:
            msg = f"The registry answered {status} to the push of {content.digest}."
            raise OSError(msg)

    def refusal(self) -> str:
        """What the registry says when it cannot begin an upload; empty if it can. That is given up at once.

        Raises:
            OSError: the registry does not answer in time.
        """
        status, location, text = self._begin()
        if status != http.client.ACCEPTED:
            return f"{status} {text.strip()}"
        self._call("DELETE", location)
        return ""

    def has(self, image: Image) -> bool:
        """Whether every part of the image is in the registry."""
        manifests = [("manifests", content) for content in (image.index, *image.manifests)]
        parts = [*manifests, *(("blobs", content) for content in image.blobs)]
        return all(
            self._call("HEAD", f"/v2/{REPOSITORY}/{kind}/{content.digest}")[0] == http.client.OK
            for kind, content in parts
        )

    def push(self, image: Image) -> None:
        """Push the image: blobs, then manifests, then the index, so that whoever gets the index finds all parts of it.

        Raises:
            OSError: the registry cannot be reached or refused a part.
        """
        for content in image.blobs:
            status, location, _ = self._begin()
            if status != http.client.ACCEPTED:
                msg = f"The registry answered {status} to the start of an upload."
                raise OSError(msg)
            target = urlsplit(location)
            query = "&".join(filter(None, [target.query, f"digest={content.digest}"]))
            self._put(f"{target.path}?{query}", Content(media_type="application/octet-stream", data=content.data))
        for content in (*image.manifests, image.index):
            self._put(f"/v2/{REPOSITORY}/manifests/{content.digest}", content)


class Storage:
    """Whether the registry's storage takes what is pushed. It is looked at often, and written to seldom."""

    def __init__(self, pusher: ProofPusher, data: Path, full: Path) -> None:
        """Nothing is known yet.

        Args:
            pusher: A client of the registry.
            data: The folder of images, which this program only reads. It is missing if they are kept elsewhere.
            full: A file that exists while the storage is full; nginx looks for it.
        """
        self._pusher = pusher
        self._data = data
        self._full = full
        self._reason = ""
        self._looks = 0

    def look(self) -> bool:
        """Find out, and say it in the log and to nginx if it has changed; whether it takes what is pushed."""
        found = os.statvfs(self._data) if self._data.exists() else None
        size, left = (found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize) if found else (0, 0)
        reason, sentence = state("", size, left)
        # Where there is no space, an upload that fails would only leave something behind.
        if reason == READY and (self._reason != READY or self._looks % _SELDOM == 0):
            try:
                reason, sentence = state(self._pusher.refusal(), size, left)
            except (OSError, http.client.HTTPException):
                return True  # it is slow perhaps; that is no refusal, and nothing that pulls have to wait for
        self._looks += 1
        if reason == "STORAGE_FULL":
            self._full.touch()
        else:
            self._full.unlink(missing_ok=True)
        if reason != self._reason:
            print(json.dumps({"reason": reason, "sentence": sentence}), flush=True)
        self._reason = reason
        return reason == READY


def state(refusal: str, size: int, left: int) -> tuple[str, str]:
    """The reason and the sentence of what is wrong with a storage; READY if it takes what is pushed.

    Args:
        refusal: What the registry says of an upload that it could not begin; empty if it could.
        size: Bytes of the file system with the images; 0 if they are in none.
        left: How many of these are free.
    """
    space = f"{left >> 20} of {size >> 20} MiB are left"
    if re.search(r'"Err":(28|122)\b|no space left|quota exceeded', refusal) or left < min(_RESERVE, size // 16):
        return "STORAGE_FULL", (
            f"The registry's storage is full ({space}), so pushes are refused, and pulls go on: delete images that "
            "nobody needs and run make gc, or set a larger storageSize (docs/space.md)."
        )
    if re.search(r'"Err":(1|13|30)\b|permission denied|read-only', refusal):
        user, group = os.getuid(), os.getgid()
        return "STORAGE_NOT_WRITABLE", (
            f"The registry runs as user {user} and cannot write to its storage ({refusal}): give the folder behind the "
            f"PersistentVolume to it (chown -R {user}:{group}), or set storageClass to one whose volumes heed fsGroup."
        )
    if refusal:
        return "STORAGE_FAILS", f"The registry cannot write to its storage ({refusal}): mend what that names."
    return READY, f"The registry's storage takes what is pushed{size and f'; {space}' or ''}."


def keep(pusher: ProofPusher, image: Image, ready: Path, storage: Storage, stopped: Path, interval: float) -> None:
    """Push the proof image, and push it again whenever a part of it is missing; this never returns.

    Args:
        pusher: A client of the registry to keep it in.
        image: The proof image.
        ready: A file that exists while the whole image is in the registry; the readiness probe looks for it.
        storage: The registry's storage, which is looked at each time.
        stopped: While this file exists nothing may be pushed, so nothing is done.
        interval: Seconds between two checks.
    """
    ready.unlink(missing_ok=True)  # a previous container of this pod may have left it
    pause = threading.Event()
    trouble = ""
    while True:
        try:
            if not stopped.exists():
                complete = pusher.has(image)
                if storage.look() and not complete:
                    ready.unlink(missing_ok=True)
                    pusher.push(image)
                    print("pushed", REPOSITORY, image.index.digest, flush=True)
                    complete = True
                if complete:
                    ready.touch()
                else:
                    ready.unlink(missing_ok=True)
            trouble = ""
        except (OSError, http.client.HTTPException) as error:
            ready.unlink(missing_ok=True)
            if str(error) != trouble:
                trouble = str(error)
                print("waiting for the registry:", trouble, flush=True)
            pause.wait(0.2)
        else:
            pause.wait(interval)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container has no default action
    address, ready, data, run = sys.argv[1:]
    client = ProofPusher(address)
    storage = Storage(client, Path(data), Path(run) / "full")
    keep(client, build(os.environ["NAMESPACE"]), Path(ready), storage, Path(run) / "stopped", interval=5)
