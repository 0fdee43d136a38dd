"""The images of the program's pods: taken from a mirror, pinned, pulled with a login; and who refuses them is named."""

import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from local_cluster import images
from local_cluster.paths import REPOSITORY

from .support import messages, refusing_registry
from .support.cluster import Cluster
from .support.commands import run
from .support.diagnosis import wait_diagnosis
from .support.stacks import Deployed, Stack, deployed_stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = {"registry": "registry:3", "nginx": "nginx:stable-alpine-slim", "python": "python:3.13-alpine"}
"""The three images, as the settings name them, by their names among the cluster's own ones."""
DOCS = (REPOSITORY / "docs" / "settings.md").read_text()


def printed(done: subprocess.CompletedProcess[str]) -> str:
    """All that a command has printed, as one line."""
    return " ".join((done.stdout + done.stderr).split())


def block(word: str) -> str:
    """The commands of the page on settings that are together in a block with this word."""
    [found] = [each for each in re.findall(r"```console\n(.*?)```", DOCS, re.DOTALL) if word in each]
    return re.sub(r"^[$>] ", "", found, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def mirror(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A registry that asks for a login, and holds the three images at `origin/`.

    They have another label, and so another id, than those that the nodes hold: see `app_image`.
    """
    with deployed_stack(cluster, tmp_path_factory.mktemp("mirror"), {"auth": "basic", "storage": "memory"}) as deployed:
        archives = {path.name.rpartition("-")[0]: path for path in images.ensure()}
        for name, image in NAMES.items():
            reference = f"{deployed.host}/origin/{image}"
            deployed.crane("push", archives[name], reference)
            deployed.crane("mutate", "--label", f"test={token_hex(4)}", reference, "-t", reference)
        yield deployed


def in_shell(mirror: Deployed, script: str) -> str:
    """Run commands of the page as somebody who trusts the mirror and has logged in."""
    script = script.replace("docker.io/library", f"{mirror.host}/origin").replace("mirror.example.com", mirror.host)
    environment = [f"SSL_CERT_FILE={mirror.ca_file}", f"DOCKER_CONFIG={mirror.login}"]
    environment.append(f"REGISTRY_AUTH_FILE={mirror.login}/config.json")
    return mirror.cluster.run("env", *environment, "sh", "-euc", script).stdout


@pytest.fixture(scope="module", params=["crane copy", "skopeo copy"])
def mirrored(request: pytest.FixtureRequest, mirror: Deployed) -> str:
    """The setting `imageRegistry` for images that were copied as the page says."""
    script = block(request.param).replace("/hub/", f"/{request.param[:5]}/")
    in_shell(mirror, "\n".join(line for line in script.splitlines() if not line.startswith("pulumi")))
    return f"{mirror.host}/{request.param[:5]}"


def set_login(stack: Stack, mirror: Deployed) -> None:
    """Set the login as the page says: the value comes from a file, and is in no argument."""
    command = ["pulumi", "--non-interactive", "config", "set", "--secret", "imagePullSecret", "--stack", stack.name]
    run(command, stack.environment, text=(mirror.login / "config.json").read_text())


def test_one_line_takes_all_images_from_a_mirror_and_its_login_is_a_secret(
    cluster: Cluster, mirror: Deployed, mirrored: str
) -> None:
    settings = {"imageRegistry": mirrored, "storage": "memory", "readyTimeout": "20s"}
    password = mirror.outputs["password"]
    with Stack(environment=cluster.environment, settings=settings) as stack:
        failed = printed(stack.up(check=False))
        assert f"{mirror.host} gives {mirrored}/" in failed
        assert "to nobody without a login" in failed
        assert "pulumi config set --secret imagePullSecret < config.json" in failed
        wait_diagnosis(cluster, stack, ("REGISTRY_DOWN", "registry"))

        plain = (mirror.login / "config.json").read_text()
        stack.pulumi("config", "set", "--plaintext", "imagePullSecret", plain)
        refused = printed(stack.up(check=False))
        assert "its value is not encrypted" in refused
        assert "pulumi config set --secret imagePullSecret" in refused
        login = plain.partition('"auth": "')[2].partition('"')[0]
        assert login
        assert login not in refused

        set_login(stack, mirror)
        stack.pulumi("config", "set", "readyTimeout", "2m")
        up = stack.up()
        namespace = stack.outputs()["namespace"]
        pods = cluster.get("pods", "-n", namespace)["items"]
        assert len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]) == 1 + len(cluster.nodes)
        for pod in pods:
            for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
                assert container["image"].startswith(f"{mirrored}/") or container["name"] == "proof"
        wait_diagnosis(cluster, stack)
        state = stack.state()
        for text in (up.stdout, up.stderr, state, (REPOSITORY / f"Pulumi.{stack.name}.yaml").read_text()):
            assert password not in text
            assert login not in text


def test_an_image_is_pinned_by_the_digest_that_the_page_asks_for(cluster: Cluster, mirror: Deployed) -> None:
    script = "\n".join(line for line in block("crane digest").splitlines() if not line.startswith("pulumi"))
    digest = in_shell(mirror, f"{script}\necho $DIGEST").strip()
    settings = {
        "imageRegistry": f"{mirror.host}/origin",
        "registryImage": f"docker.io/library/{NAMES['registry']}",
        "nginxImage": f"docker.io/library/{NAMES['nginx']}",
        "pythonImage": f"{NAMES['python']}@{digest}",
        "storage": "memory",
    }
    with Stack(environment=cluster.environment, settings=settings) as stack:
        set_login(stack, mirror)
        stack.up()
        namespace = stack.outputs()["namespace"]
        for pod in cluster.get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=trust")["items"]:
            [agent] = pod["status"]["initContainerStatuses"]
            assert agent["imageID"].endswith(digest)


@pytest.fixture(scope="module")
def refusing(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` under which every node reaches a registry that refuses what is asked of it."""
    namespace, port = f"test-{token_hex(4)}", str(random.randrange(20000, 30000))  # noqa: S311 - nothing secret
    program = Path(refusing_registry.__file__).read_text()
    pem = tmp_path_factory.mktemp("refusing") / "server.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=refusing"
    run(["openssl", *words.split(), "-keyout", pem, "-out", pem.with_suffix(".crt")], {"PATH": "/usr/bin:/bin"})
    container = {
        "name": "refusing",
        "image": f"docker.io/library/{NAMES['python']}",
        "command": ["python3", "-c", program, port],
        "env": [{"name": "PEM", "value": pem.read_text() + pem.with_suffix(".crt").read_text()}],
        "readinessProbe": {"tcpSocket": {"host": "127.0.0.1", "port": int(port)}, "periodSeconds": 1},
    }
    labels = {"app": "refusing"}
    pod = {
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    cluster.kubectl("create", "namespace", namespace)
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "refusing", "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }
    )
    try:
        cluster.kubectl("rollout", "status", "daemonset/refusing", "-n", namespace, "--timeout=60s", timeout=90)
        yield f"127.0.0.1:{port}"
    finally:
        cluster.kubectl("delete", "namespace", namespace, timeout=120)


FIXES = {
    "limited": "limits how often it is pulled from: log in, which allows more pulls (pulumi config set --secret "
    "imagePullSecret < config.json), or take all images from elsewhere (pulumi config set imageRegistry",
    **dict.fromkeys(
        ("login", "closed"),
        "to nobody without a login, or has no such image: set a login (pulumi config set --secret imagePullSecret",
    ),
}
"""What helps, by the way in which a registry refuses pulls."""


def test_up_and_the_doctor_name_a_registry_that_limits_pulls_or_wants_a_login(cluster: Cluster, refusing: str) -> None:
    settings = {"storage": "memory", "readyTimeout": "15s"}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        for refusal, fix in FIXES.items():
            stack.pulumi("config", "set", "imageRegistry", f"{refusing}/{refusal}")
            failed = printed(stack.up(check=False))
            assert "was not ready within 15s" in failed
            assert fix in failed, refusal
            assert (messages.TOO_MANY in failed) == (refusal == "limited")
            assert fix in wait_diagnosis(cluster, stack, ("REGISTRY_DOWN", "registry")).text


def test_every_containerd_names_a_limit_so_that_the_doctor_and_up_understand_it(
    cluster: Cluster, default_stack: Deployed, refusing: str
) -> None:
    stack = default_stack.stack
    stack.pulumi("config", "set", "readyTimeout", "20s")
    try:
        for refusal, fix in FIXES.items():
            image = f"agent={refusing}/{refusal}/python:1"
            cluster.kubectl("set", "image", "daemonset/trust", image, "-n", default_stack.namespace)
            lines = wait_diagnosis(cluster, stack, ("AGENT_NOT_RUNNING", "agent")).text.splitlines()
            named = {line.split()[0] for line in lines if fix in line}
            assert named == set(cluster.nodes), refusal
        failed = printed(stack.up(check=False))
        for node in cluster.nodes:
            assert f"{node}: AGENT_NOT_RUNNING, The agent ({refusing}/{refusal}/python:1) does not run" in failed
        assert fix in failed
    finally:
        stack.pulumi("config", "rm", "readyTimeout")
        stack.pulumi("up", "--yes", "--skip-preview", "--refresh")
    wait_diagnosis(cluster, stack, timeout=120)
