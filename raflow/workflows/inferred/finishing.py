"""The order in which calls end."""

from __future__ import annotations

import heapq
import itertools
import queue

from raflow.workflows.inferred.calls import Call
from raflow.workflows.inferred.lazy import Result
from raflow.workflows.inferred.run import Abandoned, Run


class Finishing:
    """Tells which of some results is the next to end; results may be added at any time."""

    def __init__(self) -> None:
        self._run: Run | None = None
        self._news: queue.SimpleQueue[tuple[Call, Result]] = queue.SimpleQueue()
        self._done: list[tuple[tuple[int, int], int, Result]] = []
        self._numbers = itertools.count()

    def add(self, result: Result) -> None:
        """Take a result."""
        call: Call = result._self_call
        self._run = self._run or call.run
        if not call.run.watch(call, lambda: self._news.put((call, result))):
            self._take(call, result)

    def next(self) -> Result:
        """Return the result that has ended first of those that were not returned yet; waits for it."""
        while not self._news.empty():
            self._take(*self._news.get())
        if not self._done:
            assert self._run, "there is a result"
            self._take(*self._run.blocking(self._news.get))
        return heapq.heappop(self._done)[-1]

    def _take(self, call: Call, result: Result) -> None:
        if call.order is None:
            raise Abandoned
        heapq.heappush(self._done, (call.order, next(self._numbers), result))
