"""The network of the local cluster: a network namespace of its own, with a bridge and no way out.

Nodes, control plane and clients all live in it. An address that nothing answers fails there; it never wanders off the
machine. Clients run with a resolv.conf of their own: the cluster's DNS server, which answers nip.io like the real one.
"""

import ipaddress
import subprocess
from collections.abc import Iterable
from pathlib import Path

from . import host_machine
from .errors import ClusterError

NAMESPACE = "private-registry"
BRIDGE = "br-registry"
SUBNET = ipaddress.ip_network("10.99.0.0/24")
CONTROL_PLANE = "10.99.0.1"
"""Address of the API server and of the DNS server, on the bridge."""
LOAD_BALANCERS = "10.99.0.200-10.99.0.220"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"

_SCHEMES = ("http", "https", "all", "grpc")
PROXIES = (*(f"{scheme}_proxy" for scheme in _SCHEMES), *(f"{scheme.upper()}_PROXY" for scheme in _SCHEMES))
"""Variables that would lead a program to a proxy of the machine's network, which is not reached from this one."""

HANDLE = Path("/run/netns") / NAMESPACE
_FILES = Path("/etc/netns") / NAMESPACE
"""Folder with the files that `ip netns exec` mounts over those in /etc."""

_WITHOUT_PROXIES = ("env", *(f"--unset={name}" for name in PROXIES))


def create() -> None:
    """Make the namespace and the bridge."""
    _FILES.mkdir(parents=True)
    (_FILES / "resolv.conf").write_text(f"nameserver {CONTROL_PLANE}\n")
    # Without systemd-resolved and the like, which would answer from outside of the namespace.
    (_FILES / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    _ip("netns", "add", NAMESPACE)
    _ip("-netns", NAMESPACE, "link", "set", "lo", "up")
    _ip("-netns", NAMESPACE, "link", "add", BRIDGE, "type", "bridge")
    _ip("-netns", NAMESPACE, "address", "add", f"{CONTROL_PLANE}/{SUBNET.prefixlen}", "dev", BRIDGE)
    _ip("-netns", NAMESPACE, "link", "set", BRIDGE, "up")
    settings = {
        "ip_forward": 1,  # pods of two nodes talk through the bridge's address
        "conf/all/send_redirects": 0,  # the detour is intended, so nodes are not told of a shorter way
        f"conf/{BRIDGE}/send_redirects": 0,
        "fib_multipath_use_neigh": 1,  # see route_services
    }
    script = "; ".join(f"echo {value} > /proc/sys/net/ipv4/{name}" for name, value in settings.items())
    subprocess.run(inside("sh", "-e", "-c", script), check=True)


def route_pods(subnet: str, node: str) -> None:
    """Send packets for the pods of a node to its address."""
    _ip("-netns", NAMESPACE, "route", "replace", subnet, "via", node)


def route_services(nodes: Iterable[str]) -> None:
    """Send packets for Services to these addresses of nodes, where kube-proxy answers; a node that is down is left out.

    The API server needs it to call admission webhooks.
    """
    hops = [word for node in nodes for word in ("nexthop", "via", node)]
    if hops:
        _ip("-netns", NAMESPACE, "route", "replace", SERVICES, *hops)
    else:
        _ip("-netns", NAMESPACE, "route", "flush", SERVICES)


def inside(*command: str) -> list[str]:
    """Return the command that runs `command` in the namespace, with all of the machine's file systems."""
    return ["nsenter", f"--net={HANDLE}", "--", *_WITHOUT_PROXIES, *command]


def client(*command: str) -> list[str]:
    """Return the command that runs `command` as a client: in the namespace and with its DNS server."""
    return ["ip", "netns", "exec", NAMESPACE, *_WITHOUT_PROXIES, *command]


def exists() -> bool:
    """Tell whether the namespace exists."""
    return HANDLE in host_machine.mounts()


def delete() -> None:
    """Remove the namespace with all that is in it, as far as it exists."""
    if HANDLE.exists():
        _ip("netns", "delete", NAMESPACE)
    folder = HANDLE.parent
    if folder in host_machine.mounts() and not any(
        folder.iterdir()
    ):  # `ip netns add` mounts it, and nothing unmounts it
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()
    for path in _FILES.glob("*"):
        path.unlink()
    for path in (_FILES, _FILES.parent):
        if path.exists() and not any(path.iterdir()):
            path.rmdir()


def leftovers() -> list[str]:
    """Return what `delete` should have removed and did not."""
    return [str(path) for path in (HANDLE, _FILES) if path.exists()]


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
