"""`nodeTrust: external`: somebody else makes the nodes trust the CA, and each is proved without anything privileged.

The nodes of the local cluster whose containerd reads no folder by itself do so since the agents of another stack have
seen to that; what these tests do on nodes is for hosts of their own.
"""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .support import messages
from .support.cluster import Cluster
from .support.diagnosis import diagnose
from .support.own_trust import forgotten, printed, pull_again, set_up
from .support.stacks import Deployed, Stack, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

POD_SECURITY = "pod-security.kubernetes.io/enforce"


@pytest.fixture
def host(cluster: Cluster, default_stack: Deployed) -> Iterator[str]:
    """A host of the user's own, at the address of the cluster's Ingress controller."""
    name = f"own-{secrets.token_hex(3)}z.{default_stack.outputs['address'].replace('.', '-')}.nip.io"
    with forgotten(cluster.nodes, name):
        yield name


def standard(cluster: Cluster, namespace: str) -> str:
    return cluster.get("namespace", namespace)["metadata"]["labels"][POD_SECURITY]


def missing(text: str) -> set[str]:
    """The nodes that do not trust the registry, as the last lines of an `up` name them."""
    end = text[text.rindex("nodes have pulled from the registry within") :]
    return {line.split(":")[0].strip() for line in end.splitlines() if ": NOT_TRUSTED, " in line}


def test_nodes_that_somebody_else_set_up_are_proved_and_one_that_is_not_is_named(
    cluster: Cluster, host: str, app_image: Path, namespace: str, default_stack: Deployed
) -> None:
    first, *others = cluster.nodes
    settings = {"host": host, "nodeTrust": "external", "readyTimeout": "60s"}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        failed = stack.up(check=False)
        text = failed.stdout + failed.stderr
        assert failed.returncode != 0
        assert missing(text) == set(cluster.nodes)
        assert messages.UNTRUSTED in text
        assert "python3 -m registry.clients --node NAME" in text
        own = namespace_of(cluster, stack)
        assert standard(cluster, own) == "restricted"

        set_up(cluster, stack, others)
        pull_again(cluster, own, others)
        failed = stack.up(check=False)
        assert failed.returncode != 0
        assert missing(failed.stdout + failed.stderr) == {first}
        diagnosis = diagnose(cluster, stack)
        assert diagnosis.faults == {("NOT_TRUSTED", "configuration")}
        assert [line.split()[0] for line in diagnosis.text.splitlines() if "NOT_TRUSTED" in line] == [first]

        set_up(cluster, stack, [first])
        pull_again(cluster, own, [first])
        assert "3 of 3" in stack.up().stdout
        assert diagnose(cluster, stack).proved
        pods = cluster.get("pods", "-n", own, "-l", "app.kubernetes.io/name=trust")["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == set(cluster.nodes)
        assert not [pod for pod in pods if "initContainers" in pod["spec"] or pod["spec"].get("hostPID")]
        assert cluster.get("resourcequotas", "-n", own)["items"] == []

        outputs = stack.outputs()
        assert outputs["registryUrl"] == host
        default_stack.ca_file.with_name("own.crt").write_text(outputs["caCertificate"])
        deployed = replace(
            default_stack, stack=stack, outputs=outputs, ca_file=default_stack.ca_file.with_name("own.crt")
        )
        deployed.crane("push", app_image, f"{host}/test/app:1")
        deployed.start_pods(namespace, f"{host}/test/app:1", cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        stack.pulumi("preview", "--expect-no-changes")


def test_a_stack_gives_its_agents_up_only_where_nodes_pull_without_them_and_takes_them_back(
    cluster: Cluster, host: str, default_stack: Deployed
) -> None:
    with Stack(environment=cluster.environment, settings={"host": host}) as stack:
        stack.up()
        own = namespace_of(cluster, stack)
        deployed = replace(default_stack, stack=stack, outputs=stack.outputs())

        def daemon_set() -> dict[str, object]:
            return cluster.get("daemonset", "trust", "-n", own)["spec"]

        before = daemon_set()
        assert all(deployed.trusted(node) for node in cluster.nodes)
        stack.pulumi("config", "set", "nodeTrust", "external")
        refused = stack.up(check=False)
        text = refused.stdout + refused.stderr
        assert refused.returncode != 0
        assert "nodeTrust cannot become external yet, and nothing was changed" in text
        assert "it pulls with the agent's file and not without" in text
        assert daemon_set() == before
        assert standard(cluster, own) == "privileged"
        assert all(deployed.trusted(node) for node in cluster.nodes)

        set_up(cluster, stack, cluster.nodes)
        given_up = stack.up()
        assert "3 of 3" in given_up.stdout
        assert standard(cluster, own) == "restricted"
        for node in cluster.nodes:
            names = {path.name for path in deployed.hosts_directory(node).iterdir()}
            assert names == {"ca.crt"}, f"the agent's file is gone from {node}, and the node's own one is not"
        assert not [pod for pod in deployed.agents() if "initContainers" in pod["spec"]]
        stack.pulumi("preview", "--expect-no-changes")

        stack.pulumi("config", "rm", "nodeTrust")
        assert "3 of 3" in stack.up().stdout
        assert standard(cluster, own) == "privileged"
        for node in cluster.nodes:
            assert len(list(deployed.hosts_directory(node).glob("private-registry.*.crt"))) == 1


def test_the_settings_of_all_kinds_of_nodes_are_in_the_cluster(cluster: Cluster, default_stack: Deployed) -> None:
    listed = cluster.run(sys.executable, "-m", "registry.clients", "--list").stdout.split("nodeTrust: external:\n")[1]
    assert len(listed.split()) > 10
    for node in listed.split():
        template = f"{{{{.data.node{node[0].upper()}{node[1:]}}}}}"
        place = ("configmap", "-n", default_stack.namespace, "client-setup", "-o", f"go-template={template}")
        text = cluster.kubectl("get", *place)
        assert text == printed(cluster, default_stack.stack, node)
        assert default_stack.host in text or default_stack.host.replace(":", "..") in text
