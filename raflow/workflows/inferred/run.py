"""One run: the step driver, the threads in which workflows compute, and their slots.

Theory. A workflow's code runs once, in a thread of its own. A call becomes a step of the driver at once;
touching its result blocks the thread until the driver has told that the step ended. A thread computes only
while it has one of a few slots and gives it back while it waits, so that nesting cannot deadlock.
Sub-workflows are steps with a host: the driver decides when they begin, a thread of ours runs them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from raflow.errors import ResumeError
from raflow.metrics import Status
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import Packed, Value, unpack
from raflow.runtime.steps.workers import Workers
from raflow.workflows.inferred.calls import Call
from raflow.workflows.inferred.history import History, arguments_digest
from raflow.workflows.inferred.trace import shadow


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
        self._driver = StepDriver(workers, on_end=self._ended, ahead=history is None)
        self._slots = threading.Semaphore(slots)
        self._held = threading.local()
        self._lock = threading.Lock()
        self._open: set[Call] = set()
        self._over = False
        self.trace: list[Step] = []
        """The calls that were made."""
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

    def add(self, call: Call, needs: Iterable[Call]) -> None:
        """Take a call; returns at once.

        Args:
            call: Its step is not known to the driver yet.
            needs: Calls on which it depends, for the trace.
        """
        call.step.note = call
        call.trace = shadow(call.step, (need.trace for need in needs))
        with self._lock:
            if self._over:
                msg = f"{call.step.id} cannot be called: the run of its workflow is over"
                raise Abandoned(msg)
            self._open.add(call)
            self.trace.append(call.trace)
        if not self._recalled(call):
            self._driver.add(call.step)

    def _recalled(self, call: Call) -> bool:
        """End a call as its record says, if there is one."""
        if self._history is None or call.place is None:
            return False
        try:
            call.digest = arguments_digest(call.step)
            order = self._history.recall(call)
        except ResumeError as error:
            self.refused = error
            raise
        if order is None:
            return False
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
                    self._history.keep_error(call, call.order, call.error())

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
            self.blocking(call.ended.wait)
        if call.order is None:
            raise Abandoned

    def watch(self, call: Call, watcher: Callable[[], None]) -> bool:
        """Have a watcher called when a call ends, on the driver's thread; False if it has ended already."""
        with self._lock:
            if call.ended.is_set() or call.order is not None:
                return False
            call.watchers.append(watcher)
            return True

    def _compute(self, job: Callable[[], None]) -> None:
        with self._slots:
            self._held.slot = True
            try:
                job()
            except Abandoned:
                return
            finally:
                self._held.slot = False

    def blocking(self, wait: Callable[[], Any]) -> Any:
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
        call: Call = step.note
        call.end()
        if next(step.needs(), None):  # they would keep the results of all steps before it
            step.args, step.kwargs, step.after, step.is_forgotten = (), {}, (), True
        order = (self._history.epoch if self._history else 0, step.order)
        if self._history and call.place and step.status is Status.SUCCEEDED:
            value = unpack(self.fetch(call.stored()))
            self._history.keep(call, order, value)
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
