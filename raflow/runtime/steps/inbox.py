"""What one thread is told by others, and what it is to do at a time."""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any


class Inbox:
    """Messages and timers of one thread; only `put` may be called on others, and in signal handlers."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def put(self, message: Any) -> None:
        """Leave a message."""
        self._messages.put(message)

    def __len__(self) -> int:
        return self._messages.qsize()

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have something done by `do_due`."""
        heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._numbers), action))

    def behind(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have something sent later, behind what is told by then: a thread that was busy knows of it late."""
        self.later(delay_s, lambda: self.put(action))

    def forget_due(self) -> None:
        """Drop all that is to be done later."""
        self._due.clear()

    def do_due(self) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()

    def waiting(self) -> Iterator[Any]:
        """Yield the messages that are there now."""
        for _ in range(len(self)):
            yield self._messages.get()

    def next(self) -> Any:
        """Wait for a message and return it; None as soon as something is due."""
        wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
        try:
            return self._messages.get(timeout=wait)
        except queue.Empty:
            return None
