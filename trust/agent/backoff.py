"""Ever longer pauses between attempts at what goes on failing, so that a fault that stays costs a node nothing."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass

from .faults import Fault

LONGEST = 60.0
"""Seconds after which an attempt is made at the latest."""


@dataclass
class Backoff:
    """The attempts at one thing. A pause is a quarter of the time for which it has failed by then."""

    clock: Callable[[], float]
    """A time in seconds that never jumps."""
    _given: tuple[object, ...] = ()
    _error: OSError | Fault | None = None
    """With what the last attempt failed."""
    _since: float = 0.0
    _until: float = 0.0

    @contextlib.contextmanager
    def attempt(self, *given: object) -> Generator[None]:
        """Make an attempt, or raise what the last one raised if its pause is not over.

        `given` is what decides the result, as far as that is known: if it differs, there is no pause.
        """
        if given != self._given:
            self._given, self._error = given, None
        if self._error and self.clock() < self._until:
            raise self._error.with_traceback(None)
        try:
            yield
        except (OSError, Fault) as error:
            now = self.clock()
            self._since = self._since if self._error else now
            self._error, self._until = error, now + min(LONGEST, (now - self._since) / 4)
            raise
        self._error = None
