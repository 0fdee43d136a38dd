"""What the agent reports about its node, and how others read it: one JSON object on one line.

The same object is a line of the agent's log, the pod's termination message, and part of the agent's status file.
Readers take `reason` and `details`; `sentence` is for people only.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast

from .faults import Details, Fault

READY = "READY"
"""The reason of an outcome with which nothing stands in the way."""

_MESSAGE_BYTES = 4000
"""Just below 4096, at which the kubelet cuts a termination message; a part of it would be no JSON any more."""


@dataclass(frozen=True)
class Outcome:
    """The result of one look at the node."""

    reason: str
    """READY, or the value of a `Reason`; an agent of another version may have reasons that this one does not know."""
    sentence: str
    details: Details = field(default_factory=Details)

    @classmethod
    def of(cls, fault: Fault) -> Self:
        """The outcome of a look that ended with a fault."""
        return cls(fault.reason, fault.sentence, fault.details)

    def line(self) -> str:
        """The outcome as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def message(self) -> str:
        """The outcome as a termination message, shortened where the kubelet would cut it."""
        line = self.line()
        return line if len(line.encode()) <= _MESSAGE_BYTES else Outcome(self.reason, self.sentence[:300]).line()


def parse(found: object) -> Outcome | None:
    """The outcome in a JSON value; None if it is something else."""
    if not isinstance(found, dict):
        return None
    values = cast(dict[str, Any], found)
    reason, sentence, details = values.get("reason"), values.get("sentence", ""), values.get("details", {})
    if not (isinstance(reason, str) and isinstance(sentence, str) and isinstance(details, dict)):
        return None
    return Outcome(reason, sentence, cast(Details, details))


def outcomes(text: str) -> list[Outcome]:
    """Every outcome in a log or termination message. Lines of any other kind are ignored."""
    return list(filter(None, map(_parse_line, text.splitlines())))


def last(text: str) -> Outcome | None:
    """The last outcome in a log or termination message; None if there is none."""
    return next(reversed(outcomes(text)), None)


def _parse_line(line: str) -> Outcome | None:
    try:
        return parse(json.loads(line))
    except ValueError:
        return None
