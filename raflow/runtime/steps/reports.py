"""What workers report, and what follows from it for the steps of their calls."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from raflow.errors import NoCapacity, StepLost
from raflow.metrics import Status
from raflow.runtime.failure import explain
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.inbox import Inbox
from raflow.runtime.steps.inflight import InFlight
from raflow.runtime.steps.messages import Beat, Begun, Ended, InputsLost, Left, Over, Report
from raflow.runtime.steps.outcomes import Outcomes
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.worker import now
from raflow.runtime.steps.workers import Workers

log = logging.getLogger("raflow")


class Reports:
    """Takes what calls report; used on the driver's thread.

    Args:
        workers: Where steps run.
        inbox: Takes what is to be done later.
        outcomes: Of the steps.
    """

    def __init__(self, workers: Workers, inbox: Inbox, outcomes: Outcomes) -> None:
        self._workers, self._inbox, self._outcomes = workers, inbox, outcomes
        self._board, self._calls = outcomes.board, outcomes.calls

    def take(self, report: Report) -> None:
        """Take a report; those of calls that are over or given up are late."""
        if report.call in self._calls.under_way:
            _TAKES[type(report)](self, report)

    def _begun(self, message: Begun | Beat) -> None:
        call = self._calls.under_way[message.call]
        step = call.steps.get(message.task)
        if step is None or step.id in call.begun:
            return
        self._outcomes.start(step, call.begin(step))
        if step.options.timeout:
            self._inbox.behind(step.options.timeout, functools.partial(self._expire, message.call, step, step.attempts))

    def _beat(self, message: Beat) -> None:
        step = self._calls.under_way[message.call].steps.get(message.task)
        if step and step.heartbeat:
            self._begun(message)  # not told yet where several share a call
            self._listen(message.call, step)

    def _expire(self, number: int, step: Step, attempt: int) -> None:
        call = self._calls.under_way.get(number)
        if call and step.id in call.steps and step.attempts == attempt and step.status is Status.RUNNING:
            self.take(Ended(number, step.id, call.late(step)))

    def _listen(self, number: int, step: Step) -> None:
        """End a step that has been silent for too long; else look again when it may have been."""
        call = self._calls.under_way.get(number)
        if not call or step.id not in call.steps:
            return
        if (left := call.left(step)) > 0:
            self._inbox.behind(left, lambda: self._listen(number, step))
        else:
            self.take(Ended(number, step.id, call.silent(step)))

    def _end(self, message: Ended) -> None:
        call = self._calls.under_way[message.call]
        step = call.steps.pop(message.task, None)
        if step is None or step not in self._board.open:
            return
        self._board.given.discard(step)
        if step.id not in call.begun:
            self._outcomes.start(step, message.attempt.started_at)
        if message.attempt.timed_out:
            self._calls.kill(message.call)
        self._outcomes.judge(step, message.attempt)

    def _left(self, message: Left) -> None:
        self._calls.left(message.call, message.tasks)

    def _over(self, message: Over) -> None:
        call = self._calls.over(message.call, in_order=message.error is None)
        lost = list(call.steps.values())
        if isinstance(message.error, NoCapacity):
            self._refuse(call, lost, message.error)
            return
        if isinstance(message.error, InputsLost):
            self._without_inputs(lost, message.error)
            return
        if message.error is not None and len(lost) == 1 and call.size == 1:
            self._board.given.discard(lost[0])
            self._lost(lost[0], message.error, call)
            return
        self._board.alone.update(lost if message.error else ())
        self._calls.give_back(lost)

    def _without_inputs(self, steps: list[Step], error: InputsLost) -> None:
        """Let the steps of a call that could not begin wait for what is made again for them."""
        self._board.given.difference_update(steps)
        waiting = [step for step in steps if step in self._board.open and self._make_again(step)]
        others = [step for step in steps if step in self._board.open and step not in waiting]
        if waiting:
            self._calls.give_back(others)
            return
        for step in others:
            self._outcomes.fail(step, explain(StepLost(f"step {step.id}: {error}"), step.id))

    def _make_again(self, step: Step) -> bool:
        """Do those steps again whose lost values this one needs. Returns whether it waits for any."""
        needs = [need for need in dict.fromkeys(step.needs()) if need.values is not None]
        lost = [need for need in needs if self._workers.is_lost(need.values or ())]
        if any(need.is_forgotten for need in lost):
            return False
        for need in lost:
            log.warning("step %s is done again: its result is lost, and step %s needs it", need.id, step.id)
            need.values = None
            self._board.open[need] = 0
            self._board.remade.add(need)
            self._outcomes.change(need, Status.RETRYING)
            self._outcomes.ready(need)
        return self._board.waits_again(step)

    def _refuse(self, call: InFlight, steps: list[Step], error: NoCapacity) -> None:
        """Fail steps and all ready ones that need the same: the engine has had its time to grow."""
        steps += self._calls.take_like(call)
        self._board.given.difference_update(steps)
        for step in steps:
            if step in self._board.open:
                self._outcomes.fail(step, explain(NoCapacity(f"step {step.id}: {error}"), step.id))

    def _lost(self, step: Step, error: BaseException, call: InFlight) -> None:
        if step.id not in call.begun:
            self._outcomes.start(step, call.begin(step))
        failure = explain(StepLost(f"step {step.id}: {error}"), step.id)
        self._outcomes.judge(step, call.overdue(step) or Attempt(call.begun[step.id], now(), failure=failure))


_TAKES: dict[type, Callable[[Reports, Any], None]] = {
    Begun: Reports._begun,
    Beat: Reports._beat,
    Ended: Reports._end,
    Left: Reports._left,
    Over: Reports._over,
}
