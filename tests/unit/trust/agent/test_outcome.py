"""What an agent reports can be read again, and is never cut in the middle."""

import json

import pytest

from trust.agent import outcome
from trust.agent.faults import Fault, Reason
from trust.agent.outcome import Outcome


def test_a_fault_is_one_line_that_reads_back() -> None:
    found = Outcome.of(Fault(Reason.NO_REGISTRY, "It is so;\nmend it.", host="x", status=404))
    assert "\n" not in found.line()
    assert outcome.last(f"wrote x\n{found.line()}\nmore") == found
    assert outcome.parse(json.loads(found.line())) == found


def test_the_last_outcome_counts() -> None:
    first, second = Outcome("READY", "Yes."), Outcome("READ_ONLY", "No.")
    assert outcome.last(f"{first.line()}\n{second.line()}\n") == second


def test_a_reason_of_another_version_of_the_agent_is_read_as_it_is() -> None:
    found = outcome.parse({"reason": "SOMETHING_NEWER", "sentence": "x", "more": 1})
    assert found == Outcome("SOMETHING_NEWER", "x")


@pytest.mark.parametrize("letter", ["x", "ü", "\N{PILE OF POO}", '"'])
def test_a_termination_message_is_short_enough_and_still_json(letter: str) -> None:
    message = Outcome.of(Fault(Reason.RESTART_FAILED, letter * 5000, unit="containerd.service")).message()
    assert len(message.encode()) < 4096
    found = outcome.last(message)
    assert found is not None
    assert found.reason == Reason.RESTART_FAILED
    assert found.sentence
