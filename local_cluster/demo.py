"""Shows that a stack works: an image is made from files, pushed, and run on every node, which prints what it says."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry import names

from . import image_archive, rootfs
from .errors import ClusterError
from .paths import REPOSITORY

SECONDS = 60
"""How long the pods may take."""
_NAME = "private-registry-demo"
_MINE = ("--selector", f"app={_NAME}")


def app_image(folder: Path, *command: str) -> Path:
    """Write the archive of a small image with a shell, whose content nobody else has; return its path.

    Args:
        folder: Where it is made.
        command: What a container of it runs.
    """
    programs = folder / "root" / "bin"
    programs.mkdir(parents=True)
    shutil.copy2(rootfs.ensure("python") / "usr" / "bin" / "busybox", programs / "busybox")
    for name in ("sh", "sleep"):
        (programs / name).symlink_to("busybox")
    (folder / "root" / "unique").write_text(os.urandom(16).hex())
    archive = folder / "app.tar"
    config = image_archive.Config(command=command)
    image_archive.write(archive, folder / "root", names=["example.com/app:1"], config=config)
    return archive


def push_lines(stack: str, url: str, username: str | None) -> str:
    """Return the shell lines that push `app.tar` to a stack's registry, from a shell on the cluster."""
    login = (
        f"pulumi stack output --stack {stack} --show-secrets password |\n"
        f"  crane auth login {url} --username {username} --password-stdin\n"
    )
    return (
        f'eval "$(python3 -m registry.clients crane --stack {stack} | sh)"\n'
        f"{login if username else ''}"
        f"crane push app.tar {url}/team/app:1\n"
    )


def run(stack: str) -> None:
    """Push an image to a stack's registry, run it on every node, and print what it says.

    Raises:
        ClusterError: a step failed; the message has its words.
    """
    outputs = json.loads(_do("pulumi", "stack", "output", "--stack", stack, "--json"))
    url, namespace = outputs["registryUrl"], outputs["namespace"]
    with tempfile.TemporaryDirectory() as folder:
        archive = app_image(Path(folder), "sh", "-c", 'echo "node $NODE runs what was just pushed"')
        home = {"DOCKER_CONFIG": folder, "XDG_CONFIG_HOME": folder}  # the user's own logins stay as they are
        lines = push_lines(stack, url, outputs.get("username")).replace("app.tar", str(archive))
        print(_do("sh", "-euc", lines, variables=home), end="")
    with _pods(f"{url}/team/app:1", namespace) as pods:
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        try:
            _do("kubectl", "wait", ended, "pod", *_MINE, "-n", namespace, f"--timeout={SECONDS}s")
        except ClusterError as error:
            raise ClusterError(f"{error}\n`make doctor` says what is broken") from None
        for name in pods:
            print(_do("kubectl", "logs", name, "-n", namespace), end="")


@contextmanager
def _pods(image: str, namespace: str) -> Generator[list[str], None, None]:
    """A pod of an image on every schedulable node, removed in the end; gives their names."""
    found = json.loads(_do("kubectl", "get", "nodes", "-o", "json"))["items"]
    nodes = [node["metadata"]["name"] for node in found if not node["spec"].get("unschedulable")]
    pods = [_pod(f"{_NAME}-{index}", image, node) for index, node in enumerate(nodes)]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    try:
        _do("kubectl", "create", "-n", namespace, "-f", "-", text=listed)
        yield [pod["metadata"]["name"] for pod in pods]
    finally:
        _do("kubectl", "delete", "pod", *_MINE, "-n", namespace, "--ignore-not-found")


def _pod(name: str, image: str, node: str) -> dict[str, Any]:
    container = {"name": "app", "image": image, "env": [{"name": "NODE", "value": node}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": _NAME}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [container],
            # It is there, and is used, where the registry asks for a password before pulls.
            "imagePullSecrets": [{"name": names.CREDENTIALS}],
        },
    }


def _do(*command: str, text: str = "", variables: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        input=text,
        env=os.environ | (variables or {}),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"{' '.join(command[:3])} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
