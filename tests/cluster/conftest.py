"""The real cluster, kept warm between runs, and a random stack and namespace per test."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from .clients import EXPOSURES, registry_for_clients
from .harness import ROOT, Cluster, Deployed, Stack, config_trees, needs_restart, restarts
from .local import cluster as local_cluster
from .local import image_archive, machine, nodes, rootfs, shell
from .local.paths import CLUSTER

RESULTS = ROOT / "test-results"
"""Where a failed test leaves what explains it: a folder per test."""
BIG_LAYER_BYTES = 2 * 1000**3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where the cluster cannot run, its tests are skipped with the reason; in CI that is a failure."""
    reason = ""
    try:
        machine.check()
    except machine.ClusterError as error:
        reason = str(error)
    if reason and os.environ.get("CI"):
        pytest.exit(f"the tests on the real cluster cannot run: {reason}", returncode=1)
    if reason:
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Dump the cluster when a test failed, before its namespace and stack are gone."""
    report = yield
    if report.failed and item.get_closest_marker("cluster") and CLUSTER.exists():
        folder = RESULTS / f"{item.module.__name__.rpartition('.')[2]}.{item.name}.{report.when}"
        local_cluster.dump(folder)
        report.sections.append(("cluster", f"what explains it is in {folder}"))
    return report


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The local cluster with its default nodes, started when it does not run, and left running.

    A cluster that was made from other files than these is made anew, unless PRIVATE_REGISTRY_KEEP_CLUSTER is set.
    """
    if not os.environ.get("PRIVATE_REGISTRY_KEEP_CLUSTER"):
        local_cluster.up()
    local_cluster.require()
    return Cluster(environment={**os.environ, **shell.environment()}, nodes=nodes.DEFAULT)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """An empty namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    # The pods of a test may be created by hand right away; their ServiceAccount has to be there.
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
    yield name
    cluster.kubectl("delete", "namespace", name, timeout=120)


@pytest.fixture(scope="session")
def app_image(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an image with a shell, whose content nobody else has.

    A node that has pulled an image under one name no longer takes it for preloaded under another, and pulls that one
    too (the kubelet's imagePullCredentialsVerificationPolicy); so none of the cluster's own images may be pushed.
    """
    folder = tmp_path_factory.mktemp("app")
    programs = folder / "root" / "bin"
    programs.mkdir(parents=True)
    shutil.copy2(rootfs.ensure("python") / "usr" / "bin" / "busybox", programs / "busybox")
    for name in ("sh", "sleep"):
        (programs / name).symlink_to("busybox")
    (folder / "root" / "unique").write_text(secrets.token_hex())
    archive = folder / "app.tar"
    config = image_archive.Config(command=("sleep", "1000000"))
    image_archive.write(archive, folder / "root", names=["example.com/app:1"], config=config)
    return archive


@pytest.fixture(scope="session")
def big_layer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A file of random bytes, two gigabytes long, and its SHA-256 in hexadecimal digits."""
    path = tmp_path_factory.mktemp("layer") / "layer.tar"
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(BIG_LAYER_BYTES // 10**6):
            block = os.urandom(10**6)
            file.write(block)
            digest.update(block)
    yield path, digest.hexdigest()
    path.unlink()


@pytest.fixture(scope="module", params=EXPOSURES)
def deployed(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """A registry for clients, at each exposure; modules that need another stack have their own fixture of this name."""
    with registry_for_clients(cluster, tmp_path_factory.mktemp("deployed"), request.param) as deployed:
        yield deployed


@contextmanager
def deployed_stack(cluster: Cluster, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Deployed]:
    """A stack that is up, with these settings besides the defaults; destroyed in the end.

    containerd is restarted by hand on the nodes whose configuration has no `config_path`, so that each of them runs
    with what its file says, whatever an earlier stack made of it.
    """
    for node in cluster.nodes:
        if nodes.TABLE[node].config == "generated":
            nodes.exec_in_node(node, ["systemctl", "restart", "containerd"])
    stack = Stack(environment=cluster.environment, settings=settings or {})
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "ca.crt"
    trees = {node: config_trees(node) for node in cluster.nodes}
    before = {node: restarts(node) for node in cluster.nodes}
    needed = {node: int(needs_restart(node)) for node in cluster.nodes}
    with stack:
        stack.up()
        outputs = stack.outputs()
        ca_file.write_text(outputs["caCertificate"])
        yield Deployed(
            cluster=cluster,
            stack=stack,
            outputs=outputs,
            ca_file=ca_file,
            trees_before=trees,
            restarts_before=before,
            restarts_needed=needed,
        )
