"""Docker and the library of CRI-O on the machine, which have no CRI of their own here.

cri-dockerd and CRI-O are not in Debian. So Docker pulls by `docker pull`, and for CRI-O its library (containers/image)
pulls, in podman as root. Of the agent only the answer of the CRI call Version is given to it; it finds the process by
its socket, and writes what it writes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..harness import ROOT
from .machine import HOST, HOST_WITH_PORT, IMAGE, Machine
from .steps import KUBELET, Runtime, clean

_OTHER_CA = (ROOT / "tests" / "unit" / "trust" / "agent" / "fixtures" / "other-ca.crt").read_text()
_USER, _CONTAINERS, _DOCKER = (
    f"{root}/certs.d/{HOST}" for root in ("/root/.config/containers", "/etc/containers", "/etc/docker")
)
_PODMAN = """\
[Service]
ExecStart=/usr/bin/podman system service --time=0 unix://{socket}
"""


@dataclass(frozen=True, kw_only=True)
class Other:
    """Docker or podman on one state of its folders."""

    runtime: str
    """As CRI calls it."""
    configuration: str
    files: Mapping[str, str]
    """Texts of files by path."""
    folders: tuple[str, ...]
    """Empty folders."""
    host: str

    @property
    def version(self) -> str:
        """That of the program that pulls."""
        return {"docker": "26.1.5", "cri-o": "(podman 5.4.2)"}[self.runtime]


def _other(
    runtime: str, configuration: str, *, empty: str = "", taken: str = "", host: str = HOST, **daemon: object
) -> Other:
    """`empty` and `taken` are folders for the host: without anything, and with the CA of another registry."""
    files = {f"{taken}/ca.crt": _OTHER_CA} if taken else {}
    if runtime == "docker":
        files["/etc/docker/daemon.json"] = json.dumps({"bridge": "none", "iptables": False, **daemon})
    else:
        files["/etc/containers/policy.json"] = json.dumps({"default": [{"type": "insecureAcceptAnything"}]})
    folders = (empty,) if empty else ()
    return Other(runtime=runtime, configuration=configuration, files=files, folders=folders, host=host)


OTHERS = (
    _other("docker", "no folder"),
    _other("docker", "host with port", host=HOST_WITH_PORT),
    _other("docker", "folder with another CA", taken=_DOCKER),
    _other("docker", "containerd image store", features={"containerd-snapshotter": True}),
    _other("cri-o", "no folder"),
    _other("cri-o", "host with port", host=HOST_WITH_PORT),
    _other("cri-o", "folder with another CA in /etc/docker", taken=_DOCKER),
    _other("cri-o", "empty folder in /etc/containers, full one in /etc/docker", empty=_CONTAINERS, taken=_DOCKER),
    _other("cri-o", "empty folder in /root/.config/containers, full one in /etc", empty=_USER, taken=_CONTAINERS),
)


def start(machine: Machine, other: Other) -> Runtime:
    """Start it; it does not trust the registry."""
    clean(machine)
    for folder in other.folders:
        (machine.root / folder[1:]).mkdir(parents=True)
    for path, text in other.files.items():
        machine.write(path, text)
    if other.runtime == "docker":
        unit, socket, client = "docker.service", "/run/docker.sock", ("docker",)
        machine.run("systemctl", "start", "docker.socket", unit)
    else:
        unit, socket = "podman.service", "/run/crio/crio.sock"
        client = ("podman", "--url", f"unix://{socket}")
        (machine.root / "run/crio").mkdir(exist_ok=True)
        machine.unit(unit, _PODMAN.format(socket=socket))
    machine.unit("kubelet.service", KUBELET.format(socket=socket))
    image = f"{other.host}/{IMAGE}"

    def pull() -> str:
        machine.run(*client, "rmi", image, check=False)
        done = machine.run(*client, "pull", image, check=False)
        return done.stderr if done.returncode else ""

    version = f"from agent import cri; cri.version = lambda _path: {(other.runtime, other.version)}"
    return Runtime(machine, other.host, unit, pull, before_agent=version)
