"""The control loop of a workflow: knows what is ready, hands it to workers, decides on what they report.

Theory. Everything that happens is a message in one inbox, and one thread, that of `run`, reads it and
alone changes steps. Ready ones go to workers in calls that they share (`calls.py`). Steps of a lost worker
are done again one by one, so that only the one that kills is blamed. What was lost with a node is made again
by doing the steps again that had made it; nobody but the steps that wait for it is told. The loop sleeps
until a message or until something is due.
"""

from __future__ import annotations

import functools
import itertools
import logging
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

from raflow.errors import NoCapacity, NotSerializable, StepCancelled, StepLost
from raflow.metrics import Status
from raflow.runtime.failure import Failure, explain, said
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.board import Board
from raflow.runtime.steps.calls import Calls
from raflow.runtime.steps.events import Observers, StepEvent
from raflow.runtime.steps.inbox import Inbox
from raflow.runtime.steps.inflight import InFlight
from raflow.runtime.steps.messages import Beat, Begun, Ended, InputsLost, Left, Over
from raflow.runtime.steps.sharing import MOST
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import unpack
from raflow.runtime.steps.worker import now
from raflow.runtime.steps.workers import Workers

log = logging.getLogger("raflow")


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
        self.run_id = run_id
        self._on_end = on_end
        self._observers = Observers(observers)
        self._inbox = Inbox()
        self._holds = 0
        self._lock = threading.Lock()
        self._board = Board(ahead=ahead)
        self._calls = Calls(workers, self._board, self._inbox, max_concurrency or MOST, self._fail)
        self._ended = itertools.count()
        self._stopped: Failure | None = None

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
            self._cancel("the run was interrupted")
            raise
        finally:
            self._observers.close()

    def _take(self, message: Any) -> None:
        if isinstance(message, Step):
            self._added(message)
        elif isinstance(message, str):
            self._cancel(message)
        elif isinstance(message, tuple):
            if message[0] in self._board.open:
                self._judge(*message)
        elif callable(message):
            message()
        elif message is not None and message.call in self._calls.under_way:
            _TAKES[type(message)](self, message)

    # -- steps become ready -------------------------------------------------------------------------------

    def _added(self, step: Step) -> None:
        try:
            needs = list(dict.fromkeys(step.needs()))
        except NotSerializable as error:
            self._fail(step, explain(error, step.id))
            return
        missing = [need for need in needs if not need.status.is_final]
        failed = [need for need in needs if need.status.is_final and need.values is None]
        self._board.open[step] = len(missing)
        self._tell(step)
        if self._stopped:
            self._fail(step, self._stopped, Status.CANCELLED)
        elif failed:
            self._block(step, min(failed, key=lambda need: need.order))
        else:
            for need in missing:
                self._board.after.setdefault(need, []).append(step)
            if not missing:
                self._ready(step)

    def _ready(self, step: Step) -> None:
        """Begin a step that waits for nothing any more; its first attempt may have a delay."""
        if step.options.first_delay and not step.attempts:
            self._inbox.later(step.options.first_delay, lambda: self._go(step))
        else:
            self._go(step)

    def _go(self, step: Step) -> None:
        if step not in self._board.open or step in self._board.given:
            return
        if step.host:
            self._start(step, now())
            step.host(step)
        else:
            self._calls.line_up(step)

    def _block(self, step: Step, cause: Step) -> None:
        """End a step that waits for one that has failed: it carries that one's error."""
        self._fail(step, cause.failures[-1], Status.CANCELLED)

    # -- workers report -----------------------------------------------------------------------------------

    def _begun(self, message: Begun | Beat) -> None:
        call = self._calls.under_way[message.call]
        step = call.steps.get(message.task)
        if step is None or step.id in call.begun:
            return
        self._start(step, call.begin(step))
        if step.options.timeout:
            self._inbox.behind(step.options.timeout, functools.partial(self._expire, message.call, step, step.attempts))

    def _beat(self, message: Beat) -> None:
        step = self._calls.under_way[message.call].steps.get(message.task)
        if step and step.heartbeat:
            self._begun(message)  # not told yet where several share a call
            self._listen(message.call, step)

    def _start(self, step: Step, at: Any) -> None:
        step.attempts += 1
        step.started_at = step.started_at or at
        self._change(step, Status.RUNNING)

    def _expire(self, number: int, step: Step, attempt: int) -> None:
        call = self._calls.under_way.get(number)
        if call and step.id in call.steps and step.attempts == attempt and step.status is Status.RUNNING:
            self._take(Ended(number, step.id, call.late(step)))

    def _listen(self, number: int, step: Step) -> None:
        """End a step that has been silent for too long; else look again when it may have been."""
        call = self._calls.under_way.get(number)
        if not call or step.id not in call.steps:
            return
        if (left := call.left(step)) > 0:
            self._inbox.behind(left, lambda: self._listen(number, step))
        else:
            self._take(Ended(number, step.id, call.silent(step)))

    def _end(self, message: Ended) -> None:
        call = self._calls.under_way[message.call]
        step = call.steps.pop(message.task, None)
        if step is None or step not in self._board.open:
            return
        self._board.given.discard(step)
        if step.id not in call.begun:
            self._start(step, message.attempt.started_at)
        if message.attempt.timed_out:
            self._calls.kill(message.call)
        self._judge(step, message.attempt)

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
            self._fail(step, explain(StepLost(f"step {step.id}: {error}"), step.id))

    def _make_again(self, step: Step) -> bool:
        """Do those steps again whose lost values this one needs. Returns whether it waits for any."""
        needs = [need for need in dict.fromkeys(step.needs()) if need.values is not None]
        lost = [need for need in needs if self.workers.is_lost(need.values or ())]
        if any(need.is_forgotten for need in lost):
            return False
        for need in lost:
            log.warning("step %s is done again: its result is lost, and step %s needs it", need.id, step.id)
            need.values = None
            self._board.open[need] = 0
            self._board.remade.add(need)
            self._change(need, Status.RETRYING)
            self._ready(need)
        return self._board.waits_again(step)

    def _refuse(self, call: InFlight, steps: list[Step], error: NoCapacity) -> None:
        """Fail steps and all ready ones that need the same: the engine has had its time to grow."""
        steps += self._calls.take_like(call)
        self._board.given.difference_update(steps)
        for step in steps:
            if step in self._board.open:
                self._fail(step, explain(NoCapacity(f"step {step.id}: {error}"), step.id))

    def _lost(self, step: Step, error: BaseException, call: InFlight) -> None:
        if step.id not in call.begun:
            self._start(step, call.begin(step))
        failure = explain(StepLost(f"step {step.id}: {error}"), step.id)
        self._judge(step, call.overdue(step) or Attempt(call.begun[step.id], now(), failure=failure))

    # -- decisions ----------------------------------------------------------------------------------------

    def _judge(self, step: Step, attempt: Attempt) -> None:
        step.finished_at = attempt.finished_at
        if attempt.failure is None:
            step.values = attempt.values
            self._settle(step, Status.SUCCEEDED)
            return
        step.failures.append(attempt.failure)
        delays = step.options.delays()
        if step.attempts < len(delays) and attempt.retryable:
            wait = delays[step.attempts] + random.uniform(0, step.options.jitter)
            self._change(step, Status.RETRYING)
            self._inbox.later(wait, lambda: self._ready(step))
        else:
            self._settle(step, Status.TIMED_OUT if attempt.timed_out else Status.FAILED)

    def _fail(self, step: Step, failure: Failure, status: Status = Status.FAILED) -> None:
        if status is Status.FAILED or not step.failures:
            step.failures.append(failure)
        self._settle(step, status)

    def _settle(self, step: Step, status: Status) -> None:
        """End a step, and with it those that wait for it in vain: a loop, because chains may be long."""
        ended = [(step, status)]
        for one, final in ended:
            self._board.open.pop(one, None)
            is_known = one in self._board.remade and final is Status.SUCCEEDED
            self._board.remade.discard(one)
            one.order = one.order if is_known else next(self._ended)
            self._change(one, final)
            for other in self._board.after.pop(one, ()):
                if other not in self._board.open:
                    continue
                self._board.open[other] -= 1
                if one.values is None:
                    self._board.open.pop(other)
                    other.failures.append(one.failures[-1])
                    ended.append((other, Status.CANCELLED))
                elif not self._board.open[other]:
                    self._ready(other)
            if self._on_end and not is_known:
                self._on_end(one)

    def _cancel(self, why: str) -> None:
        self._stopped = explain(StepCancelled(f"cancelled: {why}"), "")
        for number, call in list(self._calls.under_way.items()):
            if call.steps:  # one whose steps have ended leaves its worker in order
                self._calls.kill(number)
        self._inbox.forget_due()
        self._calls.empty()
        for step in list(self._board.open):
            if step in self._board.open:
                self._fail(step, self._stopped, Status.CANCELLED)

    # -- telling ------------------------------------------------------------------------------------------

    def _change(self, step: Step, status: Status) -> None:
        step.status = status
        self._tell(step)

    def _tell(self, step: Step) -> None:
        if self._observers:
            error = step.failures[-1].error if step.failures and step.status is not Status.SUCCEEDED else None
            text = None if error is None else said(error)
            self._observers.tell(StepEvent(self.run_id, step.id, step.status, now(), step.attempts, text))


_TAKES: dict[type, Callable[[StepDriver, Any], None]] = {
    Begun: StepDriver._begun,
    Beat: StepDriver._beat,
    Ended: StepDriver._end,
    Left: StepDriver._left,
    Over: StepDriver._over,
}
