"""A second API server of the running cluster, which a test may stop: nobody else uses it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local_cluster import control_plane, host_machine, network

from .bare_cluster import kubeconfig
from .cluster import Cluster
from .commands import wait_until

PORT = 7444
"""Its port at the address of the cluster's own API server."""


@dataclass(kw_only=True)
class SecondApiServer:
    """An API server beside the cluster's own, with the same objects."""

    cluster: Cluster
    """The cluster, as it is seen through this API server."""
    log: Path
    """File with what it says."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = control_plane.commands(host_machine.etcd())["kube-apiserver"]
        # The Service `kubernetes` goes on to name the cluster's own one.
        options = [f"--secure-port={PORT}", "--endpoint-reconciler-type=none"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(network.inside(*command, *options), stdout=log, stderr=subprocess.STDOUT)
        wait_until(
            lambda: self.cluster.run("kubectl", "get", "--raw=/readyz", check=False).returncode == 0,
            f"the second API server is ready; see {self.log}",
            timeout=60,
        )

    def kill(self) -> None:
        """Kill it, so that every connection to it breaks off."""
        assert self.process
        self.process.kill()
        self.process.wait()


@contextmanager
def second_api_server(cluster: Cluster, folder: Path) -> Iterator[SecondApiServer]:
    """A second API server of the cluster, until the end of the context."""
    config = kubeconfig(folder / "second", port=PORT)
    seen = Cluster(environment={**cluster.environment, "KUBECONFIG": str(config)}, nodes=cluster.nodes)
    server = SecondApiServer(cluster=seen, log=folder / "second-api-server.log")
    server.start()
    try:
        yield server
    finally:
        server.kill()
