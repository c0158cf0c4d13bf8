"""When a missing replica may be started."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_FIRST_S = 0.1
_MOST_S = 10.0
_MEMORY_S = 3 * _MOST_S


class Backoff:
    """At once, unless replicas have just failed or died one after the other: then later each time.

    Attributes:
        failures: Replicas that did not come up, since one has.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        self._deaths: deque[float] = deque(maxlen=8)
        self._starts_at = 0.0
        self._now = now

    @property
    def is_over(self) -> bool:
        """Whether one may be started."""
        return self._now() >= self._starts_at

    def came_up(self) -> None:
        """Take note of a replica that answers."""
        self.failures = 0

    def failed(self) -> None:
        """Take note of one that has not come up."""
        self.failures += 1
        self._wait(self.failures)

    def died(self, *, is_missed: bool) -> None:
        """Take note of one that answered; `is_missed`: another one is to take its place."""
        now = self._now()
        self._deaths.append(now)
        if is_missed:
            self._wait(sum(now - one < _MEMORY_S for one in self._deaths) - 1)

    def _wait(self, times: int) -> None:
        self._starts_at = self._now() + (min(_FIRST_S * 2.0**times, _MOST_S) if times else 0.0)
