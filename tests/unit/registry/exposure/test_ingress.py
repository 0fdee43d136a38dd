"""The way in `ingress`: the classes that it needs, and why it gets no address."""

import pulumi
import pytest

from registry.cluster import Object
from registry.exposure.address import no_address
from registry.exposure.ingress import ingress_class_error, no_controller, same_address
from tests.unit.support.clusters import named
from tests.unit.support.errors import says


def ingress_class(name: str, *, default: bool = False) -> Object:
    return named(name, default="ingressclass.kubernetes.io/is-default-class" if default else "")


@pytest.mark.parametrize(
    ("own", "classes", "parts"),
    [
        ("", [], (":exposure is 'ingress'", "no IngressClass", "set exposure loadBalancer")),
        ("", [ingress_class("nginx")], (":ingressClass is ''", "no IngressClass is marked", "set ingressClass nginx")),
        (
            "",
            [ingress_class("traefik", default=True), ingress_class("nginx", default=True)],
            (":ingressClass is ''", "several", "nginx, traefik", "set ingressClass nginx"),
        ),
        ("gce", [], (":ingressClass is 'gce'", "no IngressClass of that name: the cluster has none")),
        ("gce", [ingress_class("nginx")], (":ingressClass is 'gce'", "has nginx", "set ingressClass nginx")),
    ],
)
def test_an_ingress_without_a_class(own: str, classes: list[Object], parts: tuple[str, ...]) -> None:
    says(ingress_class_error(own, classes), *parts)


@pytest.mark.parametrize(
    ("own", "classes"),
    [
        ("", [ingress_class("nginx"), ingress_class("traefik", default=True)]),
        ("nginx", [ingress_class("nginx"), ingress_class("traefik")]),
        ("nginx", None),
    ],
)
def test_an_ingress_with_a_class(own: str, classes: list[Object] | None) -> None:
    assert ingress_class_error(own, classes) is None


def test_the_class_of_the_stacks_own_ingress_is_as_good_as_one_that_is_set_and_is_the_advice() -> None:
    two = [ingress_class("b", default=True), ingress_class("a", default=True)]
    says(ingress_class_error("", two), "several", "set ingressClass a")
    assert ingress_class_error("", two, "b") is None
    assert ingress_class_error("", [ingress_class("a"), ingress_class("b")], "b") is None
    says(ingress_class_error("gce", two, "b"), "no IngressClass of that name", "set ingressClass b")
    assert ingress_class_error("", two, "") is None, "the cluster chose it"


def test_an_ingress_whose_class_is_gone_is_refused() -> None:
    now = [ingress_class("traefik", default=True)]
    says(ingress_class_error("", now, "nginx"), "IngressClass nginx, which is gone", "set ingressClass traefik")
    assert ingress_class_error("traefik", now, "nginx") is None
    says(ingress_class_error("", [], "nginx"), "no IngressClass")


def test_an_ingress_with_another_address_than_the_placeholder_has_two_reasons() -> None:
    same_address("10.0.0.1", ["10.0.0.2", "10.0.0.1"])
    with pytest.raises(pulumi.RunError) as caught:
        same_address("10.0.0.1", ["10.0.0.2"])
    says(caught.value, "10.0.0.2", "10.0.0.1", "pulumi up --refresh", "an address of its own", "exposure loadBalancer")


@pytest.mark.parametrize(
    ("pending", "reason"),
    [(["traefik/traefik"], "traefik/traefik"), ([], "no controller serves the IngressClass")],
)
def test_an_ingress_without_an_address_has_a_reason(pending: list[str], reason: str) -> None:
    assert reason in no_address("The Ingress controller", "2m", no_controller(pending))


@pytest.mark.parametrize("controller", ["ingress.k8s.aws/alb", "eks.amazonaws.com/alb"])
@pytest.mark.parametrize("named_by_setting", [True, False])
def test_an_ingress_class_whose_controller_takes_no_certificate_from_a_secret_is_refused(
    controller: str, named_by_setting: bool
) -> None:
    alb = {**named("alb", default="ingressclass.kubernetes.io/is-default-class"), "spec": {"controller": controller}}
    error = ingress_class_error("alb" if named_by_setting else "", [alb, named("nginx")])
    says(error, controller, "takes no certificate from a Secret", "pulumi config set exposure loadBalancer",
         "aws-load-balancer-nlb-target-type", "aws-load-balancer-scheme")  # fmt: skip
    assert ingress_class_error("nginx", [alb, named("nginx")]) is None
