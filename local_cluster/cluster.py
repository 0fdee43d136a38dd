"""Starts the whole cluster, lets nodes join and leave, looks at it, and removes it without a trace.

A cluster that was made from the same files is kept, with the state of its stacks, and what has ended of it is started
again with the files that it had. One that was made from other files, that was not finished, or whose network went with
a restart of the machine is removed, and a new one is started, which takes half a minute.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from . import (
    addons,
    building,
    cgroups,
    control_plane,
    host_machine,
    images,
    network,
    nodes,
    processes,
    programs,
    rootfs,
    shell,
)
from .errors import ClusterError
from .paths import BIN, CLUSTER, LOCAL, LOGS, NODES

READY_SECONDS = 120.0
"""Seconds that nodes and add-ons may take to be ready on a slow machine. On two processors they take 15."""

ANSWER_SECONDS = 30.0
"""Seconds that the API server of a running cluster may take to answer, on a machine that is busy otherwise."""

_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns")
_KEY = CLUSTER / "key"
_KEY_FILES = (
    "addons.py",
    "cgroups.py",
    "control_plane.py",
    "host_machine.py",
    "machine.py",
    "network.py",
    "nodes.py",
    "rootfs.py",
    "manifests/**/*",
    "node_files/**/*",
)
"""Files that decide how a cluster is made. Those of programs and images are not here: their names change with their
content, and the names are part of the key."""


def up(names: Sequence[str] = nodes.DEFAULT) -> None:
    """Start the cluster, or what the running one lacks; return when all of it is ready.

    Raises:
        ClusterError: This machine can't run it, or a part was not ready in time.
        BuildError: Something it is made of can't be built.
    """
    for name in names:
        nodes.known(name)
    host_machine.check()
    built, archives, etcd = programs.ensure(), images.ensure(), host_machine.etcd()
    trees = {nodes.TABLE[name].suite: rootfs.ensure(nodes.TABLE[name].suite) for name in names}
    key = _key(built, etcd, archives)
    with _lock():
        current = _KEY.exists() and _KEY.read_text() == key
        if current and network.exists():
            _start_again(etcd)
        else:
            if _KEY.exists() and network.exists():
                building.announce("the running cluster was made from other files than these: it goes, with its stacks")
            _remove()
            _start(names, built=built, archives=archives, etcd=etcd, trees=trees)
            _KEY.write_text(key)
        programs.install_plugins(shell.PULUMI_HOME)
        for name in names:
            if name not in nodes.running():
                _join(name, trees[nodes.TABLE[name].suite], archives)
        control_plane.wait_dns()
        _wait_nodes(nodes.running())
        addons.wait(seconds=READY_SECONDS)


def add(*names: str) -> None:
    """Let more nodes join the running cluster; return when they are Ready.

    Raises:
        ClusterError: No cluster runs, or a node was not ready in time.
    """
    suites = {name: nodes.known(name).suite for name in names}
    require()
    trees, archives = {name: rootfs.ensure(suite) for name, suite in suites.items()}, images.ensure()
    with _lock():
        require()
        for name, tree in trees.items():
            if name not in nodes.running():
                _join(name, tree, archives)
        _wait_nodes(names)


def remove(*names: str) -> None:
    """Remove nodes from the running cluster: their objects, their machines and their files.

    Raises:
        ClusterError: No cluster runs.
    """
    for name in names:
        nodes.known(name)
    with _lock():
        require()
        nodes.stop(names)
        for name in names:
            nodes.remove(name)
        control_plane.kubectl("delete", "node", *names, "--ignore-not-found")
        network.route_services(nodes.TABLE[other].address for other in nodes.running())


def down() -> None:
    """Power the nodes off, end the control plane, and remove whatever the cluster made on this machine.

    Raises:
        ClusterError: Something is left; the message lists it.
    """
    if os.geteuid() != 0:
        raise ClusterError(f"the local cluster must be removed by root, this is user {os.geteuid()}: use sudo")
    with _lock():
        _remove()


def require() -> None:
    """Check that the cluster runs.

    Raises:
        ClusterError: The cluster does not run, or a part of it does not, or its API server does not answer.
    """
    if not (_KEY.exists() and network.exists()):
        raise ClusterError("the local cluster does not run: start it with `make cluster`")
    ended = _ended()
    if ended:
        raise ClusterError(f"{', '.join(ended)} of the local cluster ended: `make cluster` starts that again")
    control_plane.wait_ready(seconds=ANSWER_SECONDS)


def status() -> list[str]:
    """Return one line per component and node: whether it runs, and whether it is ready."""
    records = processes.recorded()
    joined = {name: process for name, process in records.items() if name in nodes.TABLE}
    lines: list[str] = []
    states = _node_states() if _alive("kube-apiserver") and control_plane.ready() else {}
    for name in (*_CONTROL_PLANE, *joined):
        running = name in records and records[name].alive()
        state = f"running  process {records[name].pid}" if running else "stopped"
        if name in joined and running:
            state += f"  {states.get(name, 'not registered')}  {nodes.TABLE[name].address}"
        lines.append(f"{name:<24} {state}")
    return lines


def dump(folder: Path) -> None:
    """Write all that explains a failure to a folder: objects, events, logs of pods, components and nodes.

    It takes what it can get: a part that does not answer leaves its error there instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if LOGS.exists():
        shutil.copytree(LOGS, folder / "logs", dirs_exist_ok=True)
    kinds = "all,ingress,ingressclass,pvc,pv,storageclass,configmap"
    queries = {
        "nodes.txt": ("get", "nodes", "--output=wide"),
        "objects.txt": ("get", kinds, "--all-namespaces", "--output=wide"),
        "events.txt": ("get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"),
        "pods.txt": ("describe", "pods", "--all-namespaces"),
        "nodes-described.txt": ("describe", "nodes"),
        "api.txt": ("cluster-info", "dump", "--all-namespaces", f"--output-directory={folder / 'api'}"),
    }
    for name, query in queries.items():
        _capture(folder / name, control_plane.kubectl_command("--request-timeout=20s", *query))
    for name in processes.recorded():
        journal = NODES / name / "tree" / "var" / "log" / "journal"
        if journal.exists():
            _capture(folder / f"{name}.journal.txt", ["journalctl", "--no-pager", f"--directory={journal}"])


def _start(names: Iterable[str], *, built: Path, archives: Sequence[Path], etcd: Path, trees: dict[str, Path]) -> None:
    building.announce(f"starting the cluster: {', '.join(names)}")
    CLUSTER.mkdir(parents=True, mode=0o700)
    BIN.symlink_to(built)
    host_machine.set_kernel_settings()
    network.create()
    control_plane.make_pki()
    control_plane.start(etcd, "etcd", "kube-apiserver")
    for name in names:
        _join(name, trees[nodes.TABLE[name].suite], archives)
    control_plane.wait_ready()
    control_plane.start(etcd, "kube-controller-manager", "kube-scheduler")
    addons.apply()
    control_plane.start(etcd, "coredns")  # It starts after the manifests, because they give it its rights.
    shell.write()


def _start_again(etcd: Path) -> None:
    """Start what has ended of the control plane and of the nodes; return when the API server answers.

    Raises:
        ClusterError: It does not answer in time, or a node is not Ready in time. Nothing is removed for that, since the
            state of the stacks would go with it.
    """
    ended = _ended()
    if ended:
        building.announce(f"starting again what has ended: {', '.join(ended)}")
    first = ("etcd", "kube-apiserver")  # the others end where there is no API server
    control_plane.start(etcd, *(name for name in first if name in ended))
    try:
        control_plane.wait_ready()
    except ClusterError as error:
        raise ClusterError(
            f"{error}\nThe cluster is left as it is, with its stacks: run this again when the machine is less busy, or "
            "give both up with `make cluster-down`"
        ) from None
    control_plane.start(etcd, *(name for name in _CONTROL_PLANE if name in ended and name not in first))
    for name in ended:
        if name in nodes.TABLE:
            nodes.restart_node(name)


def _join(name: str, tree: Path, archives: Sequence[Path]) -> None:
    _clean_node(name)
    nodes.start(name, rootfs=tree, containerd=_containerd(nodes.TABLE[name]), images=archives)
    network.route_services(nodes.TABLE[other].address for other in nodes.running())


def _containerd(node: nodes.Node) -> Path | None:
    """Return the folder with a node's containerd, built first if need be; None if it is that of its Debian release."""
    match node.containerd:
        case "debian":
            return None
        case "built":
            return BIN
        case group:
            return programs.ensure((group,)) / group


def _clean_node(name: str) -> None:
    """Remove what is left of a node that has ended by itself."""
    processes.forget(name)
    nodes.remove(name)


def _remove() -> None:
    if not (CLUSTER.exists() or network.leftovers() or nodes.leftovers()):
        return
    building.announce("removing the cluster")
    _KEY.unlink(missing_ok=True)  # what an interruption leaves is not taken for a cluster
    records = processes.recorded()
    every = set(records).intersection(nodes.TABLE) | cgroups.nodes()
    processes.stop(set(records).intersection(nodes.TABLE), seconds=nodes.POWER_OFF_SECONDS)
    for name in reversed(_CONTROL_PLANE):  # etcd last, since the API server does not end without it
        processes.stop([name], seconds=5)
    for name in every:
        nodes.remove(name)
    network.delete()
    host_machine.restore_kernel_settings()
    left = network.leftovers() + nodes.leftovers()
    if left:
        raise ClusterError(f"the cluster is not wholly removed, there is still: {'; '.join(left)}")
    building.remove(CLUSTER)


def _ended() -> list[str]:
    """Return the parts of the control plane and the nodes that were started and do not run."""
    records = processes.recorded()
    names = dict.fromkeys((*_CONTROL_PLANE, *(name for name in records if name in nodes.TABLE)))
    return [name for name in names if name not in records or not records[name].alive()]


def _alive(name: str) -> bool:
    record = processes.recorded().get(name)
    return record is not None and record.alive()


def _wait_nodes(names: Sequence[str]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        states = _node_states()
        waiting = [name for name in names if not states.get(name, "").startswith("Ready")]
        if not waiting:
            return
        if time.monotonic() > deadline:
            name = waiting[0]
            journal = nodes.exec_in_node(name, ["journalctl", "--no-pager", "--lines=20", "--priority=warning"]).stdout
            state = states.get(name, "not registered")
            raise ClusterError(f"{name} is {state} after {READY_SECONDS:.0f} s; its journal ends with:\n{journal}")
        time.sleep(0.3)


def _node_states() -> dict[str, str]:
    """Return state and container runtime of each node that the API server knows."""
    found: dict[str, str] = {}
    for node in json.loads(control_plane.kubectl("get", "nodes", "--output=json"))["items"]:
        conditions = {condition["type"]: condition["status"] for condition in node["status"].get("conditions", [])}
        state = "Ready" if conditions.get("Ready") == "True" else "NotReady"
        found[node["metadata"]["name"]] = f"{state}  {node['status']['nodeInfo']['containerRuntimeVersion']}"
    return found


def _key(built: Path, etcd: Path, archives: Iterable[Path]) -> str:
    """Return the hash of all that a cluster is made of."""
    package = Path(__file__).parent
    files = sorted(path for pattern in _KEY_FILES for path in package.glob(pattern) if path.is_file())
    digest = hashlib.sha256("\n".join([str(built), str(etcd), *map(str, archives)]).encode())
    for path in files:
        digest.update(f"\0{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _capture(path: Path, command: Sequence[str]) -> None:
    with path.open("w") as output, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=60, check=False)


@contextlib.contextmanager
def _lock() -> Generator[None]:
    with building.lock(LOCAL / "cluster.lock"):
        yield
