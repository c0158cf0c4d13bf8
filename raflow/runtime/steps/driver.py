"""The control loop of a workflow: knows what is ready, hands it to workers, decides on what they report.

Theory. Everything that happens is a message in one inbox, and one thread, that of `run`, reads it and alone
changes steps (`outcomes.py`). Ready ones go to workers in calls that they share (`calls.py`), which report
(`reports.py`). Steps of a lost worker are done again one by one, so that only the one that kills is blamed.
What was lost with a node is made again by doing the steps again that had made it; nobody but the steps that
wait for it is told. The loop sleeps until a message or until something is due.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.board import Board
from raflow.runtime.steps.events import Observers, StepEvent
from raflow.runtime.steps.inbox import Inbox
from raflow.runtime.steps.outcomes import Outcomes
from raflow.runtime.steps.reports import Reports
from raflow.runtime.steps.sharing import MOST
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import unpack
from raflow.runtime.steps.workers import Workers


class StepDriver:
    """Runs steps that are added, also while it runs.

    Args:
        workers: Where steps run.
        run_id: For events.
        max_concurrency: Steps that run at once, at most; None: what the workers take.
        on_end: Called on the thread of `run` for each step that will not change any more; may add steps.
        observers: Told of every change.
        ahead: Whether a step may begin before `on_end` was called for those it waits for, in the same call as
            they: faster, but what it did may go by results that nobody has recorded.
    """

    def __init__(
        self,
        workers: Workers,
        *,
        run_id: str = "",
        max_concurrency: int | None = None,
        on_end: Callable[[Step], None] | None = None,
        observers: Iterable[Callable[[StepEvent], None]] = (),
        ahead: bool = True,
    ) -> None:
        self.workers = workers
        self._inbox = Inbox()
        self._holds = 0
        self._lock = threading.Lock()
        self._board = Board(ahead=ahead)
        self._observers = Observers(observers)
        most = max_concurrency or MOST
        self._outcomes = Outcomes(
            workers, self._board, self._inbox, self._observers, most=most, run_id=run_id, on_end=on_end
        )
        self._calls = self._outcomes.calls
        self._reports = Reports(workers, self._inbox, self._outcomes)

    # -- for everybody, from any thread -----------------------------------------------------------------

    def add(self, step: Step) -> Step:
        """Take a step; it runs as soon as the steps in its arguments have succeeded. Returns it."""
        self._inbox.put(step)
        return step

    def hold(self) -> None:
        """Keep `run` going although nothing is left to do, because somebody may add steps."""
        with self._lock:
            self._holds += 1

    def release(self) -> None:
        """Undo one `hold`."""
        with self._lock:
            self._holds -= 1
        self._inbox.put(None)

    def cancel(self, why: str = "the run was stopped") -> None:
        """Give up all steps that have not ended, and those that are added later; nothing begins from now on."""
        self._calls.stopping = True
        self._inbox.put(why)

    def finish(self, step: Step, attempt: Attempt) -> None:
        """End an attempt of a step that has a host."""
        self._inbox.put((step, attempt))

    def result(self, step: Step) -> Any:
        """Return the value of a step that has succeeded: a list, if it expands."""
        found = [unpack(self.workers.fetch(value)) for value in step.values or ()]
        return found if step.expands else found[0]

    # -- the loop ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run until all steps have ended and nobody holds."""
        try:
            while True:
                self._inbox.do_due()
                for message in self._inbox.waiting():
                    self._take(message)
                self._calls.give_out()
                if not (self._board.open or self._calls.under_way or self._holds or self._inbox):
                    return
                self._take(self._inbox.next())
        except BaseException:
            self._outcomes.cancel("the run was interrupted")
            raise
        finally:
            self._observers.close()

    def _take(self, message: Any) -> None:
        if isinstance(message, Step):
            self._outcomes.add(message)
        elif isinstance(message, str):
            self._outcomes.cancel(message)
        elif isinstance(message, tuple):
            if message[0] in self._board.open:
                self._outcomes.judge(*message)
        elif callable(message):
            message()
        elif message is not None:
            self._reports.take(message)
