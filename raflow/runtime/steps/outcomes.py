"""What becomes of steps: when they begin, whether they are tried again, how they end; and who is told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import datetime

from raflow.errors import NotSerializable, StepCancelled
from raflow.metrics import Status
from raflow.runtime.failure import Failure, explain, said
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.board import Board
from raflow.runtime.steps.calls import Calls
from raflow.runtime.steps.events import Observers, StepEvent
from raflow.runtime.steps.inbox import Inbox
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.worker import now
from raflow.runtime.steps.workers import Workers


class Outcomes:
    """Decides on the steps of a run; used on the driver's thread.

    Args:
        workers: Where steps run.
        board: The steps.
        inbox: Takes what is to be done later.
        observers: Told of every change.
        most: Calls at once.
        run_id: For events.
        on_end: Called for each step that will not change any more; may add steps.
    """

    def __init__(
        self, workers: Workers, board: Board, inbox: Inbox, observers: Observers,
        *, most: int, run_id: str, on_end: Callable[[Step], None] | None,
    ) -> None:  # fmt: skip
        self.board, self.calls = board, Calls(workers, board, inbox, most, self.fail)
        self._inbox, self._observers = inbox, observers
        self._run_id = run_id
        self._on_end = on_end
        self._ended = itertools.count()
        self._stopped: Failure | None = None

    def add(self, step: Step) -> None:
        """Take a step: it begins as soon as those that it needs have succeeded."""
        try:
            needs = list(dict.fromkeys(step.needs()))
        except NotSerializable as error:
            self.fail(step, explain(error, step.id))
            return
        missing = [need for need in needs if not need.status.is_final]
        failed = [need for need in needs if need.status.is_final and need.values is None]
        self.board.open[step] = len(missing)
        self._tell(step)
        if self._stopped:
            self.fail(step, self._stopped, Status.CANCELLED)
        elif failed:
            cause = min(failed, key=lambda need: need.order)
            self.fail(step, cause.failures[-1], Status.CANCELLED)
        else:
            for need in missing:
                self.board.after.setdefault(need, []).append(step)
            if not missing:
                self.ready(step)

    def ready(self, step: Step) -> None:
        """Begin a step that waits for nothing any more; its first attempt may have a delay."""
        if step.options.first_delay and not step.attempts:
            self._inbox.later(step.options.first_delay, lambda: self._go(step))
        else:
            self._go(step)

    def _go(self, step: Step) -> None:
        if step not in self.board.open or step in self.board.given:
            return
        if step.host:
            self.start(step, now())
            step.host(step)
        else:
            self.calls.line_up(step)

    def start(self, step: Step, at: datetime) -> None:
        """Begin an attempt."""
        step.attempts += 1
        step.started_at = step.started_at or at
        self.change(step, Status.RUNNING)

    def judge(self, step: Step, attempt: Attempt) -> None:
        """End an attempt; the step is tried again, or ends, too."""
        step.finished_at = attempt.finished_at
        if attempt.failure is None:
            step.values = attempt.values
            self._settle(step, Status.SUCCEEDED)
            return
        step.failures.append(attempt.failure)
        delays = step.options.delays()
        if step.attempts < len(delays) and attempt.retryable:
            wait = delays[step.attempts] + random.uniform(0, step.options.jitter)
            self.change(step, Status.RETRYING)
            self._inbox.later(wait, lambda: self.ready(step))
        else:
            self._settle(step, Status.TIMED_OUT if attempt.timed_out else Status.FAILED)

    def fail(self, step: Step, failure: Failure, status: Status = Status.FAILED) -> None:
        """End a step for another reason than an attempt's."""
        if status is Status.FAILED or not step.failures:
            step.failures.append(failure)
        self._settle(step, status)

    def _settle(self, step: Step, status: Status) -> None:
        """End a step, and with it those that wait for it in vain: a loop, because chains may be long."""
        ended = [(step, status)]
        for one, final in ended:
            self.board.open.pop(one, None)
            is_known = one in self.board.remade and final is Status.SUCCEEDED
            self.board.remade.discard(one)
            one.order = one.order if is_known else next(self._ended)
            self.change(one, final)
            for other in self.board.after.pop(one, ()):
                if other not in self.board.open:
                    continue
                self.board.open[other] -= 1
                if one.values is None:
                    self.board.open.pop(other)
                    other.failures.append(one.failures[-1])
                    ended.append((other, Status.CANCELLED))
                elif not self.board.open[other]:
                    self.ready(other)
            if self._on_end and not is_known:
                self._on_end(one)

    def cancel(self, why: str) -> None:
        """Give up all steps that have not ended, and those that are added later."""
        self._stopped = explain(StepCancelled(f"cancelled: {why}"), "")
        for number, call in list(self.calls.under_way.items()):
            if call.steps:  # one whose steps have ended leaves its worker in order
                self.calls.kill(number)
        self._inbox.forget_due()
        self.calls.empty()
        for step in list(self.board.open):
            if step in self.board.open:
                self.fail(step, self._stopped, Status.CANCELLED)

    def change(self, step: Step, status: Status) -> None:
        """Give a step another status, and tell."""
        step.status = status
        self._tell(step)

    def _tell(self, step: Step) -> None:
        if self._observers:
            error = step.failures[-1].error if step.failures and step.status is not Status.SUCCEEDED else None
            text = None if error is None else said(error)
            self._observers.tell(StepEvent(self._run_id, step.id, step.status, now(), step.attempts, text))
