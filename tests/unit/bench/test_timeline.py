"""What the bench reads out of an `up`: its steps, and the objects that kubectl is given."""

import json

from bench.timeline import Step, objects_of, steps_of

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
    start, *objects, end = steps_of(LINES, 10.0)
    assert (start.begin, start.end) == (0, 2.0)
    assert objects == [
        Step("Namespace namespace", 2.0, 2.5),
        Step("Deployment registry-deployment", 3.0, 8.0),
    ]
    assert (end.begin, end.end) == (8.0, 10.0)


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
