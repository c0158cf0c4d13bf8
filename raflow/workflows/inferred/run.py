"""One run: the step driver, the threads in which workflows compute, and their slots.

Theory. A workflow's code runs once, in a thread of its own. A call becomes a step of the driver at once;
touching its result blocks the thread until the driver has told that the step ended. A thread computes only
while it has one of a few slots and gives it back while it waits, so that nesting cannot deadlock.
Sub-workflows are steps with a host: the driver decides when they begin, a thread of ours runs them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from raflow.errors import ResumeError
from raflow.metrics import Status
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import Packed, Value, unpack
from raflow.runtime.steps.worker import Workers
from raflow.workflows.inferred.calls import Call
from raflow.workflows.inferred.history import History, arguments_digest
from raflow.workflows.inferred.trace import Row, row


class Abandoned(BaseException):
    """Ends the thread of a workflow whose run is over; not an error, so that no handler takes it for one."""


class Run:
    """A run of a root workflow with everything below it.

    Args:
        workers: Where activities run, started.
        slots: Threads of workflows that compute at once.
        history: Where calls are recorded; None: nowhere.
    """

    def __init__(self, workers: Workers, slots: int, history: History | None = None) -> None:
        self._workers = workers
        self._history = history
        self._driver = StepDriver(workers, on_end=self._ended)
        self._slots = threading.Semaphore(slots)
        self._held = threading.local()
        self._lock = threading.Lock()
        self._open: set[Call] = set()
        self._over = False
        self.rows: list[Row] = []
        """Of the calls that were made, for the trace."""
        self.seen: set[int] = set()
        """Failures that the workflows' code has been told of, by their identity."""
        self.failed: list[Call] = []
        """Calls that have failed themselves, in the order of completion."""
        self.refused: ResumeError | None = None
        """Why the run cannot go on, if a call differs from its record."""

    def root(self, job: Callable[[], None], *, finish: bool) -> None:
        """Run the root workflow's job to its end.

        Args:
            job: Called in a thread of its own; must not raise.
            finish: Whether tasks that are still running at the end are waited for; else they are given up.
        """

        def whole() -> None:
            try:
                job()
            finally:
                if not finish:
                    self._driver.cancel("the workflow has ended without it")
                self._driver.release()

        self._driver.hold()
        self.spawn(whole)
        try:
            self._driver.run()
        finally:
            self._close()

    def spawn(self, job: Callable[[], None]) -> None:
        """Run a job in a thread of its own, when there is a slot."""
        threading.Thread(target=self._compute, args=(job,), name="raflow workflow", daemon=True).start()

    def add(self, call: Call, needs: Iterable[str]) -> None:
        """Take a call; returns at once.

        Args:
            call: Its step is not known to the driver yet.
            needs: Ids of calls on which it depends, for the trace.
        """
        call.step.note = call, row(call.step, needs)
        with self._lock:
            if self._over:
                raise Abandoned
            self._open.add(call)
            self.rows.append(call.step.note[1])
        if not self._recalled(call):
            self._driver.add(call.step)

    def _recalled(self, call: Call) -> bool:
        """End a call as its record says, if there is one."""
        if self._history is None or call.place is None:
            return False
        try:
            call.digest = arguments_digest(call.step)
            order = self._history.recall(call.step, call.place, call.digest)
        except ResumeError as error:
            self.refused = error
            raise
        if order is None:
            return False
        call.step.note[1].end(call.step)
        call.end()
        self._wake(call, order)
        return True

    def survived(self, told: Iterable[Call]) -> None:
        """Record failures in spite of which a workflow has gone on, and where they came from."""
        if self._history is None:
            return
        for one in told:
            for call in (one, *(each for each in self.failed if each.failure is one.failure)):
                if call.place and call.digest and call.order:
                    self._history.keep_error(call.step, call.place, call.digest, call.order, call.error())

    def fetch(self, value: Value) -> Packed:
        """Return a result that may lie in the engine's store."""
        return self._workers.fetch(value)

    @property
    def finish(self) -> Callable[..., None]:
        """How hosts hand in what became of their steps."""
        return self._driver.finish

    # -- waiting ------------------------------------------------------------------------------------------

    def wait(self, call: Call) -> None:
        """Wait for a call's end."""
        if not call.ended.is_set():
            self._blocking(call.ended.wait)
        if call.order is None:
            raise Abandoned

    def finished(self, calls: Sequence[Call]) -> Iterator[int]:
        """Yield the positions of the calls in the order of their completion, as they complete."""
        news: queue.SimpleQueue[int] = queue.SimpleQueue()
        with self._lock:
            done = [place for place, call in enumerate(calls) if call.order is not None]
            for place, call in enumerate(calls):
                if call.order is None:
                    call.watchers.append(lambda place=place: news.put(place))  # type: ignore[misc]
        yield from sorted(done, key=lambda place: calls[place].order or (0, 0))
        for _ in range(len(calls) - len(done)):
            place = self._blocking(news.get)
            if calls[place].order is None:
                raise Abandoned
            yield place

    def _compute(self, job: Callable[[], None]) -> None:
        with self._slots:
            self._held.slot = True
            try:
                job()
            except Abandoned:
                return
            finally:
                self._held.slot = False

    def _blocking(self, wait: Callable[[], Any]) -> Any:
        """Wait without a slot."""
        if self._over:
            raise Abandoned
        if not getattr(self._held, "slot", False):
            return wait()
        self._slots.release()
        try:
            return wait()
        finally:
            self._slots.acquire()

    # -- endings ------------------------------------------------------------------------------------------

    def _ended(self, step: Step) -> None:
        call, told = step.note
        told.end(step)
        call.end()
        step.args, step.kwargs, step.after = (), {}, ()  # they would keep the results of all steps before it
        order = (self._history.epoch if self._history else 0, step.order)
        if self._history and call.place and step.status is Status.SUCCEEDED:
            value = unpack(self.fetch(call.stored()))
            self._history.keep(step, call.place, call.digest, order, value)
        self._wake(call, order)

    def _wake(self, call: Call, order: tuple[int, int] | None) -> None:
        with self._lock:
            self._open.discard(call)
            call.order = order
            watchers, call.watchers = call.watchers, []
        call.ended.set()
        for watcher in watchers:
            watcher()

    def _close(self) -> None:
        """End the threads that wait for calls which nobody will run any more."""
        with self._lock:
            self._over = True
            left = list(self._open)
        for call in left:
            self._wake(call, None)
