"""Who asks the registry: what of a machine decides whether its pulls reach the host."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import discover
from .certificates import public_roots
from .node import Node, Runtime, option
from .proxies import Proxy, proxy_for


@dataclass(frozen=True)
class Client:
    """The program that asks, such as a node's container runtime."""

    place: str
    """How sentences call the machine on which it runs, such as `node worker-1`."""
    program: str = ""
    """What sentences call the program; empty for whatever runs there."""
    root: Path | None = None
    """The root of the file system that it sees; None: that of this process."""
    public: str = ""
    """The CAs that count if there is no other: PEM. Empty for those of this process's own system."""
    proxy: Proxy | None = None
    """The proxy through which it asks for the host; None: there is none."""


def runtime_client(node: Node, runtime: Runtime | None, node_name: str, host: str, ca: str) -> Client:
    """The node's container runtime as a client of the host; None: it was not found yet, and the node itself counts."""
    tree = node.view(runtime.process[0]) if runtime else node.tree
    return Client(
        place=f"node {node_name}",
        program=runtime.name if runtime else "",
        root=tree.top,
        public="" if ca.strip() else public_roots(tree),
        proxy=proxy_for(host, _environment(node, runtime)) if runtime else None,
    )


def _environment(node: Node, runtime: Runtime) -> Mapping[str, str]:
    """The environment of the process that pulls, as it was started. Docker's configuration may overrule it."""
    pid = runtime.process[0]
    if runtime.name != "docker":
        return _environment_of(node, pid)
    endpoint = option(runtime.arguments, "docker-endpoint") or "unix:///var/run/docker.sock"
    path = endpoint.removeprefix("unix://")
    with contextlib.suppress(OSError), node.tree.opened(path) as socket:
        pid = discover.server_of(node, path, socket) or pid
    arguments = node.arguments(pid)
    there = _proxies(node.view(pid).read(option(arguments, "config-file") or "/etc/docker/daemon.json"))
    environment = dict(_environment_of(node, pid))
    for name in ("https-proxy", "no-proxy"):
        value = option(arguments, name) or str(there.get(name) or "")
        if value:
            environment[name.upper().replace("-", "_")] = value
    return environment


def _proxies(daemon_json: bytes | None) -> Mapping[str, Any]:
    """What Docker's configuration file says of proxies."""
    with contextlib.suppress(ValueError, AttributeError):
        return json.loads(daemon_json or b"{}").get("proxies") or {}
    return {}


def _environment_of(node: Node, pid: int) -> Mapping[str, str]:
    pairs = (entry.partition("=") for entry in reversed(node.text(pid, "environ").split("\0")))
    return {name: value for name, _, value in pairs}  # of two with one name the first counts, as in Go
