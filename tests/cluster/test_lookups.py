"""What musl, the C library of Alpine's images, makes of a DNS server's answers, and that the agent finds names there.

No image with musl can be had here, so a small program is linked with it. The agent's own lookup then runs on that.
"""

import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_cluster import rootfs
from trust.agent.lookup import look_up

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

PROGRAM = """\
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
  struct addrinfo hints = {.ai_family = atoi(arguments[1]), .ai_socktype = SOCK_STREAM}, *found;
  int error = getaddrinfo(arguments[2], NULL, &hints, &found);
  if (error) {
    puts(gai_strerror(error));
    return 1;
  }
  for (; found; found = found->ai_next) {
    char text[100];
    getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
    puts(text);
  }
}
"""

SERVER = "127.86.0.53"
NAME, ADDRESS = "registry.10-99-0-200.nip.test", "10.99.0.200"
A, AAAA = 1, 28
NO_DATA, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 0, 2, 3, 4, 5


def answered(query: bytes, code_for_aaaa: int) -> bytes:
    """The answer to a DNS query (RFC 1035): the address for every A, and a code without an address for AAAA."""
    end = query.index(0, 12) + 5  # a name of labels that ends with an empty one, then type and class
    [kind] = struct.unpack_from("!H", query, end - 4)
    found = kind == A
    header = query[:2] + struct.pack("!5H", 0x8180 | (0 if found else code_for_aaaa), 1, found, 0, 0)
    record = struct.pack("!3HIH", 0xC00C, A, 1, 60, 4) + socket.inet_aton(ADDRESS)
    return header + query[12:end] + (record if found else b"")


@pytest.fixture
def root(tmp_path: Path, code: int) -> Iterator[Path]:
    """A root file system whose resolver is a DNS server that answers AAAA with a code."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(f"nameserver {SERVER}\noptions timeout:1 attempts:1\n")
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind((SERVER, 53))

        def serve() -> None:
            while True:
                query, asker = server.recvfrom(512)
                if not query:
                    return
                server.sendto(answered(query, code), asker)

        thread = threading.Thread(target=serve)
        thread.start()
        yield tmp_path
        server.sendto(b"", (SERVER, 53))
        thread.join()


@pytest.fixture
def musl(root: Path) -> Callable[..., list[Any]]:
    """`socket.getaddrinfo` as a Python that is linked with musl has it."""
    rootfs.install("musl-tools")
    (root / "lookup.c").write_text(PROGRAM)
    subprocess.run(["musl-gcc", "-static", "-o", root / "lookup", root / "lookup.c"], check=True)

    def getaddrinfo(name: bytes, _port: None, family: int = socket.AF_UNSPEC, kind: int = 0) -> list[Any]:
        command = ["chroot", root, "/lookup", str(int(family)), name.decode()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        if done.returncode:
            raise socket.gaierror(socket.EAI_FAIL, done.stdout.strip())
        return [(family, kind, 6, "", (address, 0)) for address in done.stdout.split()]

    return getaddrinfo


@pytest.mark.parametrize("code", [NO_SUCH_NAME, REFUSED, NOT_IMPLEMENTED, SERVER_FAILURE])
def test_an_address_that_musl_drops_for_the_answer_to_another_question_is_found_by_the_agent(
    root: Path, musl: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(socket.gaierror):
        musl(NAME.encode(), None, socket.AF_UNSPEC, socket.SOCK_STREAM)
    [entry] = musl(NAME.encode(), None, socket.AF_INET, socket.SOCK_STREAM)
    assert entry[4][0] == ADDRESS
    found = look_up(NAME, root)
    assert (found.addresses, found.resolvers) == ([ADDRESS], [SERVER]), "with this process's own C library"
    monkeypatch.setattr(socket, "getaddrinfo", musl)
    found = look_up(NAME)
    assert (found.addresses, found.why) == ([ADDRESS], "")


@pytest.mark.parametrize("code", [NO_DATA])
def test_musl_is_content_with_a_server_that_says_there_is_no_address_of_version_6(
    root: Path, musl: Callable[..., list[Any]]
) -> None:
    [entry] = musl(NAME.encode(), None, socket.AF_UNSPEC, socket.SOCK_STREAM)
    assert entry[4][0] == ADDRESS
    (root / "etc/resolv.conf").write_text("nameserver 127.86.0.54\noptions timeout:1 attempts:1\n")
    assert look_up(NAME, root).addresses == [], "the files count as they are now"
