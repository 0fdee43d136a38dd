"""The kinds of container runtime that the agent knows. A new kind is a class here and a line in `layout_of`."""

from collections.abc import Callable
from dataclasses import dataclass

from .containerd import Containerd
from .faults import Fault, Reason
from .files import Tree
from .node import Runtime
from .runtime_contract import Plan, RuntimeLayout

_CONTAINERS_ROOTS = ("/root/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
"""Where CRI-O looks, in this order (containers/image, docker_client.go)."""


def layout_of(
    runtime: Runtime, tree: Tree, node_name: str, original: Callable[[str, str | None], str | None]
) -> RuntimeLayout:
    """The layout of a running runtime.

    `tree` holds the files that it sees. `original(path, text)` says what a configuration file with this text would be
    without our own changes. Raises Fault RUNTIME_UNKNOWN for a runtime of another kind.
    """
    match runtime.name:
        case "containerd":
            return Containerd(runtime, tree, node_name, original)
        case "cri-o":
            return CriO(tree)
        case "docker":
            return Docker()
        case _:
            sentence = f"{runtime.name!r} serves {runtime.socket}; known are containerd, cri-o and docker."
            raise Fault(Reason.RUNTIME_UNKNOWN, sentence, runtime=f"{runtime.name} {runtime.version}")


class Docker:
    """Docker reads every .crt file in one folder for each host, at every pull."""

    def plan(self, host: str, ca_file: str) -> Plan:
        """Docker has a single hosts directory, and no setting for it."""
        return Plan(("/etc/docker/certs.d",))

    def host_folders(self, root: str, host: str) -> list[str]:
        """The folder has the host's name as it is in image references."""
        return [f"{root}/{host}"]

    def check_neighbours(self, file: str) -> None:
        """No file of others beside ours keeps Docker from using it."""


@dataclass(frozen=True)
class CriO:
    """CRI-O reads every .crt file in the first folder that exists for a host, at every pull."""

    tree: Tree

    def plan(self, host: str, ca_file: str) -> Plan:
        """A folder that is there already decides, even an empty one, since CRI-O looks at no other."""
        taken = (root for root in _CONTAINERS_ROOTS if self.tree.exists(f"{root}/{host}"))
        return Plan((next(taken, _CONTAINERS_ROOTS[1]),))

    def host_folders(self, root: str, host: str) -> list[str]:
        """The folder has the host's name as it is in image references."""
        return [f"{root}/{host}"]

    def check_neighbours(self, file: str) -> None:
        """No file of others beside ours keeps CRI-O from using it."""
