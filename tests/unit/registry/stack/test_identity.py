"""The labels by which somebody without the stack's state finds out whose a namespace is."""

import re

import pulumi
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry.stack.identity import explain_conflict, label_value, namespace_annotations, namespace_labels


@given(st.text(max_size=150))
@example("-a-")
@example("Feature_X.long" * 7)
def test_every_name_becomes_the_value_of_a_label(text: str) -> None:
    assert re.fullmatch("(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?", label_value(text))


def test_a_plain_name_stays_as_it_is() -> None:
    labels = namespace_labels("private-registry", "pr-42", "0123456789ab")
    assert labels["private-registry/stack"] == "pr-42"
    assert labels["private-registry/instance"] == "0123456789ab"


def test_each_instance_makes_its_namespace_under_a_name_of_its_own_and_forces_nothing() -> None:
    one, two = (namespace_annotations("private-registry", "pr-42", instance) for instance in ("0123", "4567"))
    assert one["pulumi.com/patchFieldManager"] != two["pulumi.com/patchFieldManager"]
    assert "pulumi.com/patchForce" not in one


CONFLICT = 'Apply failed with 2 conflicts: conflicts with "private-registry-4567" using v1:'


@pytest.mark.parametrize(
    ("operation", "error", "said"),
    [
        (
            "create",
            CONFLICT,
            "The namespace registry-pr-42 is not this stack's: somebody else has made it at the same moment, such as "
            "another stack with the same setting namespace. Nothing of it was changed. Choose another name: pulumi "
            "config set namespace registry-pr-43",
        ),
        (
            "update",
            CONFLICT,
            "The namespace registry-pr-42 is this stack's, but somebody else has changed labels or annotations of it, "
            "which the error names. Take them off, so that they are set again: kubectl label namespace registry-pr-42 "
            "KEY- (or kubectl annotate), then pulumi up --refresh",
        ),
        ("create", "denied the request: no", ""),
    ],
)
def test_a_namespace_whose_fields_somebody_else_has_set_is_explained(
    operation: str, error: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(pulumi.log, "error", lines.append)
    inputs = {"metadata": {"name": "registry-pr-42"}}
    failed = pulumi.ErrorHookArgs(
        "urn", "id", "namespace", "type", new_inputs=inputs, failed_operation=operation, errors=[error]
    )
    assert explain_conflict(failed) is False
    assert lines == [said] * bool(said)
