"""What the cluster tests use: programs that run to their end, the cluster, and stacks of the program on it."""

import hashlib
import json
import secrets
import stat
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from .local import network, nodes

ROOT = Path(__file__).parents[2]
CONFIG_TREES = ("etc/containerd", "etc/docker", "etc/containers")


class CommandError(AssertionError):
    """A command that should have succeeded did not."""


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    timeout: float = 300,
    text: str | None = None,
    check: bool = True,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with its output kept.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        timeout: Seconds after which it is ended.
        text: What it reads from standard input.
        check: Whether a non-zero exit code is an error.
        cwd: The folder to run it in.

    Raises:
        CommandError: `check` is set and it failed, or it ran too long.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env=dict(environment),
            timeout=timeout,
            input=text,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"{' '.join(words)}: still running after {timeout} s\n{error.stdout}\n{error.stderr}"
        raise CommandError(msg) from error
    if check and done.returncode:
        msg = f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        raise CommandError(msg)
    return done


def wait_until(condition: Callable[[], object], what: str, *, timeout: float, interval: float = 0.25) -> None:
    """Wait for a condition.

    Args:
        condition: Asked again and again until it is truthy.
        what: The condition in words, for the error.
        timeout: Seconds to wait at most.
        interval: Seconds between two looks.

    Raises:
        AssertionError: it did not come true in time.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            msg = f"not within {timeout} s: {what}"
            raise AssertionError(msg)
        time.sleep(interval)


def is_ready(found: Mapping[str, Any]) -> bool:
    """Whether a node or a pod, as the Kubernetes API tells it, is Ready."""
    conditions = found["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


@dataclass(kw_only=True)
class Cluster:
    """The running cluster, as a user with kubectl and as an administrator of its nodes."""

    environment: Mapping[str, str]
    """Environment in which plain `kubectl`, `pulumi`, `crane` and `skopeo` work against the cluster."""
    nodes: Sequence[str]
    """Names of the nodes that the cluster was started with."""

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in the cluster's network; see `run`."""
        return run(network.client(*map(str, command)), self.environment, **options)

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """What a kubectl command prints."""
        return self.run("kubectl", *arguments, **options).stdout

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds."""
        return json.loads(self.kubectl("get", "-o", "json", *arguments))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """`kubectl apply` some objects."""
        self.kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def dry_run(self, *objects: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """What the cluster would make of new objects, as JSON; every policy has its say, and nothing is made."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self.run("kubectl", "create", "--dry-run=server", "-o", "json", "-f", "-", text=text, check=False)

    @contextmanager
    def policy(
        self, kind: str, name: str, resource: str, spec: Mapping[str, Any], binding: Mapping[str, Any], where: str = ""
    ) -> Iterator[None]:
        """A policy on what is created, until the end of the context; it takes a second until a new one counts.

        Args:
            kind: `ValidatingAdmissionPolicy` or `MutatingAdmissionPolicy`.
            name: Its name.
            resource: What is created, as group/plural.
            spec: What it does.
            binding: How it is bound, besides to everything.
            where: An expression that has to hold for it to apply; empty: it always does.
        """
        api, (group, plural) = "admissionregistration.k8s.io/v1", resource.split("/")
        rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}
        conditions = [{"name": "where", "expression": where}] if where else []
        what = {"matchConstraints": {"resourceRules": [rule]}, "matchConditions": conditions, "failurePolicy": "Fail"}
        bound = {"policyName": name, **binding}
        self.apply(
            {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": {**what, **spec}},
            {"apiVersion": api, "kind": f"{kind}Binding", "metadata": {"name": name}, "spec": bound},
        )
        try:
            yield
        finally:
            self.kubectl("delete", f"{kind}Binding,{kind}".lower(), name)

    def ready_nodes(self) -> list[str]:
        """Names of the nodes that are Ready."""
        return [node["metadata"]["name"] for node in self.get("nodes")["items"] if is_ready(node)]


def tree_hashes(root: Path) -> dict[str, str]:
    """Every path below `root` with what it is: its type, permissions and content. Empty when there is no `root`."""
    found: dict[str, str] = {}
    for path in [root, *sorted(root.rglob("*"))] if root.exists() else []:
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISREG(mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(mode):
            content = str(path.readlink()).encode()
        found[str(path.relative_to(root))] = f"{stat.filemode(mode)} {hashlib.sha256(content).hexdigest()}"
    return found


@dataclass(kw_only=True)
class Stack:
    """One stack of the program on the cluster. As a context manager it is destroyed and removed at the end."""

    environment: Mapping[str, str]
    """Environment in which plain `pulumi` works against the cluster."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ from the defaults; `key[0]` is the first value of a list."""
    name: str = field(default_factory=lambda: f"t-{secrets.token_hex(3)}z")

    def __enter__(self) -> Self:
        """Make the stack, with nothing in it."""
        self.pulumi("stack", "init", self.name, "--no-select")
        for key, value in self.settings.items():
            self.pulumi("config", "set", "--path", key, value)
        return self

    def __exit__(self, *_: object) -> None:
        """Destroy what is left of it."""
        try:
            self.destroy()
        finally:
            self.pulumi("stack", "rm", "--yes", "--force", check=False)
            (ROOT / f"Pulumi.{self.name}.yaml").unlink(missing_ok=True)

    def pulumi(self, *arguments: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `pulumi` command on this stack."""
        stack = [] if arguments[:2] == ("stack", "init") else ["--stack", self.name]
        return run(
            ["pulumi", "--non-interactive", *arguments, *stack],
            {**self.environment, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            timeout=timeout,
            check=check,
        )

    def up(self, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`pulumi up`."""
        return self.pulumi("up", "--yes", "--skip-preview", check=check)

    def destroy(self) -> subprocess.CompletedProcess[str]:
        """`pulumi destroy`."""
        return self.pulumi("destroy", "--yes", "--skip-preview")

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets included."""
        return json.loads(self.pulumi("stack", "output", "--json", "--show-secrets").stdout)

    def state(self) -> str:
        """The stack's whole state as it is stored: secrets stay encrypted."""
        return self.pulumi("stack", "export").stdout


def config_trees(node: str) -> dict[str, str]:
    """Everything below the folders that a node's container runtimes are configured by; see `tree_hashes`."""
    root = nodes.node_root(node)
    return {f"{tree}/{path}": what for tree in CONFIG_TREES for path, what in tree_hashes(root / tree).items()}


def restarts(node: str) -> int:
    """How often systemd has started containerd since the node's boot."""
    entries = nodes.exec_in_node(
        node, ["journalctl", "--boot", "--unit=containerd", "--output=cat", "--grep=^Started "]
    )
    return len(entries.stdout.splitlines())


def needs_restart(node: str) -> bool:
    """Whether the node's containerd, as its file says now, reads no folder of certificates until it is restarted.

    False on a node where another stack is up that needed the same restart before.
    """
    if nodes.TABLE[node].config != "generated":
        return False
    config = tomllib.loads((nodes.node_root(node) / "etc/containerd/config.toml").read_text())
    return not config["plugins"]["io.containerd.grpc.v1.cri"]["registry"]["config_path"]


@dataclass(kw_only=True)
class Deployed:
    """A stack that is up, and what the nodes were before."""

    cluster: Cluster
    stack: Stack
    outputs: dict[str, Any]
    ca_file: Path
    """The CA's certificate, for clients outside the cluster."""
    trees_before: Mapping[str, Mapping[str, str]]
    """The container runtimes' configuration on each node before `up`; see `config_trees`."""
    restarts_before: Mapping[str, int]
    """How often each node's containerd had been started before `up`."""
    restarts_needed: Mapping[str, int]
    """How often each node's containerd has to be restarted by `up`."""

    @property
    def host(self) -> str:
        """The output registryUrl."""
        return self.outputs["registryUrl"]

    @property
    def ca(self) -> str:
        """The output caCertificate."""
        return self.outputs["caCertificate"]

    @property
    def namespace(self) -> str:
        """The output namespace."""
        return self.outputs["namespace"]

    def crane(self, *arguments: str | Path, **options: Any) -> str:
        """What a crane command prints that trusts only the CA."""
        return self.cluster.run("env", f"SSL_CERT_FILE={self.ca_file}", "crane", *arguments, **options).stdout

    def start_pods(
        self, namespace: str, image: str, on: Sequence[str], *, name: str = "app", pull_secrets: Sequence[str] = ()
    ) -> None:
        """Create a pod `name`-<node> on each node that always pulls `image`."""
        container = {"name": "app", "image": image, "imagePullPolicy": "Always", "command": ["sleep", "1000000"]}
        self.cluster.apply(
            *(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": f"{name}-{node}", "namespace": namespace},
                    "spec": {
                        "nodeSelector": {"kubernetes.io/hostname": node},
                        "containers": [container],
                        "imagePullSecrets": [{"name": each} for each in pull_secrets],
                        "tolerations": [{"operator": "Exists"}],
                        "terminationGracePeriodSeconds": 0,
                    },
                }
                for node in on
            )
        )

    def wait_running(self, namespace: str, on: Sequence[str], *, name: str = "app", timeout: float = 30) -> None:
        """Wait until the pod that `start_pods` made is running on each node."""

        def running() -> bool:
            pods = self.cluster.get("pods", "-n", namespace)["items"]
            phases = {pod["metadata"]["name"]: pod["status"].get("phase") for pod in pods}
            return all(phases.get(f"{name}-{node}") == "Running" for node in on)

        wait_until(running, f"pods {name} run on {', '.join(on)}", timeout=timeout)

    def assert_running(self, namespace: str, on: Sequence[str], *, name: str = "app", timeout: float = 30) -> None:
        """Wait until the pods run, and check that no pull in the namespace has failed."""
        self.wait_running(namespace, on, name=name, timeout=timeout)
        for event in self.cluster.get("events", "-n", namespace)["items"]:
            assert event["reason"] not in ("Failed", "BackOff", "ErrImagePull"), event["message"]

    def assert_restarts(self) -> None:
        """Check that each node's containerd was restarted as often as `up` had to, and not once more."""
        since = {node: restarts(node) - before for node, before in self.restarts_before.items()}
        assert since == self.restarts_needed

    def agents(self) -> list[dict[str, Any]]:
        """The DaemonSet's pods."""
        return self.cluster.get("pods", "-n", self.namespace, "-l", "app.kubernetes.io/name=trust")["items"]

    def ready_agents(self) -> set[str]:
        """The ids of the DaemonSet's pods that are ready."""
        return {pod["metadata"]["uid"] for pod in self.agents() if is_ready(pod)}

    def hosts_directory(self, node: str) -> Path:
        """The folder in which the node's containerd finds the CA of the registry."""
        etc = nodes.node_root(node) / "etc/containerd"
        # containerd 2.1 and newer takes a list of folders for the name of one when its transfer service pulls.
        literal = etc / "certs.d:" / "etc/docker/certs.d"
        return (literal if nodes.TABLE[node].containerd == "built" else etc / "certs.d") / self.host

    def trusted(self, node: str) -> bool:
        """Whether the node's containerd finds exactly the CA's certificate for the registry's host."""
        return any(path.read_text() == self.ca for path in self.hosts_directory(node).glob("*.crt"))
