"""What the agent asks a CRI socket: who listens, and the calls Version and PullImage.

The calls are written by hand, since the agent has no gRPC library, only Python's own.

HTTP/2 is specified in RFC 9113 and its header encoding in RFC 7541, of which this uses literals without indexing and
without Huffman codes. gRPC's framing is in https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, and the
messages in k8s.io/cri-api's api.proto.
"""

import socket
import struct
import time

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4


def listener(path: str, timeout: float = 3.0) -> int:
    """Id of the process that listens on the socket at `path`, as the kernel knows it (SO_PEERCRED, see unix(7)).

    The path in /proc/net/unix does not help: the kubelet's own library for servers (pkg/kubelet/util, CreateListener)
    binds the socket under a temporary name and renames it, and cri-dockerd uses that. Raises OSError if nobody listens.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[0]


def version(path: str, timeout: float = 3.0) -> tuple[str, str]:
    """Ask the runtime behind the socket at `path` for its name and version, such as ("containerd", "v1.7.24").

    Raises OSError if nothing answers within `timeout` seconds or the socket does not serve CRI.
    """
    for api in ("v1", "v1alpha2"):  # containerd before 1.6 knows v1alpha2 only
        reply = _call(path, f"/runtime.{api}.RuntimeService/Version", timeout)
        if reply is not None:
            fields = _strings(reply)
            return fields.get(2, ""), fields.get(3, "")
    raise OSError(f"{path} does not serve the CRI runtime service")


def pull(path: str, image: str, username: str = "", password: str = "", timeout: float = 60.0) -> bool:
    """Have the runtime behind the socket at `path` pull an image, as the kubelet does; whether it could.

    It asks the registry also if the node has the image already. Raises OSError if nothing answers in time.
    """
    login = _field(1, username.encode()) + _field(2, password.encode())
    message = _field(1, _field(1, image.encode())) + (_field(2, login) if username else b"")
    return _call(path, "/runtime.v1.ImageService/PullImage", timeout, message) is not None


def _call(path: str, method: str, timeout: float, message: bytes = b"") -> bytes | None:
    """Send one gRPC message and return the answer; None if the server has no such method, or reports an error.

    Raises OSError if nothing answers in time.
    """
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, block)
            + _frame(_DATA, _END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message)
        )
        reply = b""
        while time.monotonic() < deadline:
            length, kind, flags = struct.unpack(">I", b"\0" + _exactly(connection, 3))[0], *_exactly(connection, 2)
            stream = struct.unpack(">I", _exactly(connection, 4))[0]
            payload = _exactly(connection, length)
            if kind == _DATA:
                reply += payload
            elif kind == _SETTINGS and not flags & 1:
                connection.sendall(_frame(_SETTINGS, 1, 0, b""))
            elif kind in (_RESET, _GOAWAY):
                break
            if stream == 1 and flags & _END_STREAM and kind in (_DATA, _HEADERS):
                return reply[5:] if len(reply) > 5 else None
    raise OSError(f"{path} did not answer {method} within {timeout:g} s")


def _field(number: int, value: bytes) -> bytes:
    """A field of a protobuf message: a text, or a message."""
    length, size = b"", len(value)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise OSError("the runtime closed the connection")
        data += part
    return data


def _strings(message: bytes) -> dict[int, str]:
    """The string fields of a flat protobuf message, by number. Each string must be shorter than 128 bytes."""
    fields: dict[int, str] = {}
    while len(message) > 2:
        tag, length = message[0], message[1]
        fields[tag >> 3] = message[2 : 2 + length].decode()
        message = message[2 + length :]
    return fields
