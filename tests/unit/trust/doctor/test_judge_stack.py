"""The doctor names the first broken link that all nodes share."""

from dataclasses import replace
from typing import Any

import pytest

from registry.pod.trouble import Crash
from tests.unit.support.engine import Recorder, run_program
from tests.unit.trust.doctor.objects_of_a_cluster import HOST, event, node, waiting
from trust.agent import certificates
from trust.doctor.__main__ import lines
from trust.doctor.facts import Facts, Json
from trust.doctor.judge import all_proved, judge
from trust.doctor.stack import shared_fault, storage_fault
from trust.doctor.verdict import BrokenLink


def test_a_shared_fault_is_told_once_and_every_node_bears_its_code(healthy: Facts) -> None:
    facts = replace(healthy, nodes=[node("node-a"), node("node-b")], config_map=None)
    shared, reports = judge(facts)
    printed = lines(reports, shared, "pr-42", "")
    assert sum("is not there" in line for line in printed) == 1
    assert [report.verdict.code for report in reports] == ["CONFIG_MAP_MISSING"] * 2
    assert not all_proved(shared, reports)


def shared(facts: Facts) -> tuple[str, str]:
    found = shared_fault(facts)
    assert found
    assert found.sentence.endswith(".")
    return found.code, found.link


def entrances(exposure: str, **settings: str) -> list[Json]:
    """What the program makes for a way in, before anybody has published an address for it."""
    recorder = Recorder()
    run_program(recorder, exposure=exposure, **settings)
    return [
        {"kind": typ.rpartition(":")[2], **made, "status": {}}
        for (typ, _), made in recorder.resources.items()
        if typ.startswith("kubernetes:")
        and (typ.endswith((":Ingress", ":Gateway")) or made.get("spec", {}).get("type") == "LoadBalancer")
    ]


def test_the_first_broken_link_of_the_chain_is_named(healthy: Facts) -> None:
    broken = replace(healthy, daemon_set=None)
    assert shared(broken) == ("DAEMON_SET_MISSING", BrokenLink.AGENT)
    broken = replace(broken, config_map=None)
    assert shared(broken) == ("CONFIG_MAP_MISSING", BrokenLink.CONFIG_MAP)
    for exposure in ("ingress", "loadBalancer", "gateway"):
        broken = replace(broken, entrances=entrances(exposure))
        assert shared(broken) == ("NO_ADDRESS", BrokenLink.ADDRESS)
    broken = replace(broken, deployment=None)
    assert shared(broken) == ("REGISTRY_MISSING", BrokenLink.REGISTRY)
    broken = replace(broken, namespace=None)
    assert shared(broken) == ("NOT_DEPLOYED", BrokenLink.STACK)


def test_the_address_of_a_gateway_counts(healthy: Facts) -> None:
    status = {"addresses": [{"type": "IPAddress", "value": "192.0.2.1"}]}
    [gateway] = entrances("gateway")
    assert shared_fault(replace(healthy, entrances=[{**gateway, "status": status}])) is None


@pytest.mark.parametrize("exposure", ["ingress", "gateway"])
def test_a_way_in_whose_address_is_set_need_not_publish_one(healthy: Facts, exposure: str) -> None:
    silent = entrances(exposure, address="192.0.2.10")
    assert len(silent) == 1
    assert shared_fault(replace(healthy, entrances=silent)) is None


def test_another_ca_is_told_with_both_fingerprints(healthy: Facts, ca: str, other_ca: str) -> None:
    replaced = {"metadata": {"name": "private-registry"}, "data": {"host": HOST, "ca.crt": other_ca}}
    found = shared_fault(replace(healthy, config_map=replaced))
    assert found
    assert (found.code, found.link) == ("CA_REPLACED", BrokenLink.CONFIG_MAP)
    assert certificates.fingerprints(ca)[0] in found.sentence
    assert certificates.fingerprints(other_ca)[0] in found.sentence


@pytest.mark.parametrize("data", [{}, {"ca.crt": "nonsense"}, None])
def test_a_config_map_without_a_certificate_is_named(healthy: Facts, data: Json | None) -> None:
    facts = replace(healthy, config_map={"metadata": {"name": "private-registry"}, "data": data})
    assert shared(facts) == ("CA_INVALID", BrokenLink.CONFIG_MAP)


def test_another_host_in_the_config_map_is_named(healthy: Facts, ca: str) -> None:
    facts = replace(healthy, config_map={"metadata": {}, "data": {"host": "another.example.com", "ca.crt": ca}})
    assert shared(facts) == ("HOST_REPLACED", BrokenLink.CONFIG_MAP)


def registry_down(healthy: Facts, **changes: Any) -> str:
    deployment = {"metadata": {"name": "registry"}, "spec": {"replicas": 1}, "status": {}}
    found = shared_fault(replace(healthy, **{"deployment": deployment, **changes}))
    assert found
    assert (found.code, found.link) == ("REGISTRY_DOWN", BrokenLink.REGISTRY)
    return found.sentence


def test_a_registry_scaled_to_nothing_is_told_how_to_come_back(healthy: Facts) -> None:
    deployment = {"metadata": {"name": "registry"}, "spec": {"replicas": 0}, "status": {}}
    assert "--replicas=1" in registry_down(healthy, deployment=deployment)


def registry_pod(status: Json) -> Json:
    metadata = {"name": "registry-1", "labels": {"app.kubernetes.io/name": "registry"}}
    return {"metadata": metadata, "spec": {}, "status": status}


def test_a_registry_whose_image_is_not_there_is_told(healthy: Facts) -> None:
    status = {"containerStatuses": [{"name": "registry", **waiting("ErrImagePull", "registry:9: not found")}]}
    assert "registry:9: not found" in registry_down(healthy, pods=[registry_pod(status)])


def test_a_registry_that_crashes_is_told_with_its_log(healthy: Facts) -> None:
    status = {"containerStatuses": [{"name": "registry", **waiting("CrashLoopBackOff", "back-off 40s")}]}
    logs = {Crash("registry-1", "registry", previous=True): "panic: invalid region provided: x\n\ngoroutine 1:\n"}
    told = registry_down(healthy, pods=[registry_pod(status)], crashed=logs)
    assert "(the container registry ends as soon as it starts: panic: invalid region provided: x)" in told
    assert told.endswith("registry-1 -c registry --previous.")


def test_a_registry_whose_volume_is_not_there_is_told_by_the_volumes_event(healthy: Facts) -> None:
    status = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "unbound claims"}]}
    events = [
        event("PersistentVolumeClaim", "registry", "ProvisioningFailed", "no space"),
        event("Pod", "registry-1", "FailedScheduling", "unbound claims"),
    ]
    assert "ProvisioningFailed: no space" in registry_down(healthy, pods=[registry_pod(status)], events=events)


def test_a_registry_whose_pods_are_refused_is_told(healthy: Facts) -> None:
    events = [event("ReplicaSet", "registry-1", "FailedCreate", "exceeded quota")]
    assert "exceeded quota" in registry_down(healthy, pods=[], events=events)


def test_a_full_storage_is_told_beside_nodes_that_are_proved(healthy: Facts) -> None:
    said = '{"reason": "STORAGE_FULL", "sentence": "It is full: free space."}'
    facts = replace(healthy, storage=f"pushed something\n{said}\nanother line")
    shared, reports = judge(facts)
    assert all_proved(shared, reports)
    printed = lines(reports, shared, "pr-42", "", storage_fault(facts))
    assert printed[1].split(maxsplit=1) == ["registry", "STORAGE_FULL  registry: It is full: free space."]
    assert printed[2].endswith("  proved")
    recovered = replace(facts, storage=facts.storage + '\n{"reason": "READY", "sentence": "It is good."}')
    assert storage_fault(recovered) is None


def test_a_pod_that_is_not_ready_for_its_storage_is_told_in_its_own_words(healthy: Facts) -> None:
    assert healthy.deployment
    said = '{"reason": "STORAGE_NOT_WRITABLE", "sentence": "It cannot be written to: chown it."}'
    facts = replace(healthy, deployment={**healthy.deployment, "status": {}}, storage=said)
    assert shared(facts) == ("STORAGE_NOT_WRITABLE", BrokenLink.REGISTRY)
