"""Run the registry with TLS, and let a fresh one take over its port whenever the certificate changes.

The registry reads its certificate once, at its start (distribution v3.1.2, registry/registry.go: LoadX509KeyPair), but
it takes a listening socket that it is handed (registry/listener: socket activation, sd_listen_fds(3)). So this program
opens the sockets. When the certificate on disk changes, it starts a second registry on a second socket of the same
port and tells the kernel to give every new connection to that one. Some seconds later, when the first registry has
read the first request of each of its connections, it asks that one to end. The first registry completes what it is
serving, so no client is refused or cut off.

The second socket is needed because of clients without HTTP/2. When Go's server is told to end, it closes each
connection whose first request it has not read yet (net/http, conn.serve: shuttingDown). So there must be no such
connection by then.

It runs in the registry's pod and must therefore import only the standard library.
What this deliberately does not do: it does not touch the traffic, and between two changes it runs one registry only.

Usage: serve.py PROGRAM CONFIG CERTIFICATE KEY PORT
"""

import ctypes
import fcntl
import hashlib
import os
import signal
import socket
import ssl
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 2.0
"""Seconds between two checks of the certificate."""
START = 20.0
"""Seconds that a fresh registry may take until it answers with its certificate."""
SETTLE = 10.0
"""Seconds after which the previous registry has read the first request of each of its connections."""

_FIRST_SOCKET = 3  # SD_LISTEN_FDS_START
_SO_ATTACH_REUSEPORT_CBPF = 51  # socket(7); Python has no name for it
_BPF_RETURN = 0x06  # BPF_RET | BPF_K
_END = "-----END CERTIFICATE-----\n"
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def open_port(port: int) -> socket.socket:
    """One more listening socket for this port, on every address of the pod."""
    both = socket.has_dualstack_ipv6()
    listener = socket.socket(socket.AF_INET6 if both else socket.AF_INET)
    if both:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("", port))
    # The socket must not be descriptor 3 itself: then it would be closed at exec instead of being handed on.
    with listener:
        return socket.socket(fileno=fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, 2 * _FIRST_SOCKET))


def direct(listener: socket.socket, index: int) -> None:
    """Make the kernel give every new connection to one of the port's listening sockets.

    Args:
        listener: Any of the sockets.
        index: Number of the socket that gets the connections; the oldest one has number 0. While there is no socket of
            that number, the kernel takes any.
    """
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", _BPF_RETURN, 0, 0, index))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)


def ended() -> set[int]:
    """Process ids of the registries that have ended since the last call."""
    found: set[int] = set()
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            found.add(pid)
    except ChildProcessError:
        pass
    return found


@dataclass(kw_only=True)
class Server:
    """The registries on one port: the current one, and earlier ones that still complete what they are serving."""

    program: str
    config: str
    certificate: Path
    """The certificate and its CA's, PEM."""
    key: Path
    """Its private key, PEM."""
    port: int

    def fingerprint(self) -> str:
        """A digest of certificate and key; empty while one of them is missing or they do not belong together."""
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key)
            return hashlib.sha256(self.certificate.read_bytes() + self.key.read_bytes()).hexdigest()
        except OSError:  # ssl.SSLError is one
            return ""

    def start(self, listener: socket.socket) -> int:
        """Start a registry on a socket.

        Returns:
            Its process id.
        """
        # LISTEN_PID has to be the id of the registry's process, and only that process knows it before it runs the
        # registry.
        script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve "$1"'
        return os.posix_spawnp(
            "sh",
            ["sh", "-c", script, self.program, self.config],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, listener.fileno(), _FIRST_SOCKET)],
            setsigmask=[],
        )

    def answers(self) -> bool:
        """Whether a new connection gets the certificate that is on disk now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared below, bit by bit
        first, end, _ = self.certificate.read_text().partition(_END)
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), timeout=2) as plain,
                context.wrap_socket(plain) as connection,
            ):
                return connection.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(first + end)
        except OSError:
            return False

    def took_over(self, pid: int) -> bool:
        """Wait until the registry with this process id answers.

        Returns:
            False if it does not answer in time; then its process is gone.
        """
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return False
            if self.answers():
                return True
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return False

    def run(self) -> int:
        """Serve until a signal asks for the end, or until the registry ends by itself.

        Returns:
            The exit code.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        served = self.fingerprint()
        listener = open_port(self.port)
        listener.listen(1024)
        current = self.start(listener)
        settling: tuple[float, int, socket.socket] | None = None  # when to end which process, and its socket
        draining: set[int] = set()
        while True:
            received = signal.sigtimedwait(_SIGNALS, INTERVAL)
            gone = ended()
            draining -= gone
            if current in gone:
                print("the registry ended by itself", flush=True)
                return 1
            if received is not None and received.si_signo != signal.SIGCHLD:
                return stop({current, *draining} - gone)
            if settling is not None:
                if time.monotonic() > settling[0]:
                    os.kill(settling[1], signal.SIGTERM)
                    settling[2].close()
                    settling = None
                continue
            found = self.fingerprint()
            if not found or found == served:
                continue
            served = found
            direct(listener, 0)
            successor = open_port(self.port)
            successor.listen(1024)
            pid = self.start(successor)
            direct(listener, 1)
            if self.took_over(pid):
                print("the certificate changed: a fresh registry took over", flush=True)
                settling = time.monotonic() + SETTLE, current, listener
                draining.add(current)
                listener, current = successor, pid
            else:
                direct(listener, 0)
                successor.close()
                print("the certificate changed, but no registry starts with it: the old one stays", flush=True)


def stop(registries: set[int]) -> int:
    """Ask registries to end, and wait until they have.

    Returns:
        The exit code.
    """
    for pid in registries:
        os.kill(pid, signal.SIGTERM)
    while registries:
        signal.sigtimedwait(_SIGNALS, INTERVAL)
        registries -= ended()
    return 0


if __name__ == "__main__":
    program, config, certificate, key, port = sys.argv[1:]
    server = Server(program=program, config=config, certificate=Path(certificate), key=Path(key), port=int(port))
    sys.exit(server.run())
