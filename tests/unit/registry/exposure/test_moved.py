"""An address that is not the host's any more ends an `up` with what to do, not with success."""

from typing import Any

import pulumi
import pytest

from registry.exposure.address import live_addresses
from registry.exposure.moved import moved_error
from tests.unit.support.clusters import ADDRESS
from tests.unit.support.engine import Recorder, run_failing_program, run_program
from tests.unit.support.errors import says

SERVICE = "/api/v1/namespaces/registry-dev/services/load-balancer"


def balanced(*points: dict[str, str]) -> dict[str, Any]:
    return {"status": {"loadBalancer": {"ingress": list(points)}}}


@pytest.mark.parametrize(
    ("found", "addresses"),
    [
        (balanced({"ip": "10.0.0.1"}, {"hostname": "lb.example.com"}), ["10.0.0.1", "lb.example.com"]),
        ({"status": {"addresses": [{"type": "IPAddress", "value": "10.0.0.1"}]}}, ["10.0.0.1"]),
        ({"status": {"loadBalancer": {}}}, []),
        ({}, []),
    ],
)
def test_the_addresses_of_each_kind_of_object_are_found(found: dict[str, Any], addresses: list[str]) -> None:
    assert live_addresses(found) == addresses


@pytest.mark.parametrize(
    ("found", "state"),
    [(balanced({"ip": "10.0.0.2"}), "has 10.0.0.2 now"), (balanced(), "has none now"), (None, "is gone now")],
)
def test_an_address_that_has_moved_is_an_error_with_the_command_that_follows_it(found: Any, state: str) -> None:
    says(moved_error("10.0.0.1", SERVICE, found), "10.0.0.1", "services/load-balancer", state, "pulumi up --refresh")
    assert moved_error("10.0.0.1", SERVICE, balanced({"ip": "10.0.0.2"}, {"ip": "10.0.0.1"})) is None


@pytest.mark.parametrize("exposure", ["ingress", "loadBalancer"])
def test_an_up_does_not_succeed_when_the_address_has_moved_meanwhile(exposure: str) -> None:
    moved = ({"ip": "10.99.0.201"},)
    with pytest.raises(pulumi.RunError, match=f"{ADDRESS}.* has 10.99.0.201 now.*pulumi up --refresh"):
        run_failing_program(Recorder(live=moved), exposure=exposure)
    assert run_program(Recorder(live=moved), exposure=exposure, address=ADDRESS)["address"] == ADDRESS
