"""The real cluster, kept warm between runs, and a random stack and namespace per test."""

import gzip
import hashlib
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from xdist import is_xdist_worker
from xdist.remote import Producer

from local_cluster import cluster as local_cluster
from local_cluster import demo, host_machine, programs
from local_cluster.errors import ClusterError
from local_cluster.paths import CLUSTER

from .support import controllers
from .support.bare_cluster import bare_cluster
from .support.clients import EXPOSURES, registry_for_clients
from .support.cluster import Cluster, running_cluster
from .support.faults import joined
from .support.places import RESULTS
from .support.side_by_side import GroupScheduling
from .support.stacks import Deployed, Stack, deployed_stack

BIG_LAYER_BYTES = 2 * 1000**3


SIDE_BY_SIDE = pytest.StashKey[ExitStack]()
"""What is there for all workers, until the last of them has ended."""


def unable() -> str:
    """Why the cluster cannot run on this machine; empty if it can. In CI that ends the run with a failure."""
    try:
        host_machine.check()
    except ClusterError as error:
        if os.environ.get("CI"):
            pytest.exit(f"the tests on the real cluster cannot run: {error}", returncode=1)
        return str(error)
    return ""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Before workers run tests side by side, start the cluster for all of them, and bring up a stack of nobody's.

    The first stack on a node may restart the node's container runtime, which fails pulls of others. With a stack that
    is there before the first test and after the last one, no test's own stack does so. `dsession` is the part of
    pytest-xdist that starts workers; it is not there when tests are only collected.
    """
    if not session.config.pluginmanager.hasplugin("dsession") or unable():
        return
    with ExitStack() as made:
        stack = made.enter_context(Stack(environment=started_cluster().environment))
        stack.up()
        session.config.stash[SIDE_BY_SIDE] = made.pop_all()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Have the tests of a group run on one worker, whatever `--dist` says."""
    return GroupScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Destroy the stack of nobody's, after the workers have ended."""
    if SIDE_BY_SIDE in session.config.stash:
        session.config.stash[SIDE_BY_SIDE].close()


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Skip tests where the cluster cannot run, and on a worker of several those that run alone; with the reason."""
    reason = unable()
    for item in items:
        if reason and item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.skip(reason=reason))
        elif item.get_closest_marker("alone") and is_xdist_worker(session):
            item.add_marker(pytest.mark.skip(reason="it is marked `alone`: run it without -n"))


def started_cluster() -> Cluster:
    """The local cluster with its default nodes, started when it does not run, and the programs that tests need besides.

    A cluster that was made from other files than these is made anew, unless PRIVATE_REGISTRY_KEEP_CLUSTER is set.
    """
    if not os.environ.get("PRIVATE_REGISTRY_KEEP_CLUSTER"):
        local_cluster.up()
    programs.ensure(programs.TESTED)
    return running_cluster()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Dump the cluster when a test failed, before its namespace and stack are gone."""
    report = yield
    if report.failed and item.get_closest_marker("cluster") and CLUSTER.exists():
        folder = RESULTS / f"{item.path.stem}.{item.name}.{report.when}"
        local_cluster.dump(folder)
        report.sections.append(("cluster", f"what explains it is in {folder}"))
    return report


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The local cluster with its default nodes, started when it does not run, and left running."""
    return started_cluster()


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
    return demo.app_image(tmp_path_factory.mktemp("app"), "sleep", "1000000")


@pytest.fixture(scope="session")
def big_layer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A layer of two gigabytes, and the SHA-256 of what is in it, in hexadecimal digits.

    Its blocks are random bytes with their number in front. The file has gzip's format, but is not compressed: crane
    would compress any other one, twice, which takes longer than to push it.
    """
    path = tmp_path_factory.mktemp("layer") / "layer.tar.gz"
    digest, block = hashlib.sha256(), os.urandom(10**6)
    with gzip.open(path, "wb", compresslevel=0) as file:
        for number in range(BIG_LAYER_BYTES // len(block)):
            numbered = number.to_bytes(4) + block[4:]
            file.write(numbered)
            digest.update(numbered)
    yield path, digest.hexdigest()
    path.unlink()


@pytest.fixture(scope="module", params=EXPOSURES)
def client_registry(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """A registry for clients, one after the other at each exposure."""
    with registry_for_clients(cluster, tmp_path_factory.mktemp("deployed"), request.param) as deployed:
        yield deployed


@pytest.fixture(scope="module")
def default_stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """A stack with the default settings, for all tests of a module."""
    with deployed_stack(cluster, tmp_path_factory.mktemp("deployed")) as deployed:
        yield deployed


@pytest.fixture(scope="module")
def joined_node(cluster: Cluster) -> Iterator[str]:
    """The name of a node that joins for the tests of a module, which may disturb it."""
    with joined(cluster) as name:
        yield name


@pytest.fixture(scope="module")
def bare(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API with its controllers and nothing else: no node, no class, no load balancer."""
    with bare_cluster(cluster, tmp_path_factory.mktemp("bare")) as made:
        yield made


@pytest.fixture
def classes(bare: Cluster) -> Iterator[Cluster]:
    """The bare cluster for a test that makes classes in it, which are gone after the test."""
    yield bare
    bare.kubectl("delete", "ingressclass,storageclass", "--all")


@pytest.fixture(scope="module")
def cert_manager(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """cert-manager, for the tests of a module."""
    with controllers.cert_manager(cluster, tmp_path_factory.mktemp("cert-manager")):
        yield


@pytest.fixture(scope="module")
def gateway_controller(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """A controller of the Gateway API, for the tests of a module; gives what moves its address."""
    with controllers.gateway_controller(cluster) as move:
        yield move
