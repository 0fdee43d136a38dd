"""Shows that a stack works: an image is made from files, pushed, and run on every node, which prints what it says."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry import names
from registry.pod.proof_image import elf
from registry.pod.trouble import condition_of

from . import image_archive, rootfs
from .errors import ClusterError
from .paths import REPOSITORY

SECONDS = 60
"""How long the pods may take."""
_NAME = "private-registry-demo"
MINE = ("--selector", f"app={_NAME}")
_IMAGE = "private-registry/demo"
"""The repository of the demo's image, which is nobody else's."""
_CRANE = "https://github.com/google/go-containerregistry/tree/main/cmd/crane"

# Each program prints its first argument, with one instruction a line.
_PROGRAMS = {
    "amd64": (
        62,  # EM_X86_64
        "488b742410"  # mov rsi, [rsp+16] (the argument)
        "31d2"  # xor edx, edx (its length)
        "803c1600"  # cmp byte [rsi+rdx], 0
        "7404"  # je over the next two instructions
        "ffc2"  # inc edx
        "ebf6"  # jmp back to cmp
        "b801000000"  # mov eax, 1 (write)
        "bf01000000"  # mov edi, 1
        "0f05"  # syscall
        "b83c000000"  # mov eax, 60 (exit)
        "31ff"  # xor edi, edi
        "0f05",  # syscall
    ),
    "arm64": (
        183,  # EM_AARCH64
        "e10b40f9"  # ldr x1, [sp, 16] (the argument)
        "020080d2"  # mov x2, 0 (its length)
        "23686238"  # ldrb w3, [x1, x2]
        "63000034"  # cbz w3, over the next two instructions
        "42040091"  # add x2, x2, 1
        "fdffff17"  # b back to ldrb
        "200080d2"  # mov x0, 1
        "080880d2"  # mov x8, 64 (write)
        "010000d4"  # svc 0
        "000080d2"  # mov x0, 0
        "a80b80d2"  # mov x8, 93 (exit)
        "010000d4",  # svc 0
    ),
}


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


def push_lines(
    stack: str, url: str, username: str | None, archives: Mapping[str, str | Path] = {"team/app:1": "app.tar"}
) -> str:
    """Return the shell lines that push image archives to a stack's registry, from a shell on the cluster.

    Args:
        stack: Its name.
        url: The registry's.
        username: Who logs in; None where nobody has to.
        archives: The archive's path by the name that the image gets.
    """
    login = (
        f"pulumi stack output --stack {stack} --show-secrets password |\n"
        f"  crane auth login {url} --username {username} --password-stdin\n"
    )
    return f'eval "$(python3 -m registry.clients crane --stack {stack} | sh)"\n{login if username else ""}' + "".join(
        f"crane push {archive} {url}/{name}\n" for name, archive in archives.items()
    )


def run(stack: str) -> None:
    """Push an image to a stack's registry, run it on every node, and print what it says.

    Raises:
        ClusterError: a step failed; the message has its words.
    """
    if not shutil.which("crane"):
        raise ClusterError(f"there is no program crane on PATH, which pushes the demo's image: install it ({_CRANE})")
    outputs = json.loads(_do("pulumi", "stack", "output", "--stack", stack, "--json"))
    if "registryUrl" not in outputs:
        raise ClusterError(f"the stack {stack} has no registry yet: bring it up (make up STACK={stack})")
    url, namespace = outputs["registryUrl"], outputs["namespace"]
    nodes = _nodes()
    with tempfile.TemporaryDirectory() as folder:
        archives = {f"{_IMAGE}:{kind}": image(Path(folder), kind) for kind in sorted(set(nodes.values()))}
        home = {"DOCKER_CONFIG": folder, "XDG_CONFIG_HOME": folder}  # the user's own logins stay as they are
        print(_do("sh", "-euc", push_lines(stack, url, outputs.get("username"), archives), variables=home), end="")
    pods = [_pod(f"{_NAME}-{n}", f"{url}/{_IMAGE}:{nodes[node]}", node) for n, node in enumerate(nodes)]
    with _made(pods, namespace):
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        try:
            _do("kubectl", "wait", ended, "pod", *MINE, "-n", namespace, f"--timeout={SECONDS}s")
        except ClusterError as error:
            raise ClusterError(f"{error}\n`make doctor` says what is broken") from None
        for pod in pods:
            print(_do("kubectl", "logs", pod["metadata"]["name"], "-n", namespace), end="")


def _nodes() -> dict[str, str]:
    """Return the nodes that can run the image, with the kind of their processor.

    Raises:
        ClusterError: There is none, or the cluster does not answer.
    """
    found = {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["architecture"]
        for node in json.loads(_do("kubectl", "get", "nodes", "-o", "json"))["items"]
        if _takes_pods(node)
    }
    if not found:
        raise ClusterError(f"no node of the cluster is Ready, schedulable, and one of {', '.join(_PROGRAMS)}")
    return found


def _takes_pods(node: dict[str, Any]) -> bool:
    info = node["status"]["nodeInfo"]
    ready = condition_of(node, "Ready").get("status") == "True"
    known = info["operatingSystem"] == "linux" and info["architecture"] in _PROGRAMS
    return ready and known and not node["spec"].get("unschedulable")


def image(folder: Path, architecture: str) -> Path:
    """Write the archive of an image whose container prints its argument; return its path."""
    root = folder / architecture
    root.mkdir()
    machine, code = _PROGRAMS[architecture]
    program = root / "say"
    program.write_bytes(elf(machine, bytes.fromhex(code)))
    program.chmod(0o555)
    archive = folder / f"{architecture}.tar"
    config = image_archive.Config(entrypoint=("/say",), user="65534:65534", architecture=architecture)
    image_archive.write(archive, root, names=[f"example.com/{_IMAGE}:{architecture}"], config=config)
    return archive


@contextmanager
def _made(pods: Collection[Mapping[str, Any]], namespace: str) -> Generator[None]:
    """Pods in a namespace, removed in the end."""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(pods)})
    try:
        _do("kubectl", "create", "-n", namespace, "-f", "-", text=listed)
        yield
    finally:
        _do("kubectl", "delete", "pod", *MINE, "-n", namespace, "--ignore-not-found")


def _pod(name: str, image: str, node: str) -> dict[str, Any]:
    container = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "Always",
        "args": [f"node {node} runs what was just pushed\n"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": _NAME}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
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
