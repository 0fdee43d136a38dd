"""With a password: nobody pushes or pulls without it, every kubelet pulls with it, and it changes unnoticed."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from subprocess import CompletedProcess
from typing import Any

import pytest

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.stacks import Deployed, deployed_stack

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
    folder.mkdir(parents=True, exist_ok=True)
    entry = {"username": username, "password": password}
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return folder


def crane(deployed: Deployed, folder: Path, *arguments: str | Path, check: bool = True) -> CompletedProcess[str]:
    """Run crane with the CA and the login in `folder`."""
    environment = [f"SSL_CERT_FILE={deployed.ca_file}", f"DOCKER_CONFIG={folder}"]
    return deployed.cluster.run("env", *environment, "crane", *arguments, check=check)


@pytest.fixture(scope="module")
def logged_in(password_stack: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = password_stack.outputs
    return login(tmp_path_factory.mktemp("login"), password_stack.host, outputs["username"], outputs["password"])


@pytest.fixture(scope="module")
def pushed(password_stack: Deployed, logged_in: Path, app_image: Path) -> str:
    """An image in the registry, pushed with the password."""
    reference = f"{password_stack.host}/test/app:1"
    crane(password_stack, logged_in, "push", app_image, reference)
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
        refused = crane(password_stack, folder, *command, check=False)
        assert refused.returncode != 0, command
        assert UNAUTHORIZED.search(refused.stderr), refused.stderr


def test_with_the_password_everything_is_allowed(
    password_stack: Deployed, pushed: str, logged_in: Path, tmp_path: Path
) -> None:
    crane(password_stack, logged_in, "pull", pushed, tmp_path / "pulled.tar")
    assert crane(password_stack, logged_in, "ls", pushed.rpartition(":")[0]).stdout.split() == ["1"]


def test_a_second_up_changes_nothing(password_stack: Deployed) -> None:
    password_stack.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.parametrize("client", ["crane", "skopeo", "curl"])
def test_the_line_of_a_snippet_that_logs_in_does_so(
    cluster: Cluster, password_stack: Deployed, pushed: str, tmp_path: Path, client: str
) -> None:
    line = password_stack.snippets[client].splitlines()[1].removeprefix("# Log in: ")
    line = line.replace("password", f"password --stack {password_stack.stack.name}", 1)
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
        assert crane(password_stack, tmp_path, "manifest", pushed).stdout


def secret_texts(deployed: Deployed) -> list[str]:
    """Everything of the stack that only its owner may know, in the forms in which it is used."""
    data = deployed.cluster.get("secret", "-n", deployed.namespace, "registry-http")["data"]
    auth = re.search(r'"auth": "([^"]+)"', base64_text(data[".dockerconfigjson"]))
    assert auth
    return [deployed.outputs["password"], auth[1], base64_text(data["secret"]), *data.values(), "PRIVATE KEY"]


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
    namespace, name = namespaces["nothing"], password_stack.outputs["pullSecret"]
    data = cluster.get("secret", "-n", namespaces["attached"], name)
    copy = {key: data[key] for key in ("apiVersion", "kind", "type", "data")}
    cluster.apply({**copy, "metadata": {"name": name, "namespace": namespace}})
    password_stack.start_pods(namespace, pushed, cluster.nodes, name="with", pull_secrets=[name])
    password_stack.start_pods(namespace, pushed, cluster.nodes, name="without")
    password_stack.wait_running(namespace, cluster.nodes, name="with", timeout=60)

    def refused() -> bool:
        events = cluster.get("events", "-n", namespace, "--field-selector=reason=Failed")["items"]
        told = {e["involvedObject"]["name"] for e in events if re.search(r"401|no basic auth|authoriz", e["message"])}
        return {f"without-{node}" for node in cluster.nodes} <= told

    wait_until(refused, "every pull without the secret is refused", timeout=60)
    ready = cluster.get("pods", "-n", namespace)["items"]
    assert {each["metadata"]["name"] for each in ready if each["status"]["phase"] == "Running"} == {
        f"with-{node}" for node in cluster.nodes
    }


@pytest.mark.slow
def test_a_rotation_leaves_no_moment_in_which_a_pull_fails(
    cluster: Cluster, password_stack: Deployed, namespaces: dict[str, str], pushed: str, logged_in: Path, tmp_path: Path
) -> None:
    namespace = namespaces["attached"]
    registries = [each["metadata"]["uid"] for each in registry_pods(password_stack)]
    failures: list[str] = []
    pulls = 0
    done = threading.Event()
    both = [logged_in]

    def pull() -> None:
        nonlocal pulls
        while not done.wait(0.2):
            for folder in both:
                answer = crane(password_stack, folder, "manifest", pushed, check=False)
                pulls += 1
                if answer.returncode:
                    failures.append(answer.stderr)

    def pull_by_kubelets(name: str) -> None:
        """Run a pod on every node, without one pull that fails, and delete it."""
        password_stack.start_pods(namespace, pushed, cluster.nodes, name=name)
        password_stack.assert_running(namespace, cluster.nodes, name=name, timeout=60)
        cluster.kubectl("delete", "pods", "-n", namespace, *(f"{name}-{node}" for node in cluster.nodes))

    with ThreadPoolExecutor() as pool:
        loop = pool.submit(pull)
        try:
            pull_by_kubelets("before")
            password_stack.stack.pulumi("config", "set", "passwordVersion", "2")
            up = pool.submit(password_stack.stack.up)
            during = 0
            while not up.done():
                pull_by_kubelets(f"during-{during}")
                during += 1
            up.result()
            outputs = password_stack.stack.outputs()
            both.append(login(tmp_path, password_stack.host, outputs["username"], outputs["password"]))
            # The kubelets pull with the new password the moment that `up` returns.
            pull_by_kubelets("after")
            # Until the password file in the pod is the new one.
            third = f"{outputs['username'][:-1]}3:"
            wait_until(lambda: third in users_file(password_stack), "the password file is the new one", timeout=120)
            pull_by_kubelets("last")
        finally:
            done.set()
        loop.result()
    assert not failures
    assert pulls > 10
    assert outputs["username"] == "registry-2"
    assert outputs["password"] != password_stack.outputs["password"]
    assert [each["metadata"]["uid"] for each in registry_pods(password_stack)] == registries, (
        "the registry was restarted"
    )
    password_stack.stack.pulumi("preview", "--expect-no-changes")


def registry_pods(deployed: Deployed) -> list[dict[str, Any]]:
    return deployed.cluster.get("pods", "-n", deployed.namespace, "-l", "app.kubernetes.io/name=registry")["items"]


def users_file(deployed: Deployed) -> str:
    """The password file as the registry's container reads it."""
    path = "/etc/private-registry-users/htpasswd"
    return deployed.cluster.kubectl(
        "exec", "-n", deployed.namespace, "deployment/registry", "-c", "registry", "--", "cat", path
    )


LOGINS = ["", "registry:plain text", "registry:", "docker:docker", ":"]
ASK = """
import base64, json, sys, time, urllib.error, urllib.request
end = time.monotonic() + 50
for login in json.loads(sys.argv[1]):
    request = urllib.request.Request("http://127.0.0.1:5000/v2/")
    if login:
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    while time.monotonic() < end:
        try:
            print(urllib.request.urlopen(request, timeout=10).status, flush=True)
            break
        except urllib.error.HTTPError as error:
            print(error.code, flush=True)
            break
        except OSError:
            time.sleep(0.2)
"""


def broken_registry(deployed: Deployed, namespace: str, name: str, data: dict[str, str]) -> str:
    """Start a registry like the stack's own but with other content in the place of its users; its pod's name."""
    template = deployed.cluster.get("deployment", "-n", deployed.namespace, "registry")["spec"]["template"]["spec"]
    config = deployed.cluster.get("configmap", "-n", deployed.namespace, "registry-config")
    container = next(each for each in template["containers"] if each["name"] == "registry")
    images = {each["name"]: each["image"] for each in template["containers"]}
    container["env"] = [each for each in container["env"] if "value" in each]
    for probe in ("readinessProbe", "livenessProbe"):
        del container[probe]
    ask = {"name": "ask", "image": images["proof-image"], "command": ["python3", "-c", ASK, json.dumps(LOGINS)]}
    volumes = {volume["name"]: volume for volume in template["volumes"]}
    volumes["users"]["secret"] = {"secretName": name, "defaultMode": 0o440}
    volumes["data"] = {"name": "data", "emptyDir": {}}
    del volumes["run"], volumes["login"]
    place = {"namespace": namespace}
    meta = {"name": name, **place}
    deployed.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "registry-config", **place},
            "data": config["data"],
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {
                "containers": [container, ask],
                "volumes": list(volumes.values()),
                "restartPolicy": "Never",
                "securityContext": template["securityContext"],
                "terminationGracePeriodSeconds": 0,
            },
        },
    )
    return name


def test_a_registry_without_its_password_file_does_not_start(
    cluster: Cluster, password_stack: Deployed, namespace: str
) -> None:
    name = broken_registry(password_stack, namespace, "missing", {"other": "file"})
    cluster.kubectl(
        "wait", "-n", namespace, f"pod/{name}", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s", timeout=90
    )
    assert "read-only file system" in cluster.kubectl("logs", "-n", namespace, name, "-c", "registry")


@pytest.mark.parametrize("content", ["", "no line of such a file", "registry:plain text", "# registry"])
def test_a_registry_with_a_wrong_password_file_lets_nobody_in(
    cluster: Cluster, password_stack: Deployed, namespace: str, content: str
) -> None:
    name = broken_registry(password_stack, namespace, "wrong", {"htpasswd": content})
    answers: list[str] = []

    def answered() -> bool:
        answers[:] = cluster.kubectl("logs", "-n", namespace, name, "-c", "ask", check=False).split()
        return len(answers) == len(LOGINS)

    wait_until(answered, "the registry has answered every login", timeout=60)
    assert set(answers) <= {"401", "400"}, answers
