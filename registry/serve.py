"""Run the registry with TLS, and let a fresh one take over its port whenever the certificate changes.

The registry reads its certificate once, at its start (distribution v3.1.2, registry/registry.go: LoadX509KeyPair), but
it takes a listening socket that it is handed (the same, registry/listener: socket activation, sd_listen_fds(3)). So
this program opens the port and hands it to a registry. When the certificate on disk changes it hands the same port to a
second one, and only when that one answers it asks the first to end, which completes what it is serving. The kernel
queues connections on the socket all the while, so no client is refused.

It runs in the registry's pod and must therefore import only the standard library.
What this deliberately does not do: touch a byte of the traffic, or run more than the one registry between changes.

Usage: serve.py PROGRAM CONFIG CERTIFICATE KEY PORT
"""

import fcntl
import hashlib
import os
import signal
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 2.0
"""Seconds between two looks at the certificate."""
START = 20.0
"""Seconds that a registry may take until it answers with its certificate."""

_FIRST_SOCKET = 3  # SD_LISTEN_FDS_START
_END = "-----END CERTIFICATE-----\n"
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


@dataclass(frozen=True, kw_only=True)
class Registry:
    """How to start a registry."""

    program: str
    config: str
    certificate: Path
    """The certificate and what signed it, PEM."""
    key: Path
    """Its private key, PEM."""
    listener: socket.socket

    def fingerprint(self) -> str:
        """What changes when certificate or key do; empty while one of them is not there."""
        try:
            return hashlib.sha256(self.certificate.read_bytes() + self.key.read_bytes()).hexdigest()
        except OSError:
            return ""

    def start(self) -> int:
        """Start a registry on the port; its process id."""
        # The environment has to name the process that it is for, which is known only in it.
        script = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" serve "$1"'
        return os.posix_spawnp(
            "sh",
            ["sh", "-c", script, self.program, self.config],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, self.listener.fileno(), _FIRST_SOCKET)],
            setsigmask=[],
        )

    def answers(self) -> bool:
        """Whether a new connection is served with the certificate that is on disk now."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared below, bit by bit
        first, end, _ = self.certificate.read_text().partition(_END)
        expected = ssl.PEM_cert_to_DER_cert(first + end)
        try:
            with (
                socket.create_connection(("127.0.0.1", self.listener.getsockname()[1]), timeout=2) as plain,
                context.wrap_socket(plain) as connection,
            ):
                return connection.getpeercert(binary_form=True) == expected
        except OSError:
            return False


def open_port(port: int) -> socket.socket:
    """A listening socket on every address of the pod."""
    both = socket.has_dualstack_ipv6()
    listener = socket.create_server(
        ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both, backlog=1024
    )
    # One that is number 3 already would be closed at exec instead of being handed on.
    return socket.socket(fileno=fcntl.fcntl(listener.detach(), fcntl.F_DUPFD_CLOEXEC, 2 * _FIRST_SOCKET))


def ended() -> set[int]:
    """Process ids of the registries that have ended since the last call."""
    found: set[int] = set()
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            found.add(pid)
    except ChildProcessError:
        pass
    return found


def run(registry: Registry) -> int:
    """Serve until told to end, or until the registry ends by itself; the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    served = registry.fingerprint()
    current = registry.start()
    draining: set[int] = set()
    while True:
        received = signal.sigtimedwait(_SIGNALS, INTERVAL)
        gone = ended()
        draining -= gone
        if current in gone:
            print("the registry ended by itself", flush=True)
            return 1
        if received is not None and received.si_signo != signal.SIGCHLD:
            for pid in {current, *draining}:
                os.kill(pid, signal.SIGTERM)
            while {current, *draining} - gone:
                signal.sigtimedwait(_SIGNALS, INTERVAL)
                gone |= ended()
            return 0
        found = registry.fingerprint()
        if found and found != served:
            served = found
            successor = registry.start()
            if took_over(registry, successor):
                print("the certificate changed: a fresh registry took over", flush=True)
                os.kill(current, signal.SIGTERM)
                draining.add(current)
                current = successor
            else:
                print("the certificate changed, but no registry starts with it: the old one stays", flush=True)


def took_over(registry: Registry, pid: int) -> bool:
    """Wait until the registry with this process id answers; False, and it is gone, when it does not."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        if registry.answers():
            return True
        signal.sigtimedwait({signal.SIGCHLD}, 0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        run(
            Registry(
                program=arguments[0],
                config=arguments[1],
                certificate=Path(arguments[2]),
                key=Path(arguments[3]),
                listener=open_port(int(arguments[4])),
            )
        )
    )
