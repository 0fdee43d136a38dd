"""What a push and a pull take at each way in, beside the registry alone: a process with TLS on the loopback address."""

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_cluster import network
from local_cluster.paths import REPOSITORY
from registry.registry import configuration
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.commands import run, wait_until
from tests.cluster.support.freed_space import gc
from tests.cluster.support.front import LOGINS, Behind, free_ports, front, listens, make_certificate
from tests.cluster.support.stacks import Deployed, Stack

EXPOSURES = ("loadBalancer", "nodePort", "ingress")
MEMORY = Path("/dev/shm")  # noqa: S108 - the point is that no disk is measured
"""Folder of the processes; the pod's storage is memory as well."""
DIRECTIONS = ("push", "pull")


@dataclass(frozen=True)
class Load:
    """Blobs that are pushed and then pulled."""

    name: str
    count: int
    size: int


def loads(scale: float) -> Sequence[Load]:
    """What is pushed and pulled; `scale` is the part of it that is."""
    large, medium, small = int(scale * 2e9), int(scale * 256e6), max(4, int(scale * 2000))
    return (
        Load(f"1 x {large / 1e6:,.0f} MB", 1, large),
        Load(f"8 x {medium / 1e6:,.0f} MB", 8, medium),
        Load(f"{small:,} x 20 kB", small, 20_000),
    )


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a client reaches a registry."""

    url: str
    ca_file: Path
    login: str
    free: Callable[[], object]
    """Makes room for what is pushed in the next round."""
    network: Callable[..., list[str]] = lambda *command: list(command)
    """Makes a command one that runs where the registry is reached."""

    def seconds(self, load: Load) -> dict[str, float]:
        """How long each direction takes."""
        command = [sys.executable, "-m", "bench.client", self.url, str(self.ca_file), str(load.count), str(load.size)]
        environment = {**os.environ, "LOGIN": self.login, "PYTHONPATH": str(REPOSITORY)}
        return json.loads(run(self.network(*command), environment, timeout=900).stdout)


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """What was measured at one way, in each round together with the registry alone."""

    way: str
    load: Load
    direction: str
    alone: Sequence[float]
    here: Sequence[float]
    """Seconds in each round."""

    @property
    def ratio(self) -> float:
        """Throughput here by that of the registry alone: the median of the rounds."""
        return statistics.median(alone / here for alone, here in zip(self.alone, self.here, strict=True))

    def __str__(self) -> str:
        return f"{self.way}, {self.load.name}, {self.direction}: {self.ratio:.2f} of the registry alone"

    def rate(self, seconds: Sequence[float]) -> float:
        """Megabytes a second: the median of the rounds."""
        return self.load.count * self.load.size / statistics.median(seconds) / 1e6


def _emptied(data: Path) -> None:
    shutil.rmtree(data / "docker" / "registry" / "v2" / "blobs")


@contextmanager
def alone(folder: Path) -> Generator[Way]:
    """The registry as a process that does TLS itself, with the configuration of the pod for everything else."""
    folder.mkdir()
    make_certificate(folder)
    certificate, key, data = folder / "tls" / "tls.crt", folder / "tls" / "tls.key", folder / "data"
    port, metrics = free_ports(2)
    written = {
        **configuration(),
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {
            "addr": f"127.0.0.1:{port}",
            "relativeurls": True,
            "tls": {"certificate": str(certificate), "key": str(key)},
            "debug": {"addr": f"127.0.0.1:{metrics}", "prometheus": {"enabled": True}},
        },
    }
    (folder / "config.yml").write_text(json.dumps(written))
    with Behind(folder):
        wait_until(lambda: listens(port), "the registry alone answers", timeout=30)
        yield Way(url=f"https://localhost:{port}", ca_file=certificate, login="", free=lambda: _emptied(data))


@contextmanager
def behind_nginx(folder: Path) -> Generator[Way]:
    """The registry behind nginx, both as processes: what nginx costs, and nothing else."""
    folder.mkdir()
    with front(folder, "push") as made:
        yield Way(
            url=f"https://localhost:{made.tls_port}",
            ca_file=folder / "tls" / "tls.crt",
            login=LOGINS["push"],
            free=lambda: _emptied(folder / "data"),
        )


def _exposed(cluster: Cluster, stack: Stack, folder: Path) -> Way:
    """The registry in the cluster, at the way in that the stack has now."""
    deployed = Deployed.of(cluster, stack, folder)
    return Way(
        url=f"https://{deployed.host}",
        ca_file=deployed.ca_file,
        login=f"{deployed.outputs['username']}:{deployed.outputs['password']}",
        free=lambda: gc(deployed),
        network=network.client,
    )


def _beside(name: str, reference: Way, way: Way, scale: float, rounds: int) -> Iterator[Throughput]:
    """Measure a way and the registry alone in turn."""
    taken: dict[Load, list[tuple[dict[str, float], dict[str, float]]]] = {load: [] for load in loads(scale)}
    for _ in range(rounds):
        for load, pairs in taken.items():
            pairs.append((reference.seconds(load), way.seconds(load)))
        reference.free()
        way.free()
    for load, pairs in taken.items():
        for direction in DIRECTIONS:
            yield Throughput(
                way=name,
                load=load,
                direction=direction,
                alone=[each[direction] for each, _ in pairs],
                here=[each[direction] for _, each in pairs],
            )


def measure(cluster: Cluster, scale: float, rounds: int) -> Iterator[Throughput]:
    """Measure every way.

    Args:
        cluster: The cluster.
        scale: Which part of the sizes and counts of the loads is pushed and pulled.
        rounds: How often.
    """
    with ExitStack() as made:
        folder = Path(made.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        reference = made.enter_context(alone(folder / "alone"))
        with behind_nginx(folder / "nginx") as way:
            yield from _beside("nginx as a process", reference, way, scale, rounds)
        room = int(1.1 * sum(load.count * load.size for load in loads(scale))) + 256 * 2**20
        stack = made.enter_context(
            Stack(environment=cluster.environment, settings={"storage": "memory", "storageSize": str(room)})
        )
        for exposure in EXPOSURES:
            stack.set(exposure=exposure)
            stack.up()
            yield from _beside(exposure, reference, _exposed(cluster, stack, folder), scale, rounds)
