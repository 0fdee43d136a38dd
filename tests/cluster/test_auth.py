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
import yaml

from .conftest import deployed_stack
from .harness import Cluster, Deployed, Stack, wait_until

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
def deployed(
    cluster: Cluster, namespaces: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
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
def logged_in(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = deployed.outputs
    return login(tmp_path_factory.mktemp("login"), deployed.host, outputs["username"], outputs["password"])


@pytest.fixture(scope="module")
def pushed(deployed: Deployed, logged_in: Path, app_image: Path) -> str:
    """An image in the registry, pushed with the password."""
    reference = f"{deployed.host}/test/app:1"
    crane(deployed, logged_in, "push", app_image, reference)
    return reference


@pytest.mark.parametrize("username", ["", "registry", "docker", "nobody"])
def test_without_the_password_nobody_pushes_pulls_or_looks(
    deployed: Deployed, pushed: str, app_image: Path, tmp_path: Path, username: str
) -> None:
    folder = login(tmp_path, deployed.host, username, "0" * 64) if username else tmp_path
    for command in (
        ["push", app_image, f"{deployed.host}/test/app:refused"],
        ["pull", pushed, tmp_path / "pulled.tar"],
        ["manifest", pushed],
        ["delete", pushed],
        ["catalog", deployed.host],
    ):
        refused = crane(deployed, folder, *command, check=False)
        assert refused.returncode != 0, command
        assert UNAUTHORIZED.search(refused.stderr), refused.stderr


def test_with_the_password_everything_is_allowed(
    deployed: Deployed, pushed: str, logged_in: Path, tmp_path: Path
) -> None:
    crane(deployed, logged_in, "pull", pushed, tmp_path / "pulled.tar")
    assert crane(deployed, logged_in, "ls", pushed.rpartition(":")[0]).stdout.split() == ["1"]


def test_a_second_up_changes_nothing(deployed: Deployed) -> None:
    deployed.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.parametrize("client", ["crane", "skopeo", "curl"])
def test_the_line_of_a_snippet_that_logs_in_does_so(
    cluster: Cluster, deployed: Deployed, pushed: str, tmp_path: Path, client: str
) -> None:
    line = deployed.outputs["clientSetup"][client].splitlines()[1].removeprefix("# Log in: ")
    line = line.replace("password", f"password --stack {deployed.stack.name}", 1)
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_text(deployed.ca)
    line = line.replace("skopeo login", f"skopeo login --cert-dir {certificates}")
    environment = [
        f"SSL_CERT_FILE={deployed.ca_file}",
        f"CURL_CA_BUNDLE={deployed.ca_file}",
        f"DOCKER_CONFIG={tmp_path}",
        f"REGISTRY_AUTH_FILE={tmp_path}/config.json",
    ]
    done = cluster.run("env", *environment, "bash", "-o", "pipefail", "-c", line)
    if client == "curl":
        assert done.stdout.strip() == "{}"
    else:
        assert crane(deployed, tmp_path, "manifest", pushed).stdout


def secret_texts(deployed: Deployed) -> list[str]:
    """Everything of the stack that only its owner may know, in the forms in which it is used."""
    data = deployed.cluster.get("secret", "-n", deployed.namespace, "registry-http")["data"]
    auth = re.search(r'"auth": "([^"]+)"', base64_text(data[".dockerconfigjson"]))
    assert auth
    return [deployed.outputs["password"], auth[1], base64_text(data["secret"]), *data.values(), "PRIVATE KEY"]


def base64_text(text: str) -> str:
    return base64.b64decode(text).decode()


def test_no_secret_is_in_the_state_in_plain_in_a_log_or_in_what_runs(cluster: Cluster, deployed: Deployed) -> None:
    outputs = json.loads(deployed.stack.pulumi("stack", "output", "--json").stdout)
    assert outputs["password"] == "[secret]"  # noqa: S105 - what is printed in its place
    assert outputs["username"] == "registry"
    seen = {"state": deployed.stack.state(), "outputs": json.dumps(outputs)}
    for kind in ("pods", "deployments", "daemonsets", "configmaps"):
        seen[kind] = cluster.kubectl("get", kind, "-n", deployed.namespace, "-o", "yaml")
    for pod in cluster.get("pods", "-n", deployed.namespace)["items"]:
        name = pod["metadata"]["name"]
        seen[name] = cluster.kubectl("logs", "-n", deployed.namespace, name, "--all-containers")
    for place, text in seen.items():
        for secret in secret_texts(deployed):
            assert secret not in text, place


def test_kubelets_pull_on_every_node_where_the_secret_is_attached(
    cluster: Cluster, deployed: Deployed, namespaces: dict[str, str], pushed: str
) -> None:
    namespace = namespaces["attached"]
    deployed.start_pods(namespace, pushed, cluster.nodes)
    deployed.assert_running(namespace, cluster.nodes)


def test_kubelets_pull_with_the_secret_that_a_pod_names_and_not_without(
    cluster: Cluster, deployed: Deployed, namespaces: dict[str, str], pushed: str
) -> None:
    namespace, name = namespaces["nothing"], deployed.outputs["pullSecret"]
    data = cluster.get("secret", "-n", namespaces["attached"], name)
    copy = {key: data[key] for key in ("apiVersion", "kind", "type", "data")}
    cluster.apply({**copy, "metadata": {"name": name, "namespace": namespace}})
    deployed.start_pods(namespace, pushed, cluster.nodes, name="with", pull_secrets=[name])
    deployed.start_pods(namespace, pushed, cluster.nodes, name="without")
    deployed.wait_running(namespace, cluster.nodes, name="with", timeout=60)

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
    cluster: Cluster, deployed: Deployed, namespaces: dict[str, str], pushed: str, logged_in: Path, tmp_path: Path
) -> None:
    namespace = namespaces["attached"]
    registries = [each["metadata"]["uid"] for each in registry_pods(deployed)]
    failures: list[str] = []
    pulls = 0
    done = threading.Event()
    both = [logged_in]

    def pull() -> None:
        nonlocal pulls
        while not done.wait(0.2):
            for folder in both:
                answer = crane(deployed, folder, "manifest", pushed, check=False)
                pulls += 1
                if answer.returncode:
                    failures.append(answer.stderr)

    def pull_by_kubelets(name: str) -> None:
        """Run a pod on every node, without one pull that fails, and delete it."""
        deployed.start_pods(namespace, pushed, cluster.nodes, name=name)
        deployed.assert_running(namespace, cluster.nodes, name=name, timeout=60)
        cluster.kubectl("delete", "pods", "-n", namespace, *(f"{name}-{node}" for node in cluster.nodes))

    with ThreadPoolExecutor() as pool:
        loop = pool.submit(pull)
        try:
            pull_by_kubelets("before")
            deployed.stack.pulumi("config", "set", "passwordVersion", "2")
            up = pool.submit(deployed.stack.up)
            during = 0
            while not up.done():
                pull_by_kubelets(f"during-{during}")
                during += 1
            up.result()
            outputs = deployed.stack.outputs()
            both.append(login(tmp_path, deployed.host, outputs["username"], outputs["password"]))
            # The kubelets pull with the new password the moment that `up` returns.
            pull_by_kubelets("after")
            # Until the password file in the pod is the new one.
            third = f"{outputs['username'][:-1]}3:"
            wait_until(lambda: third in users_file(deployed), "the password file is the new one", timeout=120)
            pull_by_kubelets("last")
        finally:
            done.set()
        loop.result()
    assert not failures
    assert pulls > 10
    assert outputs["username"] == "registry-2"
    assert outputs["password"] != deployed.outputs["password"]
    assert [each["metadata"]["uid"] for each in registry_pods(deployed)] == registries, "the registry was restarted"
    deployed.stack.pulumi("preview", "--expect-no-changes")


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
    cluster: Cluster, deployed: Deployed, namespace: str
) -> None:
    name = broken_registry(deployed, namespace, "missing", {"other": "file"})
    cluster.kubectl(
        "wait", "-n", namespace, f"pod/{name}", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s", timeout=90
    )
    assert "read-only file system" in cluster.kubectl("logs", "-n", namespace, name, "-c", "registry")


@pytest.mark.parametrize("content", ["", "no line of such a file", "registry:plain text", "# registry"])
def test_a_registry_with_a_wrong_password_file_lets_nobody_in(
    cluster: Cluster, deployed: Deployed, namespace: str, content: str
) -> None:
    name = broken_registry(deployed, namespace, "wrong", {"htpasswd": content})
    answers: list[str] = []

    def answered() -> bool:
        answers[:] = cluster.kubectl("logs", "-n", namespace, name, "-c", "ask", check=False).split()
        return len(answers) == len(LOGINS)

    wait_until(answered, "the registry has answered every login", timeout=60)
    assert set(answers) <= {"401", "400"}, answers


def account(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The default ServiceAccount without what the API server writes into every object."""
    found = cluster.get("serviceaccount", "-n", namespace, "default")
    for key in ("managedFields", "resourceVersion"):
        found["metadata"].pop(key, None)
    return found


SHARED = ("secret", "configmap")


def test_what_other_namespaces_get_is_right_and_destroy_takes_it_back(cluster: Cluster, namespace: str) -> None:
    before = account(cluster, namespace)
    settings = {
        "pullNamespaces[0]": namespace,
        "attachPullSecret": "true",
        "caNamespaces[0]": namespace,
        "advertise": "true",
        "storage": "memory",
        "storageSize": "1Gi",
    }
    with Stack(environment=cluster.environment, settings=settings) as stack:
        stack.up()
        outputs = stack.outputs()
        name, host = outputs["pullSecret"], outputs["registryUrl"]
        assert "password" not in outputs, "the address is private"
        assert account(cluster, namespace)["imagePullSecrets"] == [{"name": name}]
        assert base64_text(cluster.get("secret", "-n", namespace, name)["data"][".dockerconfigjson"]) == '{"auths": {}}'
        assert cluster.get("configmap", "-n", namespace, name)["data"] == {
            "host": host,
            "address": outputs["address"],
            "ca.crt": outputs["caCertificate"],
        }
        told = cluster.get("configmap", "-n", "kube-public", "local-registry-hosting")["data"]
        assert yaml.safe_load(told["localRegistryHosting.v1"]) == {
            "host": host,
            "hostFromContainerRuntime": host,
            "hostFromClusterNetwork": host,
        }
        stack.pulumi("preview", "--expect-no-changes")
        stack.destroy()
    assert account(cluster, namespace) == before
    for kind in SHARED:
        assert cluster.run("kubectl", "get", kind, "-n", namespace, name, check=False).returncode != 0
    hosting = cluster.kubectl("get", "configmap", "-n", "kube-public", "local-registry-hosting", "--ignore-not-found")
    assert not hosting


def refused(cluster: Cluster, settings: dict[str, str]) -> str:
    """What an `up` says that fails; destroyed afterwards."""
    with Stack(environment=cluster.environment, settings={"storage": "memory", **settings}) as stack:
        failed = stack.up(check=False)
        assert failed.returncode != 0
        return re.sub(r"\s+", " ", failed.stdout + failed.stderr)


def test_an_account_that_names_somebody_elses_secret_is_left_alone(cluster: Cluster, namespace: str) -> None:
    theirs = {"imagePullSecrets": [{"name": "theirs"}]}
    cluster.kubectl("patch", "serviceaccount", "default", "-n", namespace, "-p", json.dumps(theirs))
    before = account(cluster, namespace)
    told = refused(cluster, {"pullNamespaces[0]": namespace, "attachPullSecret": "true"})
    assert f"The default ServiceAccount of the namespace {namespace} was not given" in told
    assert "pulumi config set attachPullSecret false" in told
    assert account(cluster, namespace) == before


def test_another_registry_that_is_advertised_is_left_alone(cluster: Cluster) -> None:
    name, place = "local-registry-hosting", "kube-public"
    data = {"localRegistryHosting.v1": "host: localhost:5000\n"}
    metadata = {"name": name, "namespace": place}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "data": data, "metadata": metadata})
    try:
        assert "pulumi config set advertise false" in refused(cluster, {"advertise": "true"})
        assert cluster.get("configmap", "-n", place, name)["data"] == data
    finally:
        cluster.kubectl("delete", "configmap", "-n", place, name)
