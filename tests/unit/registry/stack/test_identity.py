"""The labels by which somebody without the stack's state finds out whose a namespace is."""

import re

from hypothesis import example, given
from hypothesis import strategies as st

from registry.stack.identity import label_value, namespace_labels


@given(st.text(max_size=150))
@example("-a-")
@example("Feature_X.long" * 7)
def test_every_name_becomes_the_value_of_a_label(text: str) -> None:
    assert re.fullmatch("(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?", label_value(text))


def test_a_plain_name_stays_as_it_is() -> None:
    labels = namespace_labels("private-registry", "pr-42", "0123456789ab")
    assert labels["private-registry/stack"] == "pr-42"
    assert labels["private-registry/instance"] == "0123456789ab"
