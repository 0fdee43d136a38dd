"""The CRI call Version, against answers recorded from real runtimes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trust.agent import cri

CONTAINERD_1_6_20 = (
    "0000060400000000000005000040000000000401000000000000040800000000000000000500000806000000000002041010090e070700000e"
    "010400000001885f8b1d75d0620d263d4c4d656400002800000000000100000000230a05302e312e30120a636f6e7461696e6572641a0a312e"
    "362e32307e6473312202763100001801050000000140889acac8b21234da8f013040899acac8b5254207317f00"
)
CONTAINERD_2_4_2 = (
    "0000060400000000000005000040000000000401000000000000040800000000000000000500000806000000000002041010090e070700000e"
    "010400000001885f8b1d75d0620d263d4c4d656400002b00000000000100000000260a05302e312e30120a636f6e7461696e6572641a0d322e"
    "342e322b756e6b6e6f776e2202763100001801050000000140889acac8b21234da8f013040899acac8b5254207317f00"
)
UNIMPLEMENTED = (
    "0000060400000000000005000040000000000401000000000000040800000000000000000500000806000000000002041010090e0707000045"
    "010500000001885f8b1d75d0620d263d4c4d656440889acac8b21234da8f02313240899acac8b5254207317f9eb6aeb51fc54a20b677310aa5"
    "96d4935255fb857db6d493525dc5b3b9885f"
)


@contextmanager
def replay(folder: Path, *answers: str) -> Iterator[str]:
    """A socket that plays one recorded answer for each connection, and checks what is sent."""
    path = str(folder / "cri.sock")
    server = socket.create_server(path, family=socket.AF_UNIX)
    heard: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(bytes.fromhex(answer))
                connection.recv(65536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield path
    thread.join(5)
    server.close()
    for number, request in enumerate(heard):
        assert request.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert f"/runtime.{('v1', 'v1alpha2')[number]}.RuntimeService/Version".encode() in request


@pytest.mark.parametrize(
    ("answer", "version"), [(CONTAINERD_1_6_20, "1.6.20~ds1"), (CONTAINERD_2_4_2, "2.4.2+unknown")]
)
def test_name_and_version_of_a_runtime(tmp_path: Path, answer: str, version: str) -> None:
    with replay(tmp_path, answer) as path:
        assert cri.version(path) == ("containerd", version)


def test_older_interface_is_tried_when_the_newer_one_is_unknown(tmp_path: Path) -> None:
    with replay(tmp_path, UNIMPLEMENTED, CONTAINERD_1_6_20) as path:
        assert cri.version(path) == ("containerd", "1.6.20~ds1")


def test_runtime_without_cri_is_an_error(tmp_path: Path) -> None:
    with replay(tmp_path, UNIMPLEMENTED, UNIMPLEMENTED) as path, pytest.raises(OSError, match="does not serve the CRI"):
        cri.version(path)


@pytest.mark.parametrize("answer", ["", "00000604", "0000080700000000000000000000000000"])
def test_connection_that_ends_is_an_error(tmp_path: Path, answer: str) -> None:
    with replay(tmp_path, answer) as path, pytest.raises(OSError, match="cri.sock|closed|timed out"):
        cri.version(path, timeout=1)


def test_silence_is_an_error(tmp_path: Path) -> None:
    server = socket.create_server(str(tmp_path / "cri.sock"), family=socket.AF_UNIX)
    with server, pytest.raises(TimeoutError):
        cri.version(str(tmp_path / "cri.sock"), timeout=0.2)


def test_no_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cri.version(str(tmp_path / "cri.sock"))


@pytest.mark.parametrize(("answer", "pulled"), [(CONTAINERD_1_6_20, True), (UNIMPLEMENTED, False)])
def test_a_pull_says_whether_it_came_about_and_sends_image_and_login(tmp_path: Path, answer: str, pulled: bool) -> None:
    image, password = "h/proof@sha256:" + "0" * 64, "p" * 130
    server = socket.create_server(str(tmp_path / "cri.sock"), family=socket.AF_UNIX)
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(65536))
            connection.sendall(bytes.fromhex(answer))
            connection.recv(65536)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with server:
        assert cri.pull(str(tmp_path / "cri.sock"), image, "user", password, timeout=5) is pulled
    thread.join(5)
    assert b"/runtime.v1.ImageService/PullImage" in heard[0]
    # ImageSpec{1: image} in field 1, AuthConfig{1: user, 2: password} in field 2; 138 and 130 take two bytes.
    spec = b"\x0a\x51\x0a\x4f" + image.encode()
    login = b"\x12\x8b\x01\x0a\x04user\x12\x82\x01" + password.encode()
    assert heard[0].endswith(b"\0" + len(spec + login).to_bytes(4, "big") + spec + login)
