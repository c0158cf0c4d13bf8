"""Ready steps on their way to workers: which share a call, and the calls that are under way.

Theory. Ready steps of one function share calls: a worker begins no new one after a time slice, and what it
did not begin goes back, so that tiny steps cost little and slow ones hold up nobody. A share grows while
calls end within their slice.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raflow.errors import NotSerializable
from raflow.options import StepOptions
from raflow.runtime.failure import Failure, explain
from raflow.runtime.steps.board import Board
from raflow.runtime.steps.inbox import Inbox
from raflow.runtime.steps.inflight import InFlight, Key
from raflow.runtime.steps.messages import Beat, Task
from raflow.runtime.steps.sharing import Sharing, key_of
from raflow.runtime.steps.step import Step, arguments
from raflow.runtime.steps.worker import SLICE_S
from raflow.runtime.steps.workers import Workers


@dataclass
class _Line:
    options: StepOptions
    steps: deque[Step] = field(default_factory=deque)


class Calls:
    """Gives ready steps to workers; used on the driver's thread.

    Args:
        workers: Where steps run.
        board: Of the run.
        inbox: Takes what workers report.
        most: Calls at once.
        fail: Called for a step that cannot travel.
    """

    def __init__(
        self, workers: Workers, board: Board, inbox: Inbox, most: int, fail: Callable[[Step, Failure], None]
    ) -> None:
        self._workers, self._board, self._inbox = workers, board, inbox
        self._most = most
        self._fail = fail
        self._numbers = itertools.count()
        self._lines: dict[Key, _Line] = {}
        """Ready steps; no empty ones, because there may be as many functions as steps."""
        self._busy: dict[str, int] = {}
        self._codes: dict[Callable[..., Any], Any] = {}
        self._sharing = Sharing()
        self.under_way: dict[int, InFlight] = {}
        self.stopping = False
        """Set from any thread: nothing begins from then on."""

    # -- ready steps ----------------------------------------------------------------------------------------

    def line_up(self, step: Step) -> None:
        """Take a ready step."""
        self._line(step).append(step)

    def _line(self, step: Step) -> deque[Step]:
        key = key_of(step)
        if key not in self._lines:
            self._lines[key] = _Line(step.options)
        return self._lines[key].steps

    def give_back(self, steps: list[Step]) -> None:
        """Let steps that were not begun, or whose worker was lost, go again when they can."""
        self._board.given.difference_update(steps)
        for step in reversed(steps):
            if self._board.open.get(step) == 0:
                self._line(step).appendleft(step)

    def take_like(self, call: InFlight) -> list[Step]:
        """Return the ready steps that need the same as those of a call, and forget them."""
        found: list[Step] = []
        for key, line in self._lines.items():
            if key[1] == call.key[1]:
                found += line.steps
                line.steps.clear()
        return found

    def empty(self) -> None:
        """Forget all ready steps."""
        for line in self._lines.values():
            line.steps.clear()

    # -- calls ----------------------------------------------------------------------------------------------

    def give_out(self) -> None:
        """Give ready steps to workers that are free."""
        for key, line in list(self._lines.items()):
            while line.steps and not self.stopping:
                free = min(self._slots(key, line), self._most - len(self.under_way))
                if free <= 0:
                    break
                share = min(math.ceil(len(line.steps) / free), self._sharing.beside(key))
                self._call(key, line.options, self._board.first(line.steps, share))
            if not line.steps:
                del self._lines[key]

    def _slots(self, key: Key, line: _Line) -> int:
        return self._workers.slots(line.options) - self._busy.get(key[1], 0)

    def _call(self, key: Key, options: StepOptions, steps: list[Step]) -> None:
        line = self._board.followed(steps, self._sharing.in_line(key))
        found = {step.id: (step, task) for step in line if (task := self._task(step))}
        if not found:
            return
        number = next(self._numbers)
        taken = {name: step for name, (step, _) in found.items()}
        tasks = {name: task for name, (_, task) in found.items()}
        call = InFlight(key, taken, len(tasks), tasks=tasks, follows=len(line) > len(steps))
        self._board.given.update(taken.values())
        self.under_way[number] = call
        self._busy[key[1]] = self._busy.get(key[1], 0) + 1
        call.handle = self._workers.call(number, list(tasks.values()), options, self._report)
        if len(tasks) > 1:
            self._inbox.later(SLICE_S, lambda: self._close(number))

    def _task(self, step: Step) -> Task | None:
        """Return the step ready to travel, or None if it cannot, or if what it would follow could not."""
        if step not in self._board.open or self._board.waits_again(step):
            return None
        try:
            if step.function not in self._codes:
                self._codes[step.function] = self._workers.ship(step.function, step.name)
            given, inputs = arguments(step)
        except NotSerializable as error:
            self._fail(step, explain(error, step.id))
            return None
        asked, code = step.options, self._codes[step.function]
        return Task(step.id, code, given, tuple(inputs), asked.timeout, asked.retry_on, step.expands, step.heartbeat)

    def _close(self, number: int) -> None:
        call = self.under_way.get(number)
        if call and call.handle:
            call.closed = True
            call.handle.close()

    def _report(self, message: Any) -> None:
        """Take a report from any thread; a sign of life past the inbox, because time runs on while that waits."""
        call = self.under_way.get(message.call) if isinstance(message, Beat) else None
        if not isinstance(message, Beat) or (call and call.hear(message)):
            self._inbox.put(message)

    def left(self, number: int, tasks: Sequence[str]) -> None:
        """Take back what a call had no time for."""
        call = self.under_way[number]
        self._sharing.closed(call, call.size - len(tasks))
        call.closed = True
        self.give_back([call.steps.pop(task) for task in tasks])

    def over(self, number: int, *, in_order: bool) -> InFlight:
        """Take a call as ended, and return it."""
        call = self._forget(number)
        if in_order and not call.closed:
            self._sharing.ended(call)
        return call

    def kill(self, number: int) -> None:
        """End a call; what it has not begun goes back."""
        call = self._forget(number)
        if call.handle:
            call.handle.kill()
            self.give_back(list(call.steps.values()))

    def _forget(self, number: int) -> InFlight:
        call = self.under_way.pop(number)
        self._busy[call.key[1]] -= 1
        return call
