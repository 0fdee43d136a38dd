"""What `make up` prints, and `make demo`, work as they are, with the programs of a bare Debian and what it installs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_cluster import demo, host_machine
from local_cluster.__main__ import main

from .support.checkouts import checkout
from .support.cluster import Cluster
from .support.commands import run
from .support.stacks import Deployed

pytestmark = pytest.mark.cluster

NEEDED = ("make", "python3", "python3-minimal", *host_machine.PACKAGES)
"""What somebody has who has come as far as `make up`, besides Debian's essential packages."""
FOREIGN = ("jq", "kubectl", "pulumi", "crane", "docker", "helm", "oras")


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A folder with the programs of a bare Debian on which `make up` has run, for PATH."""
    query = ["dpkg-query", "--show", "--showformat", "${Package}\t${Essential}\t${Priority}\n"]
    known = [line.split("\t") for line in subprocess.check_output(query, text=True).splitlines()]
    packages = {name for name, essential, priority in known if essential == "yes" or priority == "required"}
    wanted = sorted(packages | {name for name, *_ in known if name in NEEDED or name.startswith("python3.")})
    files = subprocess.check_output(["dpkg-query", "--listfiles", *wanted], text=True).splitlines()
    folder = tmp_path / "bin"
    folder.mkdir()
    for file in map(Path, files):
        if file.parent.name in ("bin", "sbin") and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file)
    for name in ("awk", "sh"):
        if not (folder / name).exists():
            (folder / name).symlink_to(shutil.which(name) or "")
    assert not [name for name in FOREIGN if (folder / name).exists()]
    return folder


@pytest.fixture
def newcomer(bare_path: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a shell in which nothing was set."""
    kept = {name: value for name, value in os.environ.items() if name in ("PRIVATE_REGISTRY_LOCAL", "HOME")}
    folders = {"DOCKER_CONFIG": str(tmp_path / "docker"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    return {**kept, **folders, "PATH": str(bare_path), "LANG": "C.UTF-8"}


@pytest.fixture
def app_is_gone(cluster: Cluster) -> Iterator[None]:
    """The pod `app` of the lines is removed in the end."""
    yield
    cluster.kubectl("delete", "pod", "app", "--ignore-not-found", "--now", timeout=120)


def test_the_lines_that_make_up_prints_push_an_image_that_a_pod_runs(
    cluster: Cluster,
    default_stack: Deployed,
    app_image: Path,
    newcomer: dict[str, str],
    app_is_gone: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    assert main(["hint", default_stack.stack.name]) == 0
    printed = capfd.readouterr().out
    lines = printed.partition("let a pod pull:\n")[2]
    assert lines.count("\n") == 6
    program = checkout(tmp_path / "private-registry")
    shutil.copy(app_image, program)
    run(["bash", "-euo", "pipefail", "-c", lines], newcomer, cwd=program)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")
    [status] = cluster.get("pod", "app")["status"]["containerStatuses"]
    assert status["imageID"].startswith(default_stack.host)


def test_the_demo_says_of_every_node_that_it_runs_what_was_pushed(
    cluster: Cluster, default_stack: Deployed, newcomer: dict[str, str]
) -> None:
    said = run(["make", "--no-print-directory", "demo", f"STACK={default_stack.stack.name}"], newcomer).stdout
    for node in cluster.nodes:
        assert f"node {node} runs what was just pushed\n" in said
    left = cluster.get("pods", "-n", default_stack.namespace, *demo.MINE)["items"]
    assert left == []
