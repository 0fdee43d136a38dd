"""What the bench reads out of an `up`: its steps, and the objects that kubectl is given."""

import json
from typing import Any

from bench.timeline import Step, objects_of, pod_steps, steps_of

LINES = (
    (1.0, "Updating (dev):\n"),
    (1.5, " +  pulumi:pulumi:Stack private-registry-dev creating (0s) \n"),
    (2.0, " +  kubernetes:core/v1:Namespace namespace creating (0s) \n"),
    (2.1, " +  kubernetes:core/v1:Namespace namespace creating (0s) \n"),
    (2.5, " +  kubernetes:core/v1:Namespace namespace created (0.04s) \n"),
    (3.0, " +  kubernetes:apps/v1:Deployment registry-deployment creating (0s) \n"),
    (4.0, " +  tls:index:PrivateKey certificate-key created (0.14s) \n"),
    (8.0, " +  kubernetes:apps/v1:Deployment registry-deployment created (5s) \n"),
)


def test_the_steps_of_an_up_are_the_start_each_object_and_the_end() -> None:
    start, *objects, end = steps_of(LINES, [Step("pods of x, until they are ready", 2.7, 9.0)], 10.0)
    assert (start.begin, start.end) == (0, 2.0)
    assert objects == [
        Step("Namespace namespace", 2.0, 2.5),
        Step("pods of x, until they are ready", 2.7, 9.0),
        Step("Deployment registry-deployment", 3.0, 8.0),
    ]
    assert (end.begin, end.end) == (9.0, 10.0)
    assert steps_of(LINES, [Step("late", 3, 10.7)], 10.0)[-1] == Step("end", 10.0, 10.0), (
        "whole seconds can be too many"
    )


def test_the_pods_of_a_kind_are_one_step_from_the_first_that_is_made_to_the_last_that_is_ready() -> None:
    def pod(name: str, made: int, ready: int) -> dict[str, Any]:
        conditions = [
            {"type": "PodScheduled"},
            {"type": "Ready", "lastTransitionTime": f"1970-01-01T00:01:{ready:02}Z"},
        ]
        metadata = {"creationTimestamp": f"1970-01-01T00:01:{made:02}Z", "labels": {"app.kubernetes.io/name": name}}
        return {"metadata": metadata, "status": {"conditions": conditions}}

    found = pod_steps([pod("trust", 13, 19), pod("registry", 9, 16), pod("trust", 12, 18)], 70.5)
    assert found == [
        Step("pods of trust, until they are ready", 1.5, 8.5),
        Step("pods of registry, until they are ready", 0, 5.5),
    ]


def test_kubectl_gets_the_objects_with_their_secrets_and_nothing_of_pulumi() -> None:
    secret = {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
        "plaintext": json.dumps({"a": "b"}),
    }
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "type": ["Opaque"]}
    types = (
        "pulumi:pulumi:Stack",
        "pulumi:providers:kubernetes",
        "tls:index:PrivateKey",
        "kubernetes:core/v1:ServicePatch",
    )
    resources = [
        *({"type": each, "inputs": {}} for each in types),
        {"type": "kubernetes:core/v1:Secret", "inputs": {**manifest, "stringData": secret, "__defaults": []}},
    ]
    assert objects_of({"deployment": {"resources": resources}}) == [{**manifest, "stringData": {"a": "b"}}]
