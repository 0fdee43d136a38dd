"""A real server of buckets, which keeps each object as a file, with a certificate of a CA of its own."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_cluster import building, network, programs
from local_cluster.paths import LOCAL
from registry import registry
from registry.pod import nginx
from registry.settings import Bucket

from .commands import wait_until
from .front import free_ports, listens

BUCKET = "team-images"
REGION = "us-east-1"
AWS = "awscli==1.46.3"
"""The Python package of Amazon's command line. It needs older libraries than the program does."""


@dataclass(frozen=True, kw_only=True)
class BucketServer:
    """The server, with the bucket `BUCKET` and the only user who may use it."""

    endpoint: str
    """Where it is reached."""
    ca_file: Path
    """The certificate of its CA."""
    folder: Path
    """The folder with the bucket's objects."""
    access_key: str
    secret_key: str

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a stack that keeps its images here."""
        return {
            "storage": "s3",
            "s3Bucket": BUCKET,
            "s3Endpoint": self.endpoint,
            # A value that began with a dash would be taken for an option.
            "s3Ca": f"\n{self.ca_file.read_text()}",
            "s3AccessKey": self.access_key,
            "s3SecretKey": self.secret_key,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which Amazon's programs and libraries use it."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CA_BUNDLE": str(self.ca_file),
        }

    def objects(self, namespace: str) -> list[str]:
        """The names of the objects of a stack, below its namespace."""
        below = self.folder / namespace
        return sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.is_file())


@contextmanager
def bucket_server(folder: Path, *, in_cluster: bool = True) -> Iterator[BucketServer]:
    """Run the server until the end of the context.

    Args:
        folder: A folder for all its files, on a file system with extended attributes.
        in_cluster: Whether it is in the cluster's network, where pods reach it, or on this machine's loopback address.
    """
    address = network.CONTROL_PLANE if in_cluster else "127.0.0.1"
    # Nobody knows the free ports of another network. These are never given to clients (ip_local_port_range).
    port = 20000 + secrets.randbelow(10000) if in_cluster else free_ports(1)[0]
    ca_file, key_file, root = (folder / name for name in ("s3.crt", "s3.key", "buckets"))
    (root / BUCKET).mkdir(parents=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=s3", "-addext", f"subjectAltName=IP:{address}", "-keyout", key_file, "-out", ca_file],
        check=True, capture_output=True,
    )  # fmt: skip
    server = BucketServer(
        endpoint=f"https://{address}:{port}",
        ca_file=ca_file,
        folder=root / BUCKET,
        access_key=f"access{secrets.token_hex(7)}",
        secret_key=secrets.token_hex(20),
    )
    owner = {"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
    program = [str(programs.ensure(programs.TESTED) / "versitygw"), "--keep-alive", "--port", f"{address}:{port}"]
    command = [*program, "--cert", str(ca_file), "--key", str(key_file), "posix", str(root)]
    inside: Callable[..., list[str]] = network.inside if in_cluster else lambda *words: list(words)
    asks = inside("curl", "--silent", "--cacert", str(ca_file), "--output", "/dev/null", server.endpoint)

    def answers() -> bool:
        assert process.poll() is None, (folder / "s3.log").read_text()
        return subprocess.run(asks, check=False).returncode == 0

    with (
        (folder / "s3.log").open("w") as log,
        subprocess.Popen(inside(*command), stdout=log, stderr=log, env={**os.environ, **owner}) as process,
    ):
        try:
            wait_until(answers, "the server of buckets answers", timeout=30)
            yield server
        finally:
            process.terminate()


def command_line() -> Path:
    """The folder with Amazon's command line `aws`, which is installed first if need be, and is kept per machine."""
    environment = LOCAL / AWS.replace("==", "-")
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with building.lock(LOCAL / "awscli.lock"):
        if not (environment / "bin" / "aws").exists():  # pip writes it last
            building.run("aws: a virtual environment", [sys.executable, "-m", "venv", "--clear", str(environment)])
            building.run(f"aws: the Python package {AWS}", [*pip, AWS])
    return environment / "bin"


@contextmanager
def registries(
    server: BucketServer, folder: Path, count: int, changed: Mapping[str, str] | None = None
) -> Iterator[Sequence[int]]:
    """Run registries as in the pods of one stack, but without nginx in front of them; gives their ports.

    Args:
        server: Where they keep their images.
        folder: For files of their own.
        count: How many.
        changed: Variables that are not as they should be.
    """
    used = Bucket(name=BUCKET, region=REGION, endpoint=server.endpoint, ca="", keys=None)
    written = json.dumps(registry.configuration(used))
    environment: Mapping[str, str] = {
        **os.environ,
        **server.environment,
        "OTEL_TRACES_EXPORTER": "none",
        "REGISTRY_HTTP_SECRET": "the same for all",
        "REGISTRY_STORAGE_S3_ROOTDIRECTORY": "/registry-pr-42",
        **(changed or {}),
    }
    free = free_ports(2 * count)
    ports, metrics = free[:count], free[count:]
    with ExitStack() as running:
        for port, other in zip(ports, metrics, strict=True):
            config = folder / f"{port}.yml"
            own = written
            for theirs, ours in {nginx.REGISTRY_PORT: port, nginx.METRICS_PORT: other}.items():
                own = own.replace(f':{theirs}"', f':{ours}"')
            config.write_text(own)
            log = running.enter_context((folder / f"{port}.log").open("w"))
            command = [programs.ensure() / "registry", "serve", config]
            process = running.enter_context(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
            running.callback(process.terminate)
        for port in ports:
            wait_until(lambda port=port: listens(port), f"the registry at port {port} answers", timeout=30)
        yield ports
