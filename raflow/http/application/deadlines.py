"""Deadlines of requests that all have the same time: one timer of the event loop for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Late = Callable[[], None]


class Deadlines:
    """Calls what is not removed in time. Used on an event loop; on a new one it starts anew.

    A timer per request would cost more than all else that the limits of a request do.

    Args:
        after_s: From `add` to the call.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._due: dict[Late, float] = {}
        """In the order in which it is due, as all have the same time."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, late: Late) -> None:
        """Have something called when its time, which begins anew, is up."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer, self._due = loop, None, {}
        self._due.pop(late, None)  # else it would stay before those that are due earlier
        self._due[late] = loop.time() + self._after_s
        if self._timer is None:
            self._timer = loop.call_later(self._after_s, self._look)

    def remove(self, late: Late) -> None:
        """Have it not called; harmless if it was."""
        self._due.pop(late, None)

    def _look(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        try:
            while self._due and next(iter(self._due.values())) <= now:
                late = next(iter(self._due))
                del self._due[late]
                late()
        finally:  # not before: who is late may be added again
            self._timer = self._loop.call_at(next(iter(self._due.values())), self._look) if self._due else None
