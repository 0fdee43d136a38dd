"""With a password: nobody pushes, or with `basic` pulls, without it; every kubelet pulls; and it changes unnoticed."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from registry.credentials import AHEAD

from .support import messages
from .support.changes import CHANGES
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.loop import Loop
from .support.stacks import Deployed, Stack, deployed_stack, docker_config

pytestmark = pytest.mark.cluster

UNAUTHORIZED = re.compile(r"UNAUTHORIZED|401")


@pytest.fixture(scope="module")
def namespaces(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A namespace that gets the Secret for pulls, attached, and one that gets nothing."""
    names = {each: f"test-{each}-{token_hex(4)}" for each in ("attached", "nothing")}
    for name in names.values():
        cluster.kubectl("create", "namespace", name)
        cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
    yield names
    cluster.kubectl("delete", "namespace", *names.values(), timeout=120)


@pytest.fixture(scope="module")
def password_stack(
    cluster: Cluster, namespaces: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """A stack that asks for a password, and gives one namespace the Secret for pulls."""
    settings = {
        "auth": "basic",
        "attachPullSecret": "true",
        "pullNamespaces[0]": namespaces["attached"],
    }
    with deployed_stack(cluster, tmp_path_factory.mktemp("deployed"), settings) as deployed:
        yield deployed


def login(folder: Path, host: str, username: str, password: str) -> Path:
    """A folder with the configuration of a client that has logged in."""
    return docker_config(folder, {host: (username, password)})


def pull_login(deployed: Deployed, namespace: str, name: str) -> tuple[str, str]:
    """User and password in a Secret for pulls."""
    data = deployed.cluster.get("secret", "-n", namespace, name)["data"]
    [entry] = json.loads(base64_text(data[".dockerconfigjson"]))["auths"].values()
    username, _, password = base64_text(entry["auth"]).partition(":")
    return username, password


@pytest.fixture(scope="module")
def pushed(password_stack: Deployed, app_image: Path) -> str:
    """An image in the registry, pushed with the password."""
    reference = f"{password_stack.host}/test/app:1"
    password_stack.crane("push", app_image, reference)
    return reference


@pytest.mark.parametrize("username", ["", "registry", "docker", "nobody"])
def test_without_the_password_nobody_pushes_pulls_or_looks(
    password_stack: Deployed, pushed: str, app_image: Path, tmp_path: Path, username: str
) -> None:
    folder = login(tmp_path, password_stack.host, username, "0" * 64) if username else tmp_path
    for command in (
        ["push", app_image, f"{password_stack.host}/test/app:refused"],
        ["pull", pushed, tmp_path / "pulled.tar"],
        ["manifest", pushed],
        ["delete", pushed],
        ["catalog", password_stack.host],
    ):
        refused = password_stack.run_crane(folder, *command, check=False)
        assert refused.returncode != 0, command
        assert UNAUTHORIZED.search(refused.stderr), refused.stderr


def test_with_the_password_everything_is_allowed(password_stack: Deployed, pushed: str, tmp_path: Path) -> None:
    password_stack.crane("pull", pushed, tmp_path / "pulled.tar")
    assert password_stack.crane("ls", pushed.rpartition(":")[0]).split() == ["1"]


def test_the_secret_for_pulls_holds_a_login_that_cannot_push_or_delete(
    password_stack: Deployed, namespaces: dict[str, str], pushed: str, app_image: Path, tmp_path: Path
) -> None:
    username, password = pull_login(password_stack, namespaces["attached"], password_stack.outputs["sharedName"])
    assert (username, password) == pull_login(password_stack, password_stack.namespace, "registry-http")
    assert username == "registry-pull"
    assert password != password_stack.outputs["password"]
    folder = login(tmp_path / "login", password_stack.host, username, password)
    password_stack.run_crane(folder, "pull", pushed, tmp_path / "pulled.tar")
    for command in (["push", app_image, f"{password_stack.host}/test/app:refused"], ["delete", pushed]):
        refused = password_stack.run_crane(folder, *command, check=False)
        assert refused.returncode != 0, command
        assert UNAUTHORIZED.search(refused.stderr), refused.stderr
    assert password_stack.crane("ls", pushed.rpartition(":")[0]).split() == ["1"]


def test_a_second_up_changes_nothing(password_stack: Deployed) -> None:
    password_stack.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.parametrize("client", ["crane", "skopeo", "curl"])
def test_the_line_of_a_snippet_that_logs_in_does_so(
    cluster: Cluster, password_stack: Deployed, pushed: str, tmp_path: Path, client: str
) -> None:
    line = password_stack.snippets[client].splitlines()[1].removeprefix("# Log in: ")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_text(password_stack.ca)
    line = line.replace("skopeo login", f"skopeo login --cert-dir {certificates}")
    environment = [
        f"SSL_CERT_FILE={password_stack.ca_file}",
        f"CURL_CA_BUNDLE={password_stack.ca_file}",
        f"DOCKER_CONFIG={tmp_path}",
        f"REGISTRY_AUTH_FILE={tmp_path}/config.json",
    ]
    done = cluster.run("env", *environment, "bash", "-o", "pipefail", "-c", line)
    if client == "curl":
        assert done.stdout.strip() == "{}"
    else:
        assert password_stack.run_crane(tmp_path, "manifest", pushed).stdout


def secret_texts(deployed: Deployed) -> list[str]:
    """Everything of the stack that only its owner may know, in the forms in which it is used."""
    data = deployed.cluster.get("secret", "-n", deployed.namespace, "registry-http")["data"]
    auth = re.search(r'"auth": "([^"]+)"', base64_text(data[".dockerconfigjson"]))
    assert auth
    assert set(data) == {"secret", ".dockerconfigjson", "readers", "pushers"}
    pull = pull_login(deployed, deployed.namespace, "registry-http")[1]
    return [deployed.outputs["password"], pull, auth[1], base64_text(data["secret"]), *data.values(), "PRIVATE KEY"]


def base64_text(text: str) -> str:
    return base64.b64decode(text).decode()


def test_no_secret_is_in_the_state_in_plain_in_a_log_or_in_what_runs(
    cluster: Cluster, password_stack: Deployed
) -> None:
    outputs = json.loads(password_stack.stack.pulumi("stack", "output", "--json").stdout)
    assert outputs["password"] == "[secret]"  # noqa: S105 - what is printed in its place
    assert outputs["username"] == "registry"
    seen = {"state": password_stack.stack.state(), "outputs": json.dumps(outputs)}
    for kind in ("pods", "deployments", "daemonsets", "configmaps"):
        seen[kind] = cluster.kubectl("get", kind, "-n", password_stack.namespace, "-o", "yaml")
    for pod in cluster.get("pods", "-n", password_stack.namespace)["items"]:
        name = pod["metadata"]["name"]
        seen[name] = cluster.kubectl("logs", "-n", password_stack.namespace, name, "--all-containers")
    for place, text in seen.items():
        for secret in secret_texts(password_stack):
            assert secret not in text, place


def test_kubelets_pull_on_every_node_where_the_secret_is_attached(
    cluster: Cluster, password_stack: Deployed, namespaces: dict[str, str], pushed: str
) -> None:
    namespace = namespaces["attached"]
    password_stack.start_pods(namespace, pushed, cluster.nodes)
    password_stack.assert_running(namespace, cluster.nodes)


def test_kubelets_pull_with_the_secret_that_a_pod_names_and_not_without(
    cluster: Cluster, password_stack: Deployed, namespaces: dict[str, str], pushed: str
) -> None:
    namespace, name = namespaces["nothing"], password_stack.outputs["sharedName"]
    data = cluster.get("secret", "-n", namespaces["attached"], name)
    copy = {key: data[key] for key in ("apiVersion", "kind", "type", "data")}
    cluster.apply({**copy, "metadata": {"name": name, "namespace": namespace}})
    password_stack.start_pods(namespace, pushed, cluster.nodes, name="with", pull_secrets=[name])
    password_stack.start_pods(namespace, pushed, cluster.nodes, name="without")
    password_stack.wait_running(namespace, cluster.nodes, name="with", timeout=60)

    def refused() -> bool:
        events = cluster.get("events", "-n", namespace, "--field-selector=reason=Failed")["items"]
        denied = [e for e in events if any(words in e["message"] for words in messages.NO_LOGIN)]
        told = {e["involvedObject"]["name"] for e in denied}
        return {f"without-{node}" for node in cluster.nodes} <= told

    wait_until(refused, "every pull without the secret is refused", timeout=60)
    ready = cluster.get("pods", "-n", namespace)["items"]
    assert {each["metadata"]["name"] for each in ready if each["status"]["phase"] == "Running"} == {
        f"with-{node}" for node in cluster.nodes
    }


@pytest.mark.slow
def test_two_rotations_in_a_row_leave_no_moment_in_which_a_pull_or_a_push_fails(
    password_stack: Deployed, namespaces: dict[str, str], tmp_path: Path
) -> None:
    stack = password_stack.stack
    registries = [each["metadata"]["uid"] for each in registry_pods(password_stack)]
    with Loop(password_stack, namespaces["attached"], tmp_path) as loop:
        # The second rotation comes before the kubelet has brought the first one's password file into the pod.
        for number in ("2", "3"):
            stack.set(passwordVersion=number)
            stack.up()
            loop.use(stack.outputs())
        last = f"registry-{3 + AHEAD}:"
        assert last not in users_file(password_stack)
        wait_until(lambda: last in users_file(password_stack), "the password file is the new one", timeout=120)
        loop.settle()
        loop.check(CHANGES["passwordVersion"].allowed)
    outputs = loop.deployed.outputs
    assert outputs["username"] == "registry-3"
    assert outputs["password"] != password_stack.outputs["password"]
    assert [each["metadata"]["uid"] for each in registry_pods(password_stack)] == registries, (
        "the registry was restarted"
    )
    stack.pulumi("preview", "--expect-no-changes")


def registry_pods(deployed: Deployed) -> list[dict[str, Any]]:
    return deployed.cluster.get("pods", "-n", deployed.namespace, "-l", "app.kubernetes.io/name=registry")["items"]


def users_file(deployed: Deployed) -> str:
    """The password file as nginx reads it."""
    path = "/etc/private-registry-users/pushers"
    return deployed.cluster.kubectl(
        "exec", "-n", deployed.namespace, "deployment/registry", "-c", "nginx", "--", "cat", path
    )


@pytest.fixture(scope="module")
def open_stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack with the default settings, at a private address."""
    with deployed_stack(cluster, tmp_path_factory.mktemp("deployed")) as deployed:
        yield deployed


def test_at_a_private_address_everybody_pulls_and_only_the_password_pushes(
    cluster: Cluster, open_stack: Deployed, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    reference = f"{open_stack.host}/test/app:1"
    nobody = docker_config(tmp_path / "nobody", {})
    for command in (["push", app_image, reference], ["delete", f"{open_stack.host}/private-registry/proof:1"]):
        refused = open_stack.run_crane(nobody, *command, check=False)
        assert refused.returncode != 0, command
        assert UNAUTHORIZED.search(refused.stderr), refused.stderr
    open_stack.crane("push", app_image, reference)
    open_stack.run_crane(nobody, "pull", reference, tmp_path / "pulled.tar")
    assert open_stack.run_crane(nobody, "ls", f"{open_stack.host}/test/app").stdout.split() == ["1"]
    assert "test/app" in open_stack.run_crane(nobody, "catalog", open_stack.host).stdout.split()
    (tmp_path / "ca.crt").write_text(open_stack.ca)
    inspect = ["skopeo", "--insecure-policy", "inspect", "--no-creds", "--cert-dir", tmp_path]
    assert json.loads(cluster.run(*inspect, f"docker://{reference}").stdout)["Digest"]
    # Kubelets have no Secret here.
    open_stack.start_pods(namespace, reference, cluster.nodes)
    open_stack.assert_running(namespace, cluster.nodes)


def test_auth_none_is_warned_of_and_lets_everybody_push(cluster: Cluster, app_image: Path, tmp_path: Path) -> None:
    with Stack(environment=cluster.environment, settings={"auth": "none", "storage": "memory"}) as stack:
        said = stack.up().stdout
        assert "The setting auth is none: whoever reaches the registry" in said
        outputs = stack.outputs()
        assert not {"username", "password"} & set(outputs)
        (tmp_path / "ca.crt").write_text(outputs["caCertificate"])
        environment = [f"SSL_CERT_FILE={tmp_path}/ca.crt", f"DOCKER_CONFIG={tmp_path}"]
        cluster.run("env", *environment, "crane", "push", app_image, f"{outputs['registryUrl']}/test/app:1")
