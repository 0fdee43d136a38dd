"""A running stack is changed while every node pulls and a client pushes: nothing fails but what the docs say may."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest

from .support.changes import CHANGES, REPRESENTATIVE
from .support.clients import registry_for_clients
from .support.cluster import Cluster
from .support.loop import Loop
from .support.places import REPOSITORY
from .support.releases import PRODUCT
from .support.stacks import Deployed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@dataclass(kw_only=True)
class Running:
    """A stack that changes from test to test, and what never does."""

    deployed: Deployed
    namespace: str
    """Namespace that has the login for pulls."""
    kept: str
    """Digest of an image that was pushed at the very beginning."""

    def loop(self, folder: Path) -> Loop:
        """Pulls and pushes, from now on."""
        self.deployed.outputs = self.deployed.stack.outputs()
        return Loop(self.deployed, self.namespace, folder)


@pytest.fixture(scope="module")
def running(cluster: Cluster, app_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    namespace = f"test-{token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=30s")
    settings = {"pullNamespaces[0]": namespace, "attachPullSecret": "true"}
    with registry_for_clients(cluster, tmp_path_factory.mktemp("deployed"), "loadBalancer", settings) as deployed:
        deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
        kept = deployed.crane("digest", f"{deployed.host}/test/app:1")
        yield Running(deployed=deployed, namespace=namespace, kept=kept)
    cluster.kubectl("delete", "namespace", namespace, timeout=120)


def check_kept(running: Running, loop: Loop) -> None:
    """Check that CA and images are those from before; nobody has to push the proof image again."""
    after = loop.deployed
    logs = ("logs", "-n", after.namespace, "-l", "app.kubernetes.io/name=registry", "-c", "proof-image", "--tail=-1")
    assert after.cluster.kubectl(*logs).count("\npushed ") <= 1
    assert after.ca == running.deployed.ca
    assert after.crane("digest", f"{after.host}/test/app:1") == running.kept
    after.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.provider if name == REPRESENTATIVE else pytest.mark.slow)
        for name, each in CHANGES.items()
        if each.steps
    ],
)
def test_pulls_and_pushes_go_on_while_a_setting_changes(running: Running, tmp_path: Path, name: str) -> None:
    address = running.deployed.outputs["address"].replace(".", "-")
    with running.loop(tmp_path) as loop:
        for step in CHANGES[name].steps:
            loop.change(**{key: value.format(address=address) for key, value in step.items()})
        loop.check(CHANGES[name].allowed)
        check_kept(running, loop)


@pytest.mark.slow
def test_nothing_fails_while_other_namespaces_get_the_login_for_pulls_and_lose_it(
    running: Running, namespace: str, tmp_path: Path
) -> None:
    with running.loop(tmp_path) as loop:
        loop.change(**{"pullNamespaces[1]": namespace})
        loop.change(**{"pullNamespaces[1]": ""})
        loop.check(CHANGES["pullNamespaces"].allowed)
        check_kept(running, loop)


@pytest.mark.slow
def test_nothing_fails_while_the_agents_program_changes(running: Running, tmp_path: Path) -> None:
    copy, stack = tmp_path / "program", running.deployed.stack
    copy.mkdir()
    for name in PRODUCT:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, copy)
    (copy / ".venv").symlink_to((REPOSITORY / ".venv").resolve())
    with (copy / "trust" / "agent" / "agent.py").open("a") as file:
        file.write("# Another program than before.\n")
    before = running.deployed.ready_agents()
    with running.loop(tmp_path) as loop:
        for program in (copy, REPOSITORY):
            stack.become(program)
            loop.change()
            assert not running.deployed.ready_agents() & before
            before = running.deployed.ready_agents()
        loop.check(CHANGES["agent"].allowed)
        check_kept(running, loop)


@pytest.mark.slow
def test_nothing_fails_while_the_volume_grows(
    cluster: Cluster, namespace: str, app_image: Path, tmp_path: Path
) -> None:
    name = f"test-{token_hex(4)}"
    cluster.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": name},
            "provisioner": "rancher.io/local-path",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": True,
        }
    )
    try:
        settings = {"storageClass": name, "storageSize": "1Gi"}
        with registry_for_clients(cluster, tmp_path, "ingress", settings) as deployed:
            deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
            kept = deployed.crane("digest", f"{deployed.host}/test/app:1")

            def claim() -> tuple[str, str]:
                spec = cluster.get("persistentvolumeclaim", "-n", deployed.namespace, "registry")["spec"]
                return spec["volumeName"], spec["resources"]["requests"]["storage"]

            volume, _ = claim()
            with Loop(deployed, namespace, tmp_path) as loop:
                loop.change(storageSize="2Gi")
                loop.check(CHANGES["storageSize"].allowed)
            assert claim() == (volume, "2Gi")
            check_kept(Running(deployed=deployed, namespace=namespace, kept=kept), loop)
    finally:
        cluster.kubectl("delete", "storageclass", name)


@pytest.mark.slow
def test_what_is_pushed_into_memory_is_pulled_again_soon_after_its_size_has_changed(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    settings = {"storage": "memory", "storageSize": "200Mi"}
    with registry_for_clients(cluster, tmp_path, "ingress", settings) as deployed:
        with Loop(deployed, namespace, tmp_path) as loop:
            loop.change(storageSize="250Mi")
            loop.check(CHANGES["memory"].allowed)
        assert loop.deployed.ca == deployed.ca
