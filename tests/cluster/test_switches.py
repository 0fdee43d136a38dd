"""The way in of a running stack changes: nothing old is in the way, and the images stay."""

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import get_args

import pytest

from registry.exposure.gateway import ROUTE_VERSIONS
from registry.settings import Exposure

from .support.changes import CHANGES
from .support.cluster import Cluster
from .support.commands import wait_until
from .support.controllers import GATEWAY_API, ingress_controller
from .support.loop import Loop
from .support.stacks import Deployed, Stack, deployed_stack

pytestmark = pytest.mark.cluster

SERVICES = {"ingress": set[str](), "loadBalancer": {"load-balancer"}, "nodePort": {"node-port"}, "gateway": {"gateway"}}
"""The Services of each way in, besides the guard and the one with the plain port."""
EVERY_PAIR = (
    "ingress", "nodePort", "ingress", "loadBalancer", "ingress", "gateway", "nodePort", "loadBalancer", "nodePort",
    "gateway", "loadBalancer", "gateway", "ingress",
)  # fmt: skip


def switch_through(
    cluster: Cluster,
    folder: Path,
    app_image: Path,
    namespace: str,
    exposures: tuple[str, ...],
    *,
    under_a_loop: bool = False,
) -> list[Deployed]:
    """Bring a stack up with the first exposure, and then change it to each of the others."""
    found: list[Deployed] = []
    with deployed_stack(cluster, folder, {"exposure": exposures[0]}) as deployed:
        deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
        digest = deployed.crane("digest", f"{deployed.host}/test/app:1")
        with Loop(deployed, namespace, folder) if under_a_loop else nullcontext() as loop:
            for number, exposure in enumerate(exposures):
                if number:
                    deployed.stack.set(exposure=exposure)
                    deployed.stack.up()
                now = replace(deployed, outputs=deployed.stack.outputs())
                found.append(now)
                image = f"{now.host}/test/app:1"
                assert now.crane("digest", image) == digest
                services = cluster.get("services", "-n", now.namespace)["items"]
                guard = f"only-on-cluster-{now.outputs['clusterId'][:8]}"
                assert {each["metadata"]["name"] for each in services} == {"registry", guard, *SERVICES[exposure]}
                if loop:
                    loop.use(now.outputs)
                    loop.settle()
                else:
                    name = f"app-{number}"
                    now.start_pods(namespace, image, cluster.nodes, name=name)
                    now.assert_running(namespace, cluster.nodes, name=name, timeout=60)
                now.stack.pulumi("preview", "--expect-no-changes")
            if loop:
                loop.check(CHANGES["exposure"].allowed)
    return found


@pytest.mark.provider
def test_the_way_in_of_a_running_stack_can_be_changed(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    ingress, node_port, load_balancer = switch_through(
        cluster, tmp_path, app_image, namespace, ("ingress", "nodePort", "loadBalancer")
    )
    assert ":" in node_port.host
    assert len({ingress.host, node_port.host, load_balancer.host}) == 3
    assert ingress.ca == node_port.ca == load_balancer.ca
    assert ingress.outputs["password"] == load_balancer.outputs["password"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("gateway_controller")
def test_every_change_of_the_way_in_works(cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str) -> None:
    exposures = get_args(Exposure)
    assert set(pairwise(EVERY_PAIR)) == {(one, other) for one in exposures for other in exposures if one != other}
    found = switch_through(cluster, tmp_path, app_image, namespace, EVERY_PAIR, under_a_loop=True)
    assert len({each.ca for each in found}) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_another_ingress_class_moves_everything_to_its_controller_and_stays_when_the_setting_goes(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    name, address = f"other-{token_hex(3)}", "10.99.0.215"
    with ingress_controller(cluster, name, address), deployed_stack(cluster, tmp_path) as deployed:
        deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
        digest = deployed.crane("digest", f"{deployed.host}/test/app:1")
        first = deployed.outputs["address"]
        with Loop(deployed, namespace, tmp_path) as loop:
            for ingress_class, expected in ((name, address), ("", address), ("traefik", first)):
                deployed.stack.set(ingressClass=ingress_class)
                deployed.stack.up()
                now = replace(deployed, outputs=deployed.stack.outputs())
                loop.use(now.outputs)
                assert now.outputs["address"] == expected
                assert now.crane("digest", f"{now.host}/test/app:1") == digest
                made = cluster.get("ingresses", "-n", now.namespace)["items"]
                classes = {each["spec"]["ingressClassName"] for each in made}
                assert (len(made), classes) == (2, {name if expected == address else "traefik"})
                now.stack.pulumi("preview", "--expect-no-changes")
                loop.settle()
            loop.check(CHANGES["ingressClass"].allowed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_another_node_port_is_the_registrys_when_up_has_ended(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    with deployed_stack(cluster, tmp_path, {"exposure": "nodePort"}) as deployed:
        deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
        digest = deployed.crane("digest", f"{deployed.host}/test/app:1")
        name, _, port = deployed.host.partition(":")
        deployed.stack.set(nodePort=port)  # the one that it has by chance is kept
        deployed.stack.up()
        assert deployed.stack.outputs()["registryUrl"] == deployed.host
        cluster.kubectl("create", "service", "nodeport", "free", "--tcp=443", "-n", namespace)
        free = str(cluster.get("service", "free", "-n", namespace)["spec"]["ports"][0]["nodePort"])
        cluster.kubectl("delete", "service", "free", "-n", namespace)
        with Loop(deployed, namespace, tmp_path) as loop:
            began = time.monotonic()
            deployed.stack.set(nodePort=free)
            deployed.stack.up()
            now = replace(deployed, outputs=deployed.stack.outputs())
            loop.use(now.outputs)
            loop.settle()
            assert CHANGES["nodePort"].until_the_end
            loop.check(time.monotonic() - began)
        assert now.host == f"{name}:{free}"
        assert now.crane("digest", f"{now.host}/test/app:1") == digest
        now.stack.pulumi("preview", "--expect-no-changes")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("gateway_controller")
def test_a_gateway_api_that_is_upgraded_under_a_stack_keeps_its_route(
    cluster: Cluster, tmp_path: Path, app_image: Path, namespace: str
) -> None:
    kind = f"tlsroutes.{GATEWAY_API}"
    versions = [each["name"] for each in cluster.get("customresourcedefinition", kind)["spec"]["versions"]]
    newer, older = (ROUTE_VERSIONS[number] for number in (1, 2))
    assert set(versions) == {newer, older}

    def serve(served: bool) -> None:
        """Have the cluster serve the newer version as well, or the older one alone."""
        change = {"op": "replace", "path": f"/spec/versions/{versions.index(newer)}/served", "value": served}
        cluster.kubectl("patch", "customresourcedefinition", kind, "--type=json", "-p", json.dumps([change]))

        def known() -> bool:
            answer = cluster.run("kubectl", "get", "--raw", f"/apis/{GATEWAY_API}/{newer}", check=False)
            return '"TLSRoute"' in answer.stdout

        wait_until(lambda: known() == served, f"{newer} is served: {served}", timeout=60)

    def types(stack: Stack) -> set[str]:
        resources = json.loads(stack.state())["deployment"]["resources"]
        return {each["type"] for each in resources if each["type"].endswith(":TLSRoute")}

    def route(deployed: Deployed) -> str:
        [found] = cluster.get(kind, "-n", deployed.namespace)["items"]
        return found["metadata"]["uid"]

    serve(False)
    try:
        with deployed_stack(cluster, tmp_path, {"exposure": "gateway"}) as deployed:
            assert types(deployed.stack) == {f"kubernetes:{GATEWAY_API}/{older}:TLSRoute"}
            deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
            before = route(deployed)
            serve(True)
            deployed.stack.up()
            assert types(deployed.stack) == {f"kubernetes:{GATEWAY_API}/{newer}:TLSRoute"}
            assert route(deployed) == before
            deployed.start_pods(namespace, f"{deployed.host}/test/app:1", cluster.nodes)
            deployed.assert_running(namespace, cluster.nodes, timeout=60)
            deployed.stack.pulumi("preview", "--expect-no-changes")
    finally:
        serve(True)


@pytest.mark.slow
@pytest.mark.usefixtures("gateway_controller")
@pytest.mark.parametrize(
    ("first", "then"),
    [(first, then) for first in ("ingress", "gateway") for then in get_args(Exposure) if first != then],
)
def test_every_other_way_in_works_after_an_up_that_got_no_address(
    cluster: Cluster, tmp_path: Path, app_image: Path, first: str, then: str
) -> None:
    nobodys = f"nobody-{token_hex(3)}"
    spec = {"controller": "example.com/nobody"}
    cluster.apply(
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": nobodys}, "spec": spec}
    )
    without = {"ingress": {"ingressClass": nobodys}, "gateway": {"gatewayPort": "8444"}}[first]
    settings = {"exposure": first, "addressTimeout": "5s", **without}
    try:
        with Stack(environment=cluster.environment, settings=settings) as stack:
            failed = stack.up(check=False)
            assert failed.returncode != 0
            assert "pulumi config set exposure" in failed.stdout + failed.stderr
            stack.set(exposure=then, **{key: "" for key in (*without, "addressTimeout")})
            stack.up()
            deployed = Deployed.of(cluster, stack, tmp_path)
            deployed.crane("push", app_image, f"{deployed.host}/test/app:1")
            stack.pulumi("preview", "--expect-no-changes")
    finally:
        cluster.kubectl("delete", "ingressclass", nobodys)
