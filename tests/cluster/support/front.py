"""The real nginx in front of the real registry, as in the registry's pod, without a cluster."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from local_cluster import programs, rootfs
from registry import credentials, registry
from registry.pod import nginx, proof_image

from .commands import wait_until

SEED = "seed"
LOGINS: Mapping[str, str] = {
    name: f"{credentials.user_name(1, push=push)}:{credentials.password(SEED, 1, push=push)}"
    for name, push in (("push", True), ("pull", False))
}
"""The logins of the two users."""
WHO: Mapping[str, str] = {
    "everyone": "",
    "a wrong password": "registry:wrong",
    "who may pull": LOGINS["pull"],
    "who may push": LOGINS["push"],
}
"""Logins by who has them."""
_EVERYONE, _EITHER, _PUSHERS = tuple(WHO), ("who may pull", "who may push"), ("who may push",)
ALLOWED: Mapping[nginx.AuthMode, Mapping[str, tuple[str, ...]]] = {
    "none": {"ping": _EVERYONE, "pull": _EVERYONE, "push": _EVERYONE},
    "push": {"ping": _EITHER, "pull": _EVERYONE, "push": _PUSHERS},
    "basic": {"ping": _EITHER, "pull": _EITHER, "push": _PUSHERS},
}
"""Whose requests are answered in each mode, of each kind; a table of the documentation is made from it."""


def busybox() -> Path:
    """The program with the shell and the commands of the public images."""
    return rootfs.ensure("python") / "usr" / "bin" / "busybox"


def make_certificate(folder: Path) -> str:
    """Put a new certificate for localhost into the folder, as one atomic change; its fingerprint."""
    made = folder / "made"
    made.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=test", "-addext", "subjectAltName=DNS:localhost", "-keyout", "tls.key", "-out", "tls.crt"],
        cwd=made, check=True, capture_output=True,
    )  # fmt: skip
    return put_certificate(folder, (made / "tls.crt").read_text(), (made / "tls.key").read_text())


def put_certificate(folder: Path, certificate: str, key: str) -> str:
    """Put certificate and key into the folder as the kubelet does it: one link is changed; the fingerprint."""
    number = len(list(folder.glob("version-*")))
    version = folder / f"version-{number}"
    version.mkdir()
    (version / "tls.crt").write_text(certificate)
    (version / "tls.key").write_text(key)
    (folder / "next").symlink_to(version.name)
    (folder / "next").rename(folder / "tls")
    for path in (folder / "made").glob("*"):
        path.unlink()
    if (folder / "made").exists():
        (folder / "made").rmdir()
    return ssl.PEM_cert_to_DER_cert(certificate).hex()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class Behind:
    """The registry behind nginx, which can be killed and started again. As a context manager it ends in the end."""

    def __init__(self, folder: Path) -> None:
        """Describe it; entering the context starts it."""
        self._folder = folder

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)

    def start(self) -> None:
        """Start it."""
        with (self._folder / "registry.log").open("a") as log:
            self._process = subprocess.Popen(
                [programs.ensure() / "registry", "serve", self._folder / "config.yml"],
                stdout=log, stderr=log,
                env={**os.environ, "OTEL_TRACES_EXPORTER": "none", "REGISTRY_HTTP_SECRET": "test"},
            )  # fmt: skip

    def kill(self) -> None:
        """End it without a warning."""
        self._process.kill()
        self._process.wait(30)


@dataclass(frozen=True, kw_only=True)
class Front:
    """What runs, and how to ask it."""

    folder: Path
    process: subprocess.Popen[str]
    """The script `nginx.sh`."""
    plain_port: int
    tls_port: int
    registry_port: int
    metrics_port: int
    behind: Behind

    def connect(self, *, plain: bool = False) -> http.client.HTTPConnection:
        """A connection to one of the ports."""
        if plain:
            return http.client.HTTPConnection("localhost", self.plain_port, timeout=20)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection("localhost", self.tls_port, timeout=20, context=context)

    def ask(
        self,
        method: str,
        path: str,
        *,
        login: str = "",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        plain: bool = False,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send one request on a connection of its own; status, headers and body of the answer."""
        connection = self.connect(plain=plain)
        sent = {"Content-Length": str(len(body)), **(headers or {})}
        if login:
            sent["Authorization"] = "Basic " + b64encode(login.encode()).decode()
        try:
            connection.request(method, path, body or None, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def push_blob(self, repository: str, data: bytes, login: str = "") -> str:
        """Push a blob; its digest."""
        status, headers, _ = self.ask("POST", f"/v2/{repository}/blobs/uploads/", login=login)
        assert status == 202
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        status, _, body = self.ask("PUT", f"{headers['Location']}&digest={digest}", body=data, login=login)
        assert status == 201, body
        return digest

    def metrics(self) -> str:
        """What the registry counts."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=20)
        connection.request("GET", "/metrics")
        with contextlib.closing(connection):
            return connection.getresponse().read().decode()

    def shown(self) -> str:
        """The certificate that a new connection is shown."""
        connection = self.connect()
        try:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            certificate = connection.sock.getpeercert(binary_form=True)
            assert certificate is not None
            return certificate.hex()
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether the registry answers through nginx."""
        try:
            return self.ask("GET", "/")[0] == 200
        except OSError:
            return False

    def stop_pushes(self, seconds: float) -> None:
        """Stop pushes for some time, as `make gc` does."""
        new = self.folder / "run" / "stopped.new"
        new.write_text(f"{time.time() + seconds:.0f}\n")
        new.rename(self.folder / "run" / "stopped")

    def start_gc(self, verb: str, configuration: Path | None = None) -> subprocess.Popen[str]:
        """Run `gc.sh` with the commands of busybox, as in the registry's container."""
        commands = self.folder / "commands"
        if not commands.exists():
            commands.mkdir()
            subprocess.run([busybox(), "--install", "-s", commands], check=True)
            (commands / "registry").symlink_to(programs.ensure() / "registry")
        script = Path(nginx.__file__).with_name("gc.sh")
        configuration = configuration or self.folder / "config.yml"
        where = (configuration, self.folder / "run" / "stopped", f"127.0.0.1:{self.metrics_port}")
        return subprocess.Popen(
            [busybox(), "sh", script, verb, *where, self.folder / "data"],
            env={"PATH": str(commands), "OTEL_TRACES_EXPORTER": "none"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    @contextmanager
    def proof_image(self) -> Generator[Path]:
        """Run the program that keeps the proof image in the registry; the file with its log."""
        log = self.folder / "proof.log"
        places = (self.folder / "ready", self.folder / "data", self.folder / "run")
        with (
            log.open("w") as output,
            subprocess.Popen(
                [sys.executable, proof_image.__file__, f"127.0.0.1:{self.registry_port}", *places],
                env={**os.environ, "NAMESPACE": "test"}, stdout=output, stderr=output,
            ) as process,
        ):  # fmt: skip
            try:
                yield log
            finally:
                process.terminate()
                process.wait(10)

    def log(self) -> str:
        """What the script and nginx have said."""
        return (self.folder / "log").read_text()


@contextmanager
def front(folder: Path, mode: nginx.AuthMode = "none", *, drain: int = 20) -> Iterator[Front]:
    """Run nginx and the registry with everything that they need in `folder`, on free ports."""
    ports = free_ports(4)
    environment, command = prepare(folder, mode, ports, drain)
    with (
        (folder / "log").open("w") as log,
        Behind(folder) as behind,
        subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment) as process,
    ):
        plain, tls, registry_port, metrics = ports
        made = Front(
            folder=folder,
            process=process,
            plain_port=plain,
            tls_port=tls,
            registry_port=registry_port,
            metrics_port=metrics,
            behind=behind,
        )
        try:
            wait_until(made.answers, "the registry answers", timeout=30)
            yield made
        finally:
            process.terminate()
            process.wait(30)


def prepare(folder: Path, mode: nginx.AuthMode, ports: list[int], drain: int) -> tuple[dict[str, str], list[str]]:
    """Put the files into `folder` that the pod has; the environment and the command of `nginx.sh`."""
    make_certificate(folder)
    for name in ("users", "run", "bin"):
        (folder / name).mkdir()
    for name, text in credentials.password_files(SEED, 1).items():
        (folder / "users" / name).write_text(text)
    own = {
        nginx.TLS: str(folder / "tls"),
        nginx.USERS: str(folder / "users"),
        nginx.RUN: str(folder / "run"),
        "/var/lib/registry": str(folder / "data"),
        **{str(each): str(port) for each, port in zip((nginx.PLAIN_PORT, nginx.TLS_PORT), ports, strict=False)},
        str(nginx.REGISTRY_PORT): str(ports[2]),
        str(nginx.METRICS_PORT): str(ports[3]),
    }

    def placed(text: str) -> str:
        # At once: a port of this machine may have another one's number within it.
        return re.sub("|".join(map(re.escape, own)), lambda found: own[found[0]], text)

    # In the pod nginx never is root; here it may be, and would give the right to read these files up.
    (folder / "nginx.conf").write_text("user root;\n" + placed(nginx.configuration(mode, registry.DATA)))
    (folder / "nginx.sh").write_text(placed(Path(nginx.__file__).with_suffix(".sh").read_text()))
    (folder / "config.yml").write_text(placed(json.dumps(registry.configuration())))
    tree = rootfs.ensure("nginx")
    (loader,) = tree.glob("lib64/ld-linux*")
    (libraries,) = tree.glob("usr/lib/*-linux-gnu")
    wrapper = folder / "bin" / "nginx"
    wrapper.write_text(f'#!/bin/sh\nexec {loader} --library-path {libraries} {tree}/usr/sbin/nginx "$@"\n')
    wrapper.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    names = ["nginx.sh", "nginx.conf", "tls/tls.crt", "tls/tls.key"]
    # The shell of the public image.
    return environment, [str(busybox()), "sh", *(str(folder / name) for name in names), str(drain)]
