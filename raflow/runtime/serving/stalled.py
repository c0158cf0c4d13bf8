"""Ends connections whose clients do not read: what is unsent would be held for ever, and who sends it, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

_LOOK_S = 1.0


class _Seen(NamedTuple):
    unsent: int
    resumed: int
    waited_s: float
    """Since something was last sent, as far as is known."""


class Stalled:
    """Looks at connections from time to time.

    A timer in `pause_writing` would not do: of one large reply a client may read for long before anything resumes,
    and what is left of a reply when its connection is closed may be too little to pause anything.

    Args:
        timeout_s: How long nothing may be sent of what waits to be.
        now: The clock.
    """

    def __init__(self, timeout_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._pause_s = min(_LOOK_S, timeout_s / 4)
        self._now = now
        self._looked = now()
        self._seen: dict[Any, _Seen] = {}

    def end(self, connections: Collection[Any]) -> None:
        """Cut those of which nothing has been sent for too long; called often, it looks only now and then."""
        now = self._now()
        if now - self._looked < self._pause_s:
            return
        passed_s = min(now - self._looked, 2 * self._pause_s)  # while the event loop is blocked, nothing can be sent
        self._looked = now
        self._seen = {one: seen for one in connections if (seen := self._see(one, passed_s)).unsent}
        for one, seen in self._seen.items():
            if seen.waited_s >= self._timeout_s:
                one.transport.abort()

    def _see(self, connection: Any, passed_s: float) -> _Seen:
        """Look at one; what resumes between two looks has been sent, even if as much waits again."""
        unsent, resumed = connection.transport.get_write_buffer_size(), connection.resumed
        last = self._seen.get(connection)
        stands = last is not None and unsent >= last.unsent and resumed == last.resumed
        return _Seen(unsent, resumed, last.waited_s + passed_s if last is not None and stands else 0.0)
