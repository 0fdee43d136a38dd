"""Load balancers as clouds and companies have them: they want annotations, and some have names that DNS learns late."""

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from local_cluster import network
from registry.hostname import named_after

from .support.cluster import Cluster
from .support.commands import wait_until
from .support.controllers import ingress_controller
from .support.faults import on
from .support.own_names import local_names, tell, untell
from .support.stacks import Stack, namespace_of, namespaces_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

IN_MEMORY = {"storage": "memory", "storageSize": "1Gi"}
INTERNAL = "example.com/internal"
POOL = "metallb.io/address-pool"
SECOND = "10.99.0.221"
"""The only address of the second pool."""


@contextmanager
def second_pool(cluster: Cluster) -> Iterator[str]:
    """A pool of addresses from which a load balancer gets one only if it asks for it."""
    name = f"second-{secrets.token_hex(3)}"
    cluster.apply(
        {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "IPAddressPool",
            "metadata": {"name": name, "namespace": "metallb-system"},
            "spec": {"addresses": [f"{SECOND}/32"], "autoAssign": False},
        }
    )
    try:
        yield name
    finally:
        cluster.kubectl("delete", "ipaddresspool", name, "-n", "metallb-system")


def test_a_policy_that_wants_an_annotation_is_fulfilled_and_the_annotation_chooses_the_pool(
    cluster: Cluster, namespace: str
) -> None:
    words = "internal load balancers only"
    annotated = f"object.metadata.?annotations['{INTERNAL}'].orValue('') == 'yes'"
    rule = f"object.spec.?type.orValue('') != 'LoadBalancer' || {annotated}"
    spec = {"validations": [{"expression": rule, "message": words}]}
    deny = {"validationActions": ["Deny"]}
    settings = {"exposure": "loadBalancer", **IN_MEMORY}
    probe = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 443}]},
    }
    with second_pool(cluster) as pool, Stack(environment=cluster.environment, settings=settings) as stack:
        where = f"request.namespace == '{namespace}' || request.namespace.startsWith('registry-{stack.name}')"
        with cluster.policy("ValidatingAdmissionPolicy", f"internal-{stack.name}", "/services", spec, deny, where):
            wait_until(lambda: words in cluster.dry_run(probe).stderr, "the policy counts", timeout=30)
            refused = stack.up(check=False)
            assert refused.returncode != 0
            assert words in refused.stdout + refused.stderr
            for key, value in ((INTERNAL, "yes"), (POOL, pool)):
                stack.pulumi("config", "set", "--path", f'serviceAnnotations["{key}"]', value)
            stack.pulumi("config", "set", "--path", "allowedSources[0]", str(network.SUBNET))
            stack.up()
            outputs = stack.outputs()
            assert outputs["address"] == SECOND
            service = cluster.get("service", "load-balancer", "-n", outputs["namespace"])
            assert service["spec"]["loadBalancerSourceRanges"] == [str(network.SUBNET)]
            stack.pulumi("preview", "--expect-no-changes")


def test_an_up_succeeds_only_where_the_load_balancer_is_also_after_it_has_moved_or_its_annotations_have(
    cluster: Cluster,
) -> None:
    by_hand, annotation = "10.99.0.214", "metallb.io/loadBalancerIPs"
    with (
        second_pool(cluster) as pool,
        Stack(environment=cluster.environment, settings={"exposure": "loadBalancer", **IN_MEMORY}) as stack,
    ):

        def follow() -> None:
            stack.pulumi("up", "--yes", "--skip-preview", "--refresh")

        def has_noticed() -> bool:
            agents = ("-l", "app.kubernetes.io/name=trust", "-c", "agent", "--tail=200")
            return "NO_CONNECTION" in cluster.kubectl("logs", "-n", outputs["namespace"], *agents)

        stack.up()
        outputs = stack.outputs()
        path = ("service", "load-balancer", "-n", outputs["namespace"])
        cluster.kubectl("annotate", *path, f"{annotation}={by_hand}")
        points = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}"
        wait_until(lambda: cluster.kubectl("get", *path, points) == by_hand, f"the address is {by_hand}", timeout=30)
        for _ in range(2):
            failed = stack.up(check=False)
            assert failed.returncode != 0
            moved = (
                f"leads to the address {outputs['address']}, but services/load-balancer, which serves it, has {by_hand}"
            )
            assert moved in " ".join((failed.stdout + failed.stderr).split())
            wait_until(has_noticed, "an agent has noticed, too, and that is not what the next up says", timeout=90)
        follow()
        assert stack.outputs()["address"] == by_hand
        cluster.kubectl("annotate", *path, f"{annotation}-")
        stack.pulumi("config", "set", "--path", f'serviceAnnotations["{POOL}"]', pool)
        if stack.up(check=False).returncode:  # MetalLB moves it while `up` goes on, or has done so before
            follow()
        assert stack.outputs()["address"] == SECOND
        stack.pulumi("preview", "--expect-no-changes")


def test_a_node_port_has_the_number_that_was_asked_for_if_the_cluster_gives_it(
    cluster: Cluster, namespace: str
) -> None:
    cluster.kubectl("create", "service", "nodeport", "taken", "--tcp=443", "-n", namespace)
    taken = str(cluster.get("service", "taken", "-n", namespace)["spec"]["ports"][0]["nodePort"])
    settings = {"exposure": "nodePort", "nodePort": taken, **IN_MEMORY}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        failed = stack.up(check=False)
        assert f"the Service {namespace}/taken has this port of the nodes" in failed.stdout + failed.stderr
        assert namespaces_of(cluster, stack) == []
        cluster.kubectl("delete", "service", "taken", "-n", namespace)
        stack.up()
        assert stack.outputs()["registryUrl"].endswith(f":{taken}")
        stack.up()
        stack.pulumi("config", "set", "nodePort", "20000")
        failed = stack.up(check=False)
        assert "from 30000 to 32767 only" in failed.stdout + failed.stderr
        assert "provided port is not in the valid range" in failed.stdout + failed.stderr


def load_balancer_of_others(cluster: Cluster, stack: Stack, name: str, stop: threading.Event) -> str:
    """Do as a cloud does: make a load balancer for the Service whose class is ours, and publish its name; its address.

    The load balancer is another Service, to which MetalLB gives an address.
    """
    while not (found := namespaces_of(cluster, stack)) or not cluster.get("services", "-n", found[0])["items"]:
        assert not stop.wait(0.5)
    [own] = found

    def service(which: str) -> Mapping[str, Any]:
        found = cluster.get("services", "-n", own)["items"]
        return next((each for each in found if each["metadata"]["name"] == which), {})

    while not service("load-balancer"):
        assert not stop.wait(0.5)
    labels = service("load-balancer")["spec"]["selector"]
    ports = [{"name": "tls", "port": 443, "targetPort": "tls"}]
    metadata = {"name": "cloud", "namespace": own}
    spec = {"type": "LoadBalancer", "selector": labels, "ports": ports}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    while not (points := service("cloud")["status"].get("loadBalancer", {}).get("ingress")):
        assert not stop.wait(0.5)
    status = {"status": {"loadBalancer": {"ingress": [{"hostname": name}]}}}
    patch = ("--subresource=status", "--type=merge", "-p", json.dumps(status))
    cluster.kubectl("patch", "service", "load-balancer", "-n", own, *patch)
    return points[0]["ip"]


def test_a_load_balancers_name_that_dns_learns_late_is_waited_for_before_any_node_is_asked(cluster: Cluster) -> None:
    name = f"lb-{secrets.token_hex(3)}.example.test"
    settings = {"exposure": "loadBalancer", "loadBalancerClass": "example.com/late", **IN_MEMORY}
    seen: dict[str, Any] = {}
    stop = threading.Event()
    with local_names() as names, Stack(environment=cluster.environment, settings=settings) as stack:

        def cloud() -> None:
            address = load_balancer_of_others(cluster, stack, name, stop)
            own = namespace_of(cluster, stack)
            wait_until(lambda: cluster.get("deployments", "-n", own)["items"], "the registry is made", timeout=60)
            while not cluster.get("deployments", "-n", own)["items"][0]["status"].get("readyReplicas"):
                assert not stop.wait(0.5)
            stop.wait(15)  # in this time the nodes would be asked, if nothing were waited for
            seen["early"] = cluster.get("daemonsets", "-n", own)["items"]
            tell(cluster, names, address, name)

        thread = threading.Thread(target=cloud, daemon=True)
        thread.start()
        try:
            done = stack.up()
        finally:
            stop.set()
            thread.join()
            untell(cluster, name)
        assert seen["early"] == [], "no node is asked before the name is known"
        assert f"Waiting until DNS knows {name}" in done.stdout
        assert "3 of 3" in done.stdout
        assert stack.outputs()["registryUrl"] == name


def test_the_second_stack_behind_a_load_balancers_name_is_refused_and_lives_with_a_host_of_its_own(
    cluster: Cluster,
) -> None:
    address, name = "10.99.0.216", f"many-{secrets.token_hex(3)}"
    hostname, own = (f"{kind}-{name}.{address.replace('.', '-')}.nip.io" for kind in ("lb", "own"))
    settings = {"ingressClass": name, **IN_MEMORY}
    with (
        ingress_controller(cluster, name, address, hostname),
        Stack(environment=cluster.environment, settings=settings) as one,
        Stack(environment=cluster.environment, settings=settings) as two,
    ):
        one.up()
        assert one.outputs()["registryUrl"] == hostname
        failed = two.up(check=False)
        text = failed.stdout + failed.stderr
        assert f"The host {hostname} is served by the Ingress {namespace_of(cluster, one)}/ingress-" in text
        assert "set host to a name of your own" in text
        made = cluster.get("ingresses", "-n", namespace_of(cluster, two))["items"]
        assert [each["metadata"]["name"] for each in made] == [named_after("ingress-placeholder", name)]
        two.pulumi("config", "set", "host", own)
        two.up()
        assert two.outputs()["registryUrl"] == own
        one.pulumi("preview", "--expect-no-changes")


def test_an_application_load_balancers_class_is_refused_before_anything_is_made(cluster: Cluster) -> None:
    name = f"alb-{secrets.token_hex(3)}"
    alb = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": "ingress.k8s.aws/alb"},
    }
    cluster.apply(alb)
    try:
        with Stack(environment=cluster.environment, settings={"ingressClass": name}) as stack:
            failed = stack.up(check=False)
            assert "takes no certificate from a Secret" in failed.stdout + failed.stderr
            assert "pulumi config set exposure loadBalancer" in failed.stdout + failed.stderr
            assert namespaces_of(cluster, stack) == []
    finally:
        cluster.kubectl("delete", "ingressclass", name)


def test_a_node_that_the_load_balancer_does_not_lead_back_to_itself_is_named_with_the_fix(cluster: Cluster) -> None:
    settings = {"exposure": "loadBalancer", "readyTimeout": "40s", **IN_MEMORY}
    with Stack(environment=cluster.environment, settings=settings) as stack:
        stack.up()
        outputs = stack.outputs()
        own, route = outputs["namespace"], ("unreachable", outputs["address"])
        [registry] = cluster.get("pods", "-n", own, "-l", "app.kubernetes.io/name=registry")["items"]
        home = registry["spec"]["nodeName"]
        on(home, "ip", "route", "add", *route)
        try:
            place = ("-n", own, "-l", "app.kubernetes.io/name=trust", f"--field-selector=spec.nodeName={home}")
            cluster.kubectl("delete", "pod", *place, timeout=90)
            failed = stack.up(check=False)
        finally:
            on(home, "ip", "route", "del", *route)
        text = failed.stdout + failed.stderr
        end = text[text.index("nodes have pulled from the registry within") :]
        assert f"{home}: NO_CONNECTION" in end
        assert "The registry's own pod runs on this node" in end
        assert "aws-load-balancer-nlb-target-type" in end
        wait_until(lambda: "3 of 3" in stack.up(check=False).stdout, "all are proved again", timeout=120)
