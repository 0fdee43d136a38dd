"""`pulumi up` waits for the nodes that can be proved, says what it waits for, and checks an unchanged stack again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_cluster import nodes

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.diagnosis import agent_on, diagnose, wait_diagnosis
from .support.fake_nodes import fake_nodes
from .support.faults import joined
from .support.stacks import Deployed, Stack, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

VIRTUAL = {
    "fargate": {"eks.amazonaws.com/compute-type": "fargate"},
    "azure": {"type": "virtual-kubelet"},
    "kwok": {"type": "kwok"},
    "liqo": {"liqo.io/type": "virtual-node"},
}


def text_of(stack: Stack, *options: str, check: bool = True) -> str:
    """What `pulumi up` prints."""
    done = stack.pulumi("up", "--yes", "--skip-preview", *options, check=check)
    assert (done.returncode == 0) == check, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def kubelet_down(cluster: Cluster, node: str) -> Iterator[None]:
    """A node whose kubelet is down, and which Kubernetes has noticed to be so."""
    nodes.exec_in_node(node, ["systemctl", "stop", "kubelet"])
    try:
        wait_until(lambda: node not in cluster.ready_nodes(), f"{node} is not Ready", timeout=120, interval=1)
        yield
    finally:
        nodes.exec_in_node(node, ["systemctl", "start", "kubelet"])


def test_a_node_that_is_down_is_warned_of_and_proved_when_it_returns(cluster: Cluster) -> None:
    with joined(cluster) as down, Stack(environment=cluster.environment) as stack:
        with kubelet_down(cluster, down):
            began = time.monotonic()
            first = text_of(stack)
            assert time.monotonic() - began < 90
            assert f"The kubelet of node {down} is not Ready" in first
            assert "Such a node is not waited for" in first
            for node in cluster.nodes:
                assert node in first
            assert "3 of 3" in first
            assert stack.outputs()["registryUrl"]
            for options in ([], ["--refresh"]):
                again = text_of(stack, *options)
                assert f"The kubelet of node {down} is not Ready" in again
                assert "node-a, node-b, node-c: proved, 3 of 3" in again
        wait_diagnosis(cluster, stack, timeout=120)
        assert "4 of 4" in text_of(stack)


def test_virtual_nodes_get_no_agent_and_do_not_count(cluster: Cluster) -> None:
    with fake_nodes(cluster, **VIRTUAL), Stack(environment=cluster.environment) as stack:
        assert "3 of 3" in text_of(stack)
        namespace = stack.outputs()["namespace"]
        pods = cluster.get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=trust")["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == set(cluster.nodes)
        diagnosis = diagnose(cluster, stack)
        assert diagnosis.proved
        left_out = [line for line in diagnosis.text.splitlines() if "VIRTUAL_NODE" in line]
        assert [line.split()[0] for line in left_out] == sorted(f"fake-{ending}" for ending in VIRTUAL)
        assert all(line.endswith("(not counted)") for line in left_out)


def test_a_machine_that_the_proof_cannot_run_on_is_warned_of_and_not_waited_for(cluster: Cluster) -> None:
    other = {"riscv": {"kubernetes.io/arch": "riscv64"}}
    with fake_nodes(cluster, **other), Stack(environment=cluster.environment) as stack:
        done = text_of(stack)
        assert "3 of 3" in done
        assert "Node fake-riscv is a machine of the architecture riscv64, which the proof image is not for" in done
        namespace = stack.outputs()["namespace"]
        pods = cluster.get("pods", "-n", namespace, "-l", "app.kubernetes.io/name=trust")["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == set(cluster.nodes)
        diagnosis = diagnose(cluster, stack)
        assert diagnosis.proved
        [left_out] = [line for line in diagnosis.text.splitlines() if "OTHER_ARCHITECTURE" in line]
        assert left_out.startswith("fake-riscv")
        assert left_out.endswith("(not counted)")


def test_a_fake_node_that_claims_to_be_a_machine_is_waited_for_and_named(cluster: Cluster) -> None:
    fake = {"machine": {"example.com/fake": "machine"}}
    with Stack(environment=cluster.environment, settings={"readyTimeout": "30s"}) as stack:
        with fake_nodes(cluster, **fake):
            failed = text_of(stack, check=False)
        # No kubelet ends the pod that was there, so it is removed as it is by hand when a machine is gone for good.
        place = ("-n", namespace_of(cluster, stack), "--field-selector=spec.nodeName=fake-machine")
        cluster.kubectl("delete", "pod", *place, "--force", "--grace-period=0")
        assert "3 of 4 nodes have pulled from the registry within 30s (the setting readyTimeout)" in failed
        assert "fake-machine: STARTING" in failed
        assert "registryUrl" not in stack.outputs()


def test_a_changed_agent_is_waited_for_on_every_node(cluster: Cluster, default_stack: Deployed) -> None:
    stack = default_stack.stack
    before = default_stack.ready_agents()
    stack.pulumi("config", "set", "runtimeRestart", "false")
    changed = text_of(stack)
    pods = [pod for pod in default_stack.agents() if "deletionTimestamp" not in pod["metadata"]]
    assert len(pods) == len(cluster.nodes)
    assert not before & default_stack.ready_agents()
    assert len(default_stack.ready_agents()) == len(cluster.nodes)
    assert "3 of 3" in changed
    again = text_of(stack, "--refresh")
    assert "unchanged" in again
    assert "replaced" not in again
    stack.pulumi("config", "rm", "runtimeRestart")
    text_of(stack)


def test_an_unchanged_up_checks_the_promise_again_and_says_whom_only_the_controller_is_refused(
    cluster: Cluster, default_stack: Deployed
) -> None:
    stack, node = default_stack.stack, cluster.nodes[-1]
    words = "no privileged pods of controllers"
    rule = "!object.spec.?initContainers.orValue([]).exists(c, c.?securityContext.?privileged.orValue(false))"
    spec = {"validations": [{"expression": rule, "message": words}]}
    where = (
        f"request.namespace == '{default_stack.namespace}' && "
        "request.userInfo.username == 'system:serviceaccount:kube-system:daemon-set-controller'"
    )
    deny = {"validationActions": ["Deny"]}
    assert "node-a, node-b, node-c: proved, 3 of 3" in text_of(stack)
    stack.pulumi("config", "set", "readyTimeout", "20s")
    with cluster.policy("ValidatingAdmissionPolicy", "not-for-controllers", "/pods", spec, deny, where):
        time.sleep(3)  # a dry run cannot tell when the policy is in force, as it is for one user only
        cluster.kubectl("delete", "pod", "-n", default_stack.namespace, agent_on(default_stack, node), timeout=60)
        failed = text_of(stack, check=False)
        waits = failed.index("Waiting for 1 of 3 nodes")
        assert f"{node}: POD_REFUSED" in failed[waits:]
        assert words in failed[waits:]
        assert "2 of 3 nodes have pulled from the registry within 20s" in failed
        assert failed.count("privileged pods in the namespace") == 0, "the dry run of the user had passed"
    stack.pulumi("config", "rm", "readyTimeout")
    again = "test/again=1"
    cluster.kubectl("annotate", "--overwrite", "daemonset/trust", "-n", default_stack.namespace, again)
    assert "3 of 3" in text_of(stack)
