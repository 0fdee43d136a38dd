"""What real clusters do to nodes: each fault ends in a stated state, and `destroy` leaves the nodes as they were.

What disturbs a node happens on one that joins for these tests. The doctor says when a node is proved again.
"""

import os
import random
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .conftest import deployed_stack
from .diagnosis import SIGNAL_AGENT, agent_on, diagnose, wait_diagnosis
from .harness import Cluster, Deployed, Stack, config_trees, is_ready, restarts, wait_until
from .local import cgroups, nodes
from .local import cluster as local_cluster
from .matrix.steps import STATE

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

NODE = "node-d"
SECOND_CONTAINERD = """\
version = 3
root = "/run/second/root"
state = "/run/second/state"
disabled_plugins = ["io.containerd.cri.v1.images"]

[grpc]
  address = "/run/second/containerd.sock"
"""


def settled(cluster: Cluster, node: str) -> bool:
    """Whether every stack that is there has a ready agent on a node; one that somebody works with may be."""
    label = ("--all-namespaces", "-l", "app.kubernetes.io/name=trust")
    pods = cluster.get("pods", f"--field-selector=spec.nodeName={node}", *label)["items"]
    return sum(map(is_ready, pods)) == len(cluster.get("daemonsets", *label)["items"])


def state(node: str) -> dict[str, str]:
    """The container runtimes' configuration on a node, and the names of all notes about what stacks have there."""
    notes = path_on(node, STATE).glob("*")
    return {**config_trees(node), **{str(note.relative_to(nodes.node_root(node))): "" for note in notes}}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """Paths that are not what they were."""
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


@pytest.fixture(scope="module")
def joined(cluster: Cluster) -> Iterator[str]:
    """A node that only these tests use: no registry may run, and have its volume, where nodes go down."""
    local_cluster.add(NODE)
    try:
        cluster.kubectl("taint", "--overwrite", "node", NODE, "example.com/faults=1:NoSchedule")
        wait_until(lambda: settled(cluster, NODE), f"the agents of other stacks are ready on {NODE}", timeout=120)
        yield NODE
    finally:
        local_cluster.remove(NODE)


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, joined: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack with its agent on all nodes. When it is destroyed, every node is as it was."""
    before = {node: state(node) for node in (*cluster.nodes, joined)}
    with deployed_stack(cluster, tmp_path_factory.mktemp("faults")) as deployed:
        wait_diagnosis(cluster, deployed.stack)
        yield replace(deployed, trees_before={**deployed.trees_before, joined: before[joined]})
    for node, expected in before.items():
        assert state(node) == expected, node


@pytest.fixture
def node(cluster: Cluster, deployed: Deployed, joined: str) -> Iterator[str]:
    """The node to disturb. Afterwards all is proved again, and its containerd was never restarted by an agent."""
    yield joined
    wait_diagnosis(cluster, deployed.stack, timeout=120)
    assert deployed.trusted(joined)
    assert set(cluster.nodes) <= set(cluster.ready_nodes())


def path_on(node: str, path: str) -> Path:
    return nodes.node_root(node) / path.lstrip("/")


def on(node: str, *command: str) -> str:
    """What a command that succeeds on a node prints."""
    done = nodes.exec_in_node(node, command)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def our_file(deployed: Deployed, node: str) -> Path:
    [file] = deployed.hosts_directory(node).glob("*.crt")
    return file


def replace_agent(deployed: Deployed, node: str) -> str:
    """Delete the agent's pod of a node, wait for the next one's container, and return its name."""
    old = agent_on(deployed, node)
    deployed.cluster.kubectl("delete", "pod", "-n", deployed.namespace, old, timeout=120)
    found = ""

    def runs() -> bool:
        nonlocal found
        for pod in deployed.agents():
            statuses = pod["status"].get("initContainerStatuses", [])
            if pod["spec"].get("nodeName") == node and any("running" in status["state"] for status in statuses):
                found = pod["metadata"]["name"]
        return found not in ("", old)

    wait_until(runs, f"the next agent runs on {node}", timeout=60)
    return found


def told(deployed: Deployed, node: str, reason: str, *, timeout: float = 60) -> None:
    """Wait until the doctor gives this reason for the node, and no fault of any other one."""
    text = ""

    def named() -> bool:
        nonlocal text
        text = diagnose(deployed.cluster, deployed.stack).text
        lines = {line.split()[0]: line for line in text.splitlines()[1:] if line}
        others = [line for name, line in lines.items() if name != node]
        return f"  {reason}  " in lines.get(node, "") and all(line.endswith("  proved") for line in others)

    try:
        wait_until(named, f"{node} is told to be {reason}", timeout=timeout, interval=1)
    except AssertionError as error:
        raise AssertionError(f"{error}; the doctor's last words:\n{text}") from None


# The agent and its files


def test_a_killed_agent_comes_back_and_the_node_stays_trusted(deployed: Deployed, node: str) -> None:
    pod = agent_on(deployed, node)
    file = our_file(deployed, node)
    before = file.stat().st_mtime_ns
    deployed.cluster.kubectl(
        "exec", "-n", deployed.namespace, pod, "-c", "agent", "--", "python3", "-c", SIGNAL_AGENT, "9"
    )

    def restarted() -> bool:
        [status] = deployed.cluster.get("pod", "-n", deployed.namespace, pod)["status"]["initContainerStatuses"]
        return status["restartCount"] == 1 and status.get("started", False)

    wait_until(restarted, "the agent was started again", timeout=30)
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nMIIB", "nonsense"])
def test_our_file_with_another_content_is_repaired(deployed: Deployed, node: str, content: str) -> None:
    our_file(deployed, node).write_text(content)
    wait_until(lambda: deployed.trusted(node), "our file is repaired", timeout=15)


def test_a_wiped_hosts_directory_is_filled_again(deployed: Deployed, node: str) -> None:
    on(node, "rm", "-rf", "/etc/containerd/certs.d", "/etc/containerd/certs.d:", "/etc/docker/certs.d")
    wait_until(lambda: deployed.trusted(node), "our file is back", timeout=15)


def test_a_foreign_hosts_toml_for_our_host_is_named_and_left_alone(deployed: Deployed, node: str) -> None:
    toml = deployed.hosts_directory(node) / "hosts.toml"
    toml.write_text(f'server = "https://{deployed.host}"\n')
    try:
        told(deployed, node, "FOREIGN_HOSTS_TOML")
        assert toml.read_text() == f'server = "https://{deployed.host}"\n'
    finally:
        toml.unlink()


def test_a_host_folder_that_links_out_of_the_tree_is_named_and_not_followed(deployed: Deployed, node: str) -> None:
    folder = deployed.hosts_directory(node)
    elsewhere = path_on(node, "/srv/elsewhere")
    elsewhere.mkdir()
    on(node, "rm", "-rf", f"/{folder.relative_to(nodes.node_root(node))}")
    on(node, "ln", "-sT", "/srv/elsewhere", f"/{folder.relative_to(nodes.node_root(node))}")
    try:
        told(deployed, node, "SYMLINK_LEAVES_TREE")
        assert not list(elsewhere.iterdir())
    finally:
        folder.unlink()
        elsewhere.rmdir()


def test_a_read_only_etc_is_named(deployed: Deployed, node: str) -> None:
    on(node, "rm", "-rf", "/etc/containerd/certs.d", "/etc/containerd/certs.d:")
    on(node, "mount", "--bind", "/etc", "/etc")
    on(node, "mount", "-o", "remount,bind,ro", "/etc")
    try:
        if deployed.trusted(node):  # the agent was faster
            on(node, "mount", "-o", "remount,bind,rw", "/etc")
            on(node, "rm", "-rf", "/etc/containerd/certs.d", "/etc/containerd/certs.d:")
            on(node, "mount", "-o", "remount,bind,ro", "/etc")
        told(deployed, node, "READ_ONLY")
    finally:
        on(node, "umount", "/etc")


def test_a_second_containerd_is_not_taken_for_the_kubelets(deployed: Deployed, node: str) -> None:
    path_on(node, "/run/second").mkdir()
    path_on(node, "/run/second/config.toml").write_text(SECOND_CONTAINERD)
    unit = "second-containerd"
    on(node, "systemd-run", f"--unit={unit}", "containerd", "--config", "/run/second/config.toml")
    try:
        wait_until(path_on(node, "/run/second/containerd.sock").exists, "a second containerd runs", timeout=30)
        replace_agent(deployed, node)
        wait_diagnosis(deployed.cluster, deployed.stack)
        assert deployed.trusted(node)
    finally:
        on(node, "systemctl", "stop", unit)
        on(node, "rm", "-rf", "/run/second")


# The registry


def test_a_registry_that_is_down_at_the_start_is_named_and_nothing_but_the_ca_is_written(
    deployed: Deployed, node: str
) -> None:
    cluster = deployed.cluster
    scale = ("scale", "deployment/registry", "-n", deployed.namespace)
    # On the first node the runtime's configuration would have to be changed, too, and the runtime restarted.
    changed = cluster.nodes[0]
    counts = {name: restarts(name) for name in (changed, node)}
    cluster.kubectl(*scale, "--replicas=0")
    try:
        for name in (changed, node):
            replace_agent(deployed, name)
        for name in (changed, node):
            wait_until(
                lambda name=name: "NO_REGISTRY" in cluster.kubectl(
                    "logs", "-n", deployed.namespace, agent_on(deployed, name), "-c", "agent"
                ),
                f"the agent on {name} says NO_REGISTRY",
                timeout=60,
            )  # fmt: skip
            ours = config_trees(name).keys() - deployed.trees_before[name].keys()
            assert {path for path in ours if path.endswith(".crt") and deployed.host in path}
            assert not {path for path in ours if path.endswith("toml")}
        before = deployed.trees_before[changed]["etc/containerd/config.toml"]
        assert config_trees(changed)["etc/containerd/config.toml"] == before
        assert {name: restarts(name) for name in counts} == counts
    finally:
        cluster.kubectl(*scale, "--replicas=1")


# Nodes


def test_a_taint_keeps_no_agent_away(deployed: Deployed, node: str) -> None:
    cluster = deployed.cluster
    for effect in ("NoSchedule", "NoExecute"):
        cluster.kubectl("taint", "node", node, f"example.com/test=1:{effect}")
        try:
            replace_agent(deployed, node)
            wait_diagnosis(cluster, deployed.stack)
        finally:
            cluster.kubectl("taint", "node", node, "example.com/test-")


def test_containerd_that_restarts_during_a_pull_pulls_again(
    deployed: Deployed, node: str, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "random").write_bytes(os.urandom(300_000_000))
    with tarfile.open(tmp_path / "layer.tar", "w") as layer:
        layer.add(tmp_path / "random", "random")
    image = f"{deployed.host}/test/interrupted:1"
    deployed.crane("push", app_image, image)
    deployed.crane("append", "--base", image, "--new_layer", tmp_path / "layer.tar", "--new_tag", image, timeout=300)
    deployed.start_pods(namespace, image, [node])

    def happened(reason: str) -> bool:
        events = deployed.cluster.get("events", "-n", namespace)["items"]
        return any(event["reason"] == reason for event in events)

    wait_until(lambda: happened("Pulling"), "the pull began", timeout=30, interval=0.1)
    on(node, "systemctl", "restart", "containerd")
    assert not happened("Pulled")
    deployed.wait_running(namespace, [node], timeout=120)
    wait_diagnosis(deployed.cluster, deployed.stack)


def test_a_kubelet_that_is_down_is_named_and_the_files_stay(deployed: Deployed, node: str) -> None:
    on(node, "systemctl", "stop", "kubelet")
    try:
        told(deployed, node, "NODE_NOT_READY", timeout=120)
        assert deployed.trusted(node)
    finally:
        on(node, "systemctl", "start", "kubelet")


def test_a_node_is_proved_again_after_a_reboot(deployed: Deployed, node: str) -> None:
    nodes.restart_node(node)
    wait_diagnosis(deployed.cluster, deployed.stack, timeout=120)
    assert restarts(node) == 1
    for event in deployed.cluster.get("events", "-n", deployed.namespace)["items"]:
        assert "x509" not in event["message"], "the proof was pulled before the agent was ready"


def test_a_node_whose_etc_containerd_is_empty_at_each_boot_is_proved_again(deployed: Deployed, node: str) -> None:
    on(node, "cp", "/etc/containerd/config.toml", "/opt/config.toml")
    fstab = path_on(node, "/etc/fstab")
    old = fstab.read_text() if fstab.exists() else None
    fstab.write_text(f"{old or ''}tmpfs /etc/containerd tmpfs defaults 0 0\n")
    rule = path_on(node, "/etc/tmpfiles.d/containerd-config.conf")
    rule.write_text("C /etc/containerd/config.toml 0644 root root - /opt/config.toml\n")
    try:
        nodes.restart_node(node)
        assert "tmpfs" in on(node, "findmnt", "--noheadings", "--output=FSTYPE", "/etc/containerd")
        wait_diagnosis(deployed.cluster, deployed.stack, timeout=120)
        assert deployed.trusted(node)
        assert restarts(node) == 1
    finally:
        fstab, rule = path_on(node, "/etc/fstab"), path_on(node, "/etc/tmpfiles.d/containerd-config.conf")
        if old is None:
            fstab.unlink()
        else:
            fstab.write_text(old)
        rule.unlink()
        nodes.restart_node(node)
        on(node, "rm", "/opt/config.toml")


# Before and after


def in_a_new_namespace(cluster: Cluster, namespace: str, kind: str, api: str, spec: Mapping[str, Any]) -> str:
    """What the cluster says of a new object in a namespace, which is made for the question."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        metadata = {"name": "any", "namespace": namespace}
        done = cluster.dry_run({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec})
        return done.stdout + done.stderr
    finally:
        cluster.kubectl("delete", "namespace", namespace, timeout=60)


def here(stack: Stack) -> str:
    """An expression that holds in the stack's namespace, and in others whose names begin so."""
    return f"request.namespace.startsWith('registry-{stack.name}')"


def test_a_policy_against_privileged_pods_is_an_error_at_once(cluster: Cluster) -> None:
    rule = (
        "!has(object.spec.initContainers) && object.spec.containers.all(c, !has(c.securityContext) || "
        "!has(c.securityContext.privileged) || !c.securityContext.privileged)"
    )
    spec = {"validations": [{"expression": rule, "message": "no privileged pods here"}]}
    deny = {"validationActions": ["Deny"]}
    pod = {"containers": [{"name": "app", "image": "busybox:1", "securityContext": {"privileged": True}}]}
    with Stack(environment=cluster.environment) as stack:
        name, other = f"no-privileged-{stack.name}", f"registry-{stack.name}-other"

        def refused() -> bool:
            return "no privileged pods here" in in_a_new_namespace(cluster, other, "Pod", "v1", pod)

        with cluster.policy("ValidatingAdmissionPolicy", name, "/pods", spec, deny, here(stack)):
            wait_until(refused, "the policy is in force", timeout=60)
            began = time.monotonic()
            failed = stack.up(check=False)
            took = time.monotonic() - began
            assert failed.returncode != 0
            assert "no privileged pods here" in failed.stdout + failed.stderr
            assert took < 10


def test_a_daemon_set_that_matches_no_node_is_an_error_and_no_trust(cluster: Cluster) -> None:
    elsewhere = 'JSONPatch{op: "add", path: "/spec/template/spec/nodeSelector/nowhere", value: "true"}'
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{elsewhere}]"}}
    spec = {"reinvocationPolicy": "Never", "mutations": [mutation]}
    labels = {"app": "any"}
    pod = {"nodeSelector": {"kubernetes.io/os": "linux"}, "containers": [{"name": "app", "image": "busybox:1"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    daemon_set = {"selector": {"matchLabels": labels}, "template": template}
    with Stack(environment=cluster.environment) as stack:
        name, other = f"nowhere-{stack.name}", f"registry-{stack.name}-other"

        def moved_away() -> bool:
            return '"nowhere"' in in_a_new_namespace(cluster, other, "DaemonSet", "apps/v1", daemon_set)

        with cluster.policy("MutatingAdmissionPolicy", name, "apps/daemonsets", spec, {}, here(stack)):
            wait_until(moved_away, "the policy is in force", timeout=60)
            failed = stack.up(check=False)
            assert failed.returncode != 0
            assert "The DaemonSet trust matches no node" in failed.stdout + failed.stderr
            assert "registryUrl" not in stack.outputs()


def test_another_owners_host_port_folder_is_used_and_left_behind(
    cluster: Cluster, deployed: Deployed, node: str
) -> None:
    with Stack(environment=cluster.environment, settings={"exposure": "nodePort", "storage": "memory"}) as stack:
        stack.up()
        host = stack.outputs()["registryUrl"]
        name, _, port = host.partition(":")
        assert port
        root = deployed.hosts_directory(node).parent
        theirs = root / f"{name}_{port}_"
        theirs.mkdir()
        (theirs / "stranger.txt").write_text("ours")
        before = (theirs / "stranger.txt").stat().st_mtime_ns
        wait_until(lambda: len(list(theirs.glob("private-registry*.crt"))) == 1, "our file moved there", timeout=15)
        wait_diagnosis(cluster, stack)
        stack.destroy()
        assert [path.name for path in theirs.iterdir()] == ["stranger.txt"]
        assert (theirs / "stranger.txt").stat().st_mtime_ns == before
        (theirs / "stranger.txt").unlink()
        theirs.rmdir()


@pytest.mark.parametrize("how", ["powered off", "cut off"])
def test_a_node_that_is_down_while_the_stack_is_destroyed_keeps_nothing_but_the_ca_of_a_power_cut(
    cluster: Cluster, joined: str, how: str
) -> None:
    before = state(joined)
    with Stack(environment=cluster.environment, settings={"readyTimeout": "45s"}) as stack:
        stack.up()
        outputs = stack.outputs()
        namespace, host = outputs["namespace"], outputs["registryUrl"]
        if how == "powered off":
            nodes.stop([joined])
        else:
            cgroups.kill(joined)
        try:
            began = time.monotonic()
            failed = stack.pulumi("destroy", "--yes", "--skip-preview", check=False)
            assert failed.returncode != 0
            assert "foregroundDeletion" in failed.stdout + failed.stderr
            assert time.monotonic() - began < 75
        finally:
            nodes.restart_node(joined)
        stack.destroy()
        gone = ("kubectl", "get", "namespace", namespace)
        wait_until(lambda: cluster.run(*gone, check=False).returncode != 0, "the namespace is gone", timeout=60)
    left = {path.removesuffix("/.") for path in changes(before, state(joined))}
    if how == "powered off":
        assert not left
        return
    # A kubelet that comes back does not start a pod again that is being deleted; so what the stack had there stays,
    # until the agent of another stack has missed its pod for ten minutes.
    innermost = {path for path in left if not any(other.startswith(f"{path}/") for other in left)}
    assert innermost
    assert not {path for path in innermost if namespace not in path and host not in path}
    for path in sorted(left, reverse=True):  # what is in a folder before the folder
        real = path_on(joined, path)
        real.rmdir() if real.is_dir() else real.unlink()
    assert state(joined) == before


# All at random


class Restarts:
    """Restarts of one node. Who asks for one while one goes on gets that one."""

    def __init__(self, node: str, pool: ThreadPoolExecutor) -> None:
        self._node, self._pool = node, pool
        self._lock = threading.Lock()
        self._last: Future[None] | None = None

    def start(self) -> Future[None]:
        with self._lock:
            if self._last is None or self._last.done():
                self._last = self._pool.submit(nodes.restart_node, self._node, seconds=120)
            return self._last


class Life:
    """A stack that is brought up, disturbed and destroyed; what goes on by itself is not waited for."""

    def __init__(self, cluster: Cluster, stack: Stack, restarts: Restarts) -> None:
        self.cluster, self.stack, self.restarts = cluster, stack, restarts
        self.namespace = ""
        self._restart: Future[None] | None = None

    def play(self, steps: Sequence[str]) -> None:
        """Bring the stack up, and take the steps, until no node is restarting for it."""
        self.up()
        for name in steps:
            STEPS[name](self)
        self.wait()

    def up(self) -> None:
        self.stack.up()
        self.namespace = self.stack.outputs()["namespace"]

    def destroy(self) -> None:
        self.stack.destroy()
        self.namespace = ""

    def rollout_restart(self) -> None:
        def restarted() -> bool:
            command = ("kubectl", "rollout", "restart", "daemonset/trust", "-n", self.namespace)
            done = self.cluster.run(*command, check=False)
            assert done.returncode == 0 or "within the past second" in done.stderr, done.stderr
            return done.returncode == 0

        if self.namespace:
            wait_until(restarted, "kubectl, which refuses two within a second, restarts the rollout", timeout=10)

    def delete_pods(self) -> None:
        if self.namespace:
            label = "app.kubernetes.io/name=trust"
            self.cluster.kubectl("delete", "pod", "-n", self.namespace, "-l", label, "--wait=false")

    def restart_node(self) -> None:
        self.wait()
        self._restart = self.restarts.start()

    def wait(self) -> None:
        """Until no node is restarting for it."""
        if self._restart:
            self._restart.result()


STEPS: dict[str, Callable[[Life], None]] = {
    "up": Life.up,
    "rollout restart": Life.rollout_restart,
    "pod delete": Life.delete_pods,
    "node restart": Life.restart_node,
    "destroy": Life.destroy,
}
SEEDS = range(int(os.environ.get("PRIVATE_REGISTRY_INTERLEAVINGS", "4")))
AT_ONCE = 4
"""Stacks that live at the same time, and disturb each other by it: the node that restarts is the same for all."""


@pytest.mark.parametrize("seeds", [SEEDS[first : first + AT_ONCE] for first in SEEDS[::AT_ONCE]], ids=str)
def test_any_order_of_events_leaves_nothing_behind(cluster: Cluster, joined: str, seeds: range) -> None:
    chosen = {seed: random.Random(seed).choices(list(STEPS), k=5) for seed in seeds}
    for seed, steps in chosen.items():
        print(f"\nseed {seed}: up, {', '.join(steps)}")
    every = (*cluster.nodes, joined)
    before, counts = {node: state(node) for node in every}, {node: restarts(node) for node in every}
    with ExitStack() as made, ThreadPoolExecutor(1 + len(seeds)) as pool:
        stacks = [made.enter_context(Stack(environment=cluster.environment)) for _ in seeds]
        node_restarts = Restarts(joined, pool)
        lives = [Life(cluster, stack, node_restarts) for stack in stacks]
        list(pool.map(Life.play, lives, chosen.values()))
        for life in lives:
            if life.namespace:
                wait_diagnosis(cluster, life.stack, timeout=150)
        list(pool.map(Life.destroy, lives))
    assert set(every) <= set(cluster.ready_nodes())
    for node in every:
        assert state(node) == before[node], node
    for node in cluster.nodes:
        assert restarts(node) - counts[node] <= 1, node
    restarted = any("node restart" in steps for steps in chosen.values())
    assert restarts(joined) == (1 if restarted else counts[joined])
