"""A real implementation of NetworkPolicies beside the cluster's own network, which enforces none."""

import base64
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from local_cluster import network, nodes, programs

from .cluster import Cluster
from .commands import wait_until
from .meanwhile import again_and_again
from .rights import having_only
from .stacks import Stack

QUEUE = 98
"""Number of the kernel's queue by which a node's program gets packets."""
CHAIN = "NETWORK-POLICIES"
RULES = (
    ("-N", CHAIN),
    ("-A", CHAIN, "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "RETURN"),
    # The node's own programs, such as the kubelet with its probes, reach every pod.
    ("-A", CHAIN, "-m", "owner", "--uid-owner", "0", "-j", "RETURN"),
    ("-A", CHAIN, "-s", network.PODS, "-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass"),
    ("-A", CHAIN, "-d", network.PODS, "-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass"),
    ("-A", "POSTROUTING", "-j", CHAIN),
)
UNDONE = (("-D", "POSTROUTING", "-j", CHAIN), ("-F", CHAIN), ("-X", CHAIN))
IN_A_POD = """
mount -t tmpfs none /run
account=/run/secrets/kubernetes.io/serviceaccount
mkdir -p $account
cp "$1/token" "$1/ca.crt" $account
shift
exec "$@"
"""
"""Runs a program that looks for the API server as a pod does; the folder with the pod's account is the first word."""
WATCHED = [
    {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["list", "watch"]},
]


@contextmanager
def enforced(cluster: Cluster, namespace: str, folder: Path) -> Iterator[None]:
    """kube-network-policies on every node, in the node's network as its own DaemonSet is, until the end of the context.

    The kernel hands it the first packet of each connection of a pod, and it decides by the NetworkPolicies whether that
    passes. It asks the kernel for these packets by nftables' statement `queue`, which not every kernel was built with
    (CONFIG_NFT_QUEUE). So the same is asked for by iptables here. Where both do it, a packet is looked at twice.

    Args:
        cluster: The cluster.
        namespace: Namespace of the account with which the programs read the API.
        folder: Where their files and logs are.
    """
    program = programs.ensure(("network-policies",)) / "kube-network-policies"
    with having_only(cluster, namespace, folder, WATCHED) as reader, ExitStack() as stack:
        config = yaml.safe_load(Path(reader.environment["KUBECONFIG"]).read_text())
        (folder / "token").touch(mode=0o600)
        (folder / "token").write_text(config["users"][0]["user"]["token"])
        server: dict[str, str] = config["clusters"][0]["cluster"]
        (folder / "ca.crt").write_bytes(base64.b64decode(server["certificate-authority-data"]))
        address, _, port = server["server"].removeprefix("https://").rpartition(":")
        environment = {**cluster.environment, "KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": port}
        for node in cluster.nodes:
            leader = nodes.leader(node).pid
            options = [f"--hostname-override={node}", f"--nfqueue-id={QUEUE}", "--fail-open"]
            command = [
                *("nsenter", f"--net=/proc/{leader}/ns/net", "unshare", "--mount", "--propagation=private"),
                *("sh", "-ec", IN_A_POD, "sh", str(folder), str(program), *options),
            ]
            log = stack.enter_context((folder / f"{node}.log").open("w"))
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            stack.callback(_end, process)
            queues = Path(f"/proc/{leader}/net/netfilter/nfnetlink_queue")
            wait_until(
                lambda queues=queues: str(QUEUE) in [line.split()[0] for line in queues.read_text().splitlines()],
                f"the program on {node} gets packets; see {log.name}",
                timeout=60,
            )
            stack.callback(_iptables, node, UNDONE)
            _iptables(node, RULES)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program, which takes its own rules off the node."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    finally:
        process.kill()


def _iptables(node: str, rules: tuple[tuple[str, ...], ...]) -> None:
    for rule in rules:
        done = nodes.exec_in_node(node, ["iptables", "-w", "-t", "mangle", *rule])
        assert done.returncode == 0, (node, rule, done.stderr)


@contextmanager
def closed(cluster: Cluster, stack: Stack, *, remove: str = "") -> Iterator[None]:
    """A controller that forbids everything in the stack's namespace as soon as that exists, as Kyverno's rules do.

    Args:
        cluster: The cluster.
        stack: The stack.
        remove: Name of a NetworkPolicy there that it removes whenever it sees it; empty for none.
    """
    label = f"private-registry/stack={stack.name}"

    def control() -> None:
        for namespace in cluster.get("namespaces", "-l", label)["items"]:
            name: str = namespace["metadata"]["name"]
            # Both commands fail in a namespace that is going away.
            ask = ("kubectl", "-n", name)
            cluster.run(*ask, "apply", "-f", "-", text=json.dumps(NOTHING), check=False)
            if remove:
                cluster.run(*ask, "delete", "networkpolicy", remove, "--ignore-not-found", check=False)

    with again_and_again(control, seconds=0.3):
        yield


NOTHING: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "deny-all"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}
"""The policy that lets no pod of its namespace reach anybody, nor be reached."""


def reaches(node: str, address: str, port: int) -> bool:
    """Whether a TCP connection from a node to an address comes about within three seconds."""
    command = ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
    return nodes.exec_in_node(node, command).returncode == 0
