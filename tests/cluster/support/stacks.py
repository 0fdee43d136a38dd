"""Stacks of the program on the cluster."""

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from local_cluster import nodes
from local_cluster.paths import REPOSITORY
from registry.settings import SECRET_KEYS

from .cluster import Cluster, is_ready
from .commands import run, wait_until
from .node_state import config_trees, needs_restart, restarts


@dataclass(kw_only=True)
class Stack:
    """One stack of the program on the cluster. As a context manager it is destroyed and removed at the end."""

    environment: Mapping[str, str]
    """Environment in which plain `pulumi` works against the cluster."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings that differ from the defaults; `key[0]` is the first value of a list."""
    name: str = field(default_factory=lambda: f"t-{secrets.token_hex(3)}z")
    program: Path = REPOSITORY
    """Folder of the program."""

    def __enter__(self) -> Self:
        """Make the stack, which is empty at first."""
        self.pulumi("stack", "init", self.name, "--no-select")
        for key, value in self.settings.items():
            secret = ["--secret"] if key in SECRET_KEYS else []
            self.pulumi("config", "set", "--path", *secret, key, value)
        return self

    def __exit__(self, *_: object) -> None:
        """Destroy what the stack still has in the cluster, and remove the stack."""
        try:
            self.destroy()
        finally:
            self.pulumi("stack", "rm", "--yes", "--force", check=False)
            (self.program / f"Pulumi.{self.name}.yaml").unlink(missing_ok=True)

    def pulumi(self, *arguments: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `pulumi` command on this stack."""
        stack = [] if arguments[:2] == ("stack", "init") else ["--stack", self.name]
        return run(
            ["pulumi", "--non-interactive", *arguments, *stack],
            {**self.environment, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            timeout=timeout,
            check=check,
            cwd=self.program,
        )

    def set(self, **settings: str) -> None:
        """Change settings; an empty text takes one back to its default. A key such as `key[0]` is a value of a list."""
        for key, value in settings.items():
            if value:
                self.pulumi("config", "set", "--path", key, value)
            else:
                self.pulumi("config", "rm", "--path", key)

    def become(self, program: Path) -> None:
        """Have the stack be one of the program in another folder, with the settings that it has."""
        settings = f"Pulumi.{self.name}.yaml"
        (program / settings).write_bytes((self.program / settings).read_bytes())
        (self.program / settings).unlink()
        self.program = program

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a `pulumi` command on this stack, whose output is piped, and of whose end the test takes care."""
        return subprocess.Popen(
            ["pulumi", "--non-interactive", *arguments, "--stack", self.name],
            env={**self.environment, "PULUMI_SKIP_UPDATE_CHECK": "true"},
            cwd=self.program,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
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


def namespaces_of(cluster: Cluster, stack: Stack) -> list[str]:
    """The namespaces that say that they are of this stack, also if its `up` has failed or was killed."""
    found = cluster.kubectl("get", "namespace", "-l", f"private-registry/stack={stack.name}", "-o", "name")
    return [each.partition("/")[2] for each in found.split()]


def namespace_of(cluster: Cluster, stack: Stack) -> str:
    """The one namespace that says that it is of this stack."""
    [name] = namespaces_of(cluster, stack)
    return name


def served_ingress(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The `spec` of the registry's Ingress. The placeholder's has no Secret."""
    found = (each["spec"] for each in cluster.get("ingresses", "-n", namespace)["items"])
    [spec] = (spec for spec in found if "secretName" in spec["tls"][0])
    return spec


@dataclass(kw_only=True)
class Deployed:
    """A stack that is up, and what the nodes were before."""

    cluster: Cluster
    stack: Stack
    outputs: dict[str, Any]
    ca_file: Path
    """The CA's certificate, for clients outside the cluster."""
    trees_before: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The container runtimes' configuration on each node before `up`; see `config_trees`."""
    restarts_before: Mapping[str, int] = field(default_factory=dict)
    """How often each node's containerd had been started before `up`."""
    restarts_needed: Mapping[str, int] = field(default_factory=dict)
    """How often each node's containerd has to be restarted by `up`."""

    @classmethod
    def of(cls, cluster: Cluster, stack: Stack, folder: Path) -> Self:
        """A stack as it is now, where it does not matter what the nodes were before; its CA goes into the folder."""
        outputs, ca_file = stack.outputs(), folder / "ca.crt"
        ca_file.write_text(outputs["caCertificate"])
        return cls(cluster=cluster, stack=stack, outputs=outputs, ca_file=ca_file)

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

    @property
    def snippets(self) -> dict[str, str]:
        """One snippet per client, from the ConfigMap that holds them."""
        return self.cluster.get("configmap", "-n", self.namespace, "client-setup")["data"]

    @property
    def login(self) -> Path:
        """A folder with the configuration of a client that has logged in, if the registry asks for a password."""
        if "username" not in self.outputs:
            return docker_config(self.ca_file.parent / "login", {})
        user = (self.outputs["username"], self.outputs["password"])
        return docker_config(self.ca_file.parent / "login", {self.host: user})

    def crane(self, *arguments: str | Path, **options: Any) -> str:
        """What a crane command prints that trusts only the CA, and has the password."""
        return self.run_crane(self.login, *arguments, **options).stdout

    def run_crane(self, login: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a crane command that trusts only the CA, and has the logins in a folder."""
        environment = [f"SSL_CERT_FILE={self.ca_file}", f"DOCKER_CONFIG={login}"]
        return self.cluster.run("env", *environment, "crane", *arguments, **options)

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


def docker_config(folder: Path, users: Mapping[str, tuple[str, str]]) -> Path:
    """Write the configuration of a client that has logged in to hosts as a user with a password; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    auths = {
        host: {"auth": base64.b64encode(f"{name}:{secret}".encode()).decode()} for host, (name, secret) in users.items()
    }
    # At once, since a client of another thread may read it just now.
    new = folder / f"config-{secrets.token_hex(4)}.json"
    new.write_text(json.dumps({"auths": auths}))
    new.replace(folder / "config.json")
    return folder


@contextmanager
def deployed_stack(cluster: Cluster, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Deployed]:
    """A stack that is up, with these settings besides the defaults; destroyed in the end.

    containerd is restarted by hand on the nodes whose configuration has no `config_path`, so that each of them runs
    with what its file says, whatever an earlier stack made of it. Where another stack is up, which has put a
    `config_path` there, nothing is restarted under its pods.
    """
    for node in cluster.nodes:
        if needs_restart(node):
            nodes.exec_in_node(node, ["systemctl", "restart", "containerd"])
    stack = Stack(environment=cluster.environment, settings=settings or {})
    folder.mkdir(parents=True, exist_ok=True)
    trees = {node: config_trees(node) for node in cluster.nodes}
    before = {node: restarts(node) for node in cluster.nodes}
    needed = {node: int(needs_restart(node)) for node in cluster.nodes}
    with stack:
        stack.up()
        deployed = Deployed.of(cluster, stack, folder)
        yield replace(deployed, trees_before=trees, restarts_before=before, restarts_needed=needed)
