"""The nodes: systemd-nspawn machines that boot a real systemd, each with its own generation of containerd.

A node's file system is an overlay on a root file system that all nodes share. What containerd and the kubelet write
lies in plain folders, since an overlay can't be stacked on another one.
"""

import contextlib
import ipaddress
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import building, cgroups, control_plane, host_machine, machine, network, processes
from .errors import ClusterError
from .paths import BIN, CLUSTER, NODE_DATA, NODES, PKI
from .processes import Process

FILES = Path(__file__).parent / "node_files"
"""Files that are put on each node: `common` on all, `built` on those with a containerd of ours."""

POWER_OFF_SECONDS = 20.0
BLOBS = 2000
"""How many blobs a node's store may have of earlier clusters; the preloaded images are some dozens."""

CAP_SYS_RESOURCE = 24

Config = Literal["generated", "stock", "config-path"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one node is made of."""

    index: int
    """A number from 1 to 99 that no other node has. The addresses of the node and of its pods follow from it."""
    suite: Literal["bookworm", "trixie"]
    """Its Debian release. `bookworm` brings containerd 1.6, `trixie` brings 1.7."""
    containerd: str = "debian"
    """Which containerd it runs: `debian` is that of its release, `built` is the newest one. Else this is the group in
    `programs.py` that holds it."""
    config: Config
    """How containerd is configured: `generated` is what `containerd config default` prints, `stock` is no file (or one
    with the single setting that some machines need), `config-path` is Debian's file with a `config_path` added."""

    @property
    def address(self) -> str:
        """IPv4 address on the bridge."""
        return str(network.SUBNET[10 + self.index])

    @property
    def pods(self) -> str:
        """IPv4 subnet of its pods."""
        return str(list(ipaddress.ip_network(network.PODS).subnets(new_prefix=24))[self.index])


TABLE = {
    "node-a": Node(index=1, suite="bookworm", config="generated"),
    "node-b": Node(index=2, suite="bookworm", containerd="built", config="stock"),
    "node-c": Node(index=3, suite="trixie", config="config-path"),
    "node-d": Node(index=4, suite="bookworm", containerd="built", config="stock"),
    "node-e": Node(index=5, suite="bookworm", containerd="containerd-2.0", config="stock"),
    "node-f": Node(index=6, suite="bookworm", containerd="containerd-2.1", config="stock"),
    "node-g": Node(index=7, suite="bookworm", containerd="containerd-2.2", config="stock"),
    "node-h": Node(index=8, suite="bookworm", containerd="containerd-2.3", config="stock"),
    "node-i": Node(index=9, suite="bookworm", containerd="containerd-1.6", config="generated"),
    "node-j": Node(index=10, suite="trixie", containerd="containerd-1.7", config="generated"),
}
"""Every node that can be in the cluster."""

DEFAULT = ("node-a", "node-b", "node-c")
"""The nodes that a cluster starts with. The others may join later."""

PROGRAMS = ("crictl", "kube-proxy", "kubelet")
PROGRAMS_OF_CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")
"""Programs in /usr/local/bin of every node, and those that a node has besides if its containerd was built by us."""

_CONFIG_PATH_TABLE = """\
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
"""


def known(name: str) -> Node:
    """Return the node of this name.

    Raises:
        ClusterError: The table has none.
    """
    if name not in TABLE:
        raise ClusterError(f"there is no node {name!r}: nodes.py has {', '.join(TABLE)}; a new one is one line there")
    return TABLE[name]


def running() -> list[str]:
    """Return the names of the nodes whose machine runs."""
    return [name for name, process in processes.recorded().items() if name in TABLE and process.alive()]


def start(name: str, *, rootfs: Path, containerd: Path | None, images: Sequence[Path]) -> None:
    """Make a node that isn't there and boot it; it joins the cluster by itself.

    Args:
        name: One of `TABLE`.
        rootfs: Root file system of its Debian release.
        containerd: Folder with the containerd that it gets; None for that of its release.
        images: Image archives that it imports before its kubelet starts.
    """
    node = known(name)
    folder = NODES / name
    for part in ("upper", "work", "tree", "kubelet"):
        (folder / part).mkdir(parents=True)
    store = NODE_DATA / name / "containerd"
    if has_grown(store, images):
        shutil.rmtree(store)
    store.mkdir(parents=True, exist_ok=True)
    _mount(folder, rootfs)
    _write_files(name, node, folder / "tree", containerd)
    (folder / "nspawn.json").write_text(json.dumps(_nspawn(name, containerd, images)))
    network.route_pods(node.pods, node.address)
    _boot(name)


def stop(names: Iterable[str]) -> None:
    """Power nodes off; what does not stop in time is killed. Their files stay, so that they can be booted again."""
    stopping = list(names)
    processes.stop(stopping, seconds=POWER_OFF_SECONDS)
    for name in stopping:
        cgroups.kill(name)
        # A real machine's groups are gone after a reboot. The kubelet would wait for the containers in old groups.
        cgroups.remove(name)


def remove(name: str) -> None:
    """Remove all that a stopped node has on this machine, but for containerd's store."""
    cgroups.kill(name)
    cgroups.remove(name)
    tree = NODES / name / "tree"
    if tree in host_machine.mounts():
        _forget_nspawn(name, tree)
    while tree in host_machine.mounts():
        done = subprocess.run(["umount", tree], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"the file system of {name} can't be unmounted: {done.stderr.strip()}")
    building.remove(NODES / name)


def restart_node(name: str, *, seconds: float = 60) -> None:
    """Power a node off, boot it again with its files, and wait until its kubelet has reported the new boot as Ready.

    Raises:
        ClusterError: It doesn't come back in time.
    """
    known(name)
    stop([name])
    _boot(name)
    boot = ""
    path = '--output=jsonpath={.status.nodeInfo.bootID} {.status.conditions[?(@.type=="Ready")].status}'
    deadline = time.monotonic() + seconds
    while control_plane.kubectl("get", "node", name, path) != f"{boot} True":
        if time.monotonic() > deadline:
            raise ClusterError(f"the kubelet of {name} was not Ready within {seconds:.0f} s of its boot")
        time.sleep(0.2)
        with contextlib.suppress(FileNotFoundError):  # systemd-nspawn puts a file of the node's own in its place
            boot = (node_root(name) / "proc" / "sys" / "kernel" / "random" / "boot_id").read_text().strip()


def exec_in_node(name: str, argv: Sequence[str], *, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program on a node, as root, in the node's file system and namespaces.

    Args:
        name: A running node.
        argv: Program and arguments.
        stdin: Text for its standard input; none by default.

    Returns:
        Exit code and output, as text. 127 when the node has no such program.

    Raises:
        ClusterError: The node does not run.
    """
    command = machine.enter(leader(name).pid, *argv)
    environment = {"PATH": machine.PATH, "LANG": "C.UTF-8", "HOME": "/root"}
    return subprocess.run(command, input=stdin or "", env=environment, capture_output=True, text=True, check=False)


def node_root(name: str) -> Path:
    """Return the root of a running node's file system, with all that is mounted in it, as a path on this machine."""
    return Path(f"/proc/{leader(name).pid}/root")


def leader(name: str, *, seconds: float = 15) -> Process:
    """Return the node's systemd: the process that is number 1 in the node.

    Raises:
        ClusterError: The node does not run, or has no systemd after `seconds`.
    """
    known(name)
    deadline = time.monotonic() + seconds
    while True:
        nspawn = processes.recorded().get(name)
        if nspawn is None or not nspawn.alive():
            raise ClusterError(f"{name} does not run; the last lines of its console:\n{processes.log_tail(name)}")
        pid = machine.init_process(name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                return processes.of(pid)
        if time.monotonic() > deadline:
            raise ClusterError(f"{name} has no systemd after {seconds:.0f} s; its console:\n{processes.log_tail(name)}")
        time.sleep(0.05)


def leftovers() -> list[str]:
    """Return mounts and control groups of nodes that are still there."""
    return [
        *(f"mount {path}" for path in host_machine.mounts() if path.is_relative_to(CLUSTER)),
        *(f"cgroup {name}" for name in cgroups.nodes()),
    ]


def containerd_config(config: Config, *, debian: str, generated: str, restricted: bool) -> str | None:
    """Return the text of /etc/containerd/config.toml, or None for no such file.

    Args:
        config: Kind of configuration.
        debian: The text in Debian's package.
        generated: What the node's `containerd config default` prints.
        restricted: The machine lacks CAP_SYS_RESOURCE. No container could be started then without a setting that keeps
            containerd from making one less likely to be killed when memory is short.
    """
    match config:
        case "generated":
            setting = "restrict_oom_score_adj = "
            return generated.replace(f"{setting}false", f"{setting}true") if restricted else generated
        case "stock":
            table = 'version = 3\n\n[plugins."io.containerd.cri.v1.runtime"]\n  restrict_oom_score_adj = true\n'
            return table if restricted else None
        case "config-path":
            table = '[plugins."io.containerd.grpc.v1.cri"]\n'
            wanted = f"{table}    restrict_oom_score_adj = true\n" if restricted else table
            return f"{debian.replace(table, wanted)}\n{_CONFIG_PATH_TABLE}"


def _forget_nspawn(name: str, tree: Path) -> None:
    """Remove what systemd-nspawn leaves in /run: its lock if it was killed, and a folder if /run is on a disk."""
    state, identity = Path("/run/systemd/nspawn"), tree.stat()
    (state / "locks" / f"inode-{identity.st_dev}:{identity.st_ino}").unlink(missing_ok=True)
    building.remove(state / "propagate" / name)


def has_grown(store: Path, images: Sequence[Path]) -> bool:
    """Tell whether earlier clusters left much more in containerd's store than the preloaded images.

    Many small images are much, too: containerd reads each of them when it starts, and 9,000 took it over two minutes.
    """
    folder = store / "io.containerd.content.v1.content" / "blobs" / "sha256"
    blobs = [blob.stat().st_size for blob in folder.iterdir()] if folder.exists() else []
    return len(blobs) > BLOBS or sum(blobs) > 1_000_000_000 + 2 * sum(image.stat().st_size for image in images)


def _mount(folder: Path, rootfs: Path) -> None:
    options = f"lowerdir={rootfs},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    command = ["mount", "-t", "overlay", "-o", options, "overlay", folder / "tree"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"the file system of {folder.name} can't be mounted: {done.stderr.strip()}")


def _write_files(name: str, node: Node, tree: Path, containerd: Path | None) -> None:
    for part in ("common",) if containerd is None else ("common", "built"):
        shutil.copytree(FILES / part, tree, dirs_exist_ok=True)
    units = tree / "etc" / "systemd" / "system"
    for unit in machine.MASKED_UNITS:
        (units / unit).symlink_to("/dev/null")
    wanted = units / "multi-user.target.wants"
    wanted.mkdir(exist_ok=True)
    for unit in ("containerd", "kube-proxy", "kubelet", "node-images", "node-setup"):
        link = wanted / f"{unit}.service"
        link.unlink(missing_ok=True)
        path = f"etc/systemd/system/{unit}.service"
        link.symlink_to(f"/{path}" if (tree / path).exists() else f"/lib/systemd/system/{unit}.service")
    etc = tree / "etc"
    (etc / "hostname").write_text(f"{name}\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost\n{node.address} {name}\n")
    (etc / "resolv.conf").write_text(f"nameserver {network.CONTROL_PLANE}\n")
    # Without an id systemd takes the boot for the first one of a new machine, and enables every unit.
    (etc / "machine-id").unlink(missing_ok=True)
    (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    (etc / "default").mkdir(exist_ok=True)
    settings = {
        "NODE_NAME": name,
        "NODE_IP": node.address,
        "NODE_ADDRESS": f"{node.address}/{network.SUBNET.prefixlen}",
        "NODE_GATEWAY": network.CONTROL_PLANE,
        "POD_NETWORK": network.PODS,
    }
    (etc / "default" / "node").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    _write_kubernetes_files(name, node, tree)
    _write_containerd_config(node.config, tree, containerd)


def _write_kubernetes_files(name: str, node: Node, tree: Path) -> None:
    kubernetes = tree / "etc" / "kubernetes"
    (kubernetes / "pki").mkdir()
    shutil.copy(PKI / "ca.crt", kubernetes / "pki")
    shutil.copy(CLUSTER / "kube-proxy.kubeconfig", kubernetes / "kube-proxy.conf")
    control_plane.write_kubeconfig(kubernetes / "kubelet.conf", user=f"system:node:{name}", group="system:nodes")
    plugins = [
        {
            # Not `bridge`: pods of one node then reach each other as routed packets, which Services need.
            "type": "ptp",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": node.pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    conflist = {"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}
    (tree / "etc" / "cni" / "net.d").mkdir(parents=True)
    (tree / "etc" / "cni" / "net.d" / "10-pods.conflist").write_text(json.dumps(conflist, indent=2))
    (tree / "opt" / "cni").mkdir(parents=True)
    (tree / "opt" / "cni" / "bin").symlink_to("/usr/lib/cni")


def _write_containerd_config(config: Config, tree: Path, containerd: Path | None) -> None:
    path = tree / "etc" / "containerd" / "config.toml"
    program = ["chroot", tree, "containerd"] if containerd is None else [containerd / "containerd"]
    generated = subprocess.run([*program, "config", "default"], capture_output=True, text=True, check=True)
    text = containerd_config(
        config,
        debian=path.read_text(),
        generated=generated.stdout,
        restricted=not host_machine.has_capability(CAP_SYS_RESOURCE),
    )
    path.unlink()
    if text is not None:
        path.write_text(text)


def _nspawn(name: str, containerd: Path | None, images: Sequence[Path]) -> list[str]:
    """Return the command that boots a node: the options of systemd-nspawn(1) that a kubelet needs."""
    provided = [BIN / program for program in PROGRAMS]
    if containerd is not None:
        provided += [containerd / program for program in PROGRAMS_OF_CONTAINERD]
    return machine.nspawn(
        name,
        NODES / name / "tree",
        f"--network-bridge={network.BRIDGE}",
        "--bind=/dev/kmsg",
        f"--bind={NODES / name / 'kubelet'}:/var/lib/kubelet",
        f"--bind={NODE_DATA / name / 'containerd'}:/var/lib/containerd",
        *(f"--bind-ro={program.resolve()}:/usr/local/bin/{program.name}" for program in provided),
        *(f"--bind-ro={image}:/usr/local/share/images/{image.name}" for image in images),
    )


def _boot(name: str) -> None:
    command = json.loads((NODES / name / "nspawn.json").read_text())
    inside = machine.in_control_groups(name, *network.inside(*command))
    processes.start(name, inside, env=os.environ | machine.ENVIRONMENT)
