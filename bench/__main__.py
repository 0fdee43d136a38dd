"""`make bench`: how long a stack takes to come and go, and what the way through Ingress and TLS costs a layer.

Times depend on the machine; the ratios compare two ways that are measured one after the other in the same run.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from local_cluster import cluster as local_cluster
from registry.pod.nginx import PLAIN_PORT
from tests.cluster.support.cluster import running_cluster
from tests.cluster.support.stacks import Deployed, deployed_stack

LAYER_BYTES = 200 * 1000**2
ROUNDS = 3


def _seconds(action: Callable[..., object], *arguments: str | Path) -> float:
    began = time.monotonic()
    action(*arguments)
    return time.monotonic() - began


def _line(what: str, value: float, unit: str) -> None:
    print(f"{what:<58}{value:>8.2f} {unit}", flush=True)


def _layer_times(deployed: Deployed, host: str, folder: Path) -> tuple[float, float]:
    """Median seconds of a push and of a pull of a random layer, each round with bytes of its own."""
    pushes: list[float] = []
    pulls: list[float] = []
    for number in range(ROUNDS):
        layer = folder / "layer.tar"
        layer.write_bytes(os.urandom(LAYER_BYTES))
        reference = f"{host}/bench/layer:{number}"
        pushes.append(_seconds(deployed.crane, "append", "--new_layer", layer, "--new_tag", reference))
        digest = json.loads(deployed.crane("manifest", reference))["layers"][0]["digest"]
        blob = f"{host}/bench/layer@{digest}"
        pull = ("env", f"SSL_CERT_FILE={deployed.ca_file}", "sh", "-c", 'crane blob "$1" >/dev/null', "-", blob)
        pulls.append(_seconds(deployed.cluster.run, *pull))
    return statistics.median(pushes), statistics.median(pulls)


def main() -> None:
    """Start the local cluster if need be, measure, and leave the cluster running."""
    local_cluster.up()
    cluster = running_cluster()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        began = time.monotonic()
        with deployed_stack(cluster, folder, {"auth": "none"}) as deployed:
            _line("pulumi up, with one restart of an old containerd", time.monotonic() - began, "s")
            _line("pulumi preview without changes", _seconds(deployed.stack.pulumi, "preview"), "s")
            service = cluster.get("service", "-n", deployed.namespace, "registry")["spec"]["clusterIP"]
            direct = _layer_times(deployed, f"{service}:{PLAIN_PORT}", folder)
            through = _layer_times(deployed, deployed.host, folder)
            for way, index in (("push", 0), ("pull", 1)):
                _line(f"{way} of {LAYER_BYTES // 1000**2} MB through the Ingress", through[index], "s")
                _line("  compared with plain HTTP to the Service", through[index] / direct[index], "times")
            _line("pulumi destroy", _seconds(deployed.stack.destroy), "s")


if __name__ == "__main__":
    main()
