"""Steps in threads of this process: no start-up, one interpreter lock."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from raflow.engines.daemons import DaemonThreads
from raflow.options import Resources
from raflow.runtime.steps.heartbeat import heard, said
from raflow.runtime.steps.values import Packed, Value
from raflow.runtime.steps.worker import Beat, Begun, Ended, Inputs, Left, Over, Post, Slice, Task, attempt

THREADS = 64
"""Steps that run at once by default. Threads wait well and compute badly, so this is more than the CPUs."""


class ThreadWorkers:
    """Runs steps in daemon threads. A timed-out or cancelled step is abandoned: a thread cannot be ended.

    Args:
        threads: Steps that run at once.
    """

    name = "local"

    def __init__(self, threads: int = THREADS) -> None:
        self._count = threads
        self._threads = DaemonThreads("raflow step")

    def start(self) -> None:
        """Nothing to start."""

    def slots(self, needs: Resources) -> int:
        """Return the number of threads, whatever the needs: they are for clusters."""
        del needs
        return self._count

    def ship(self, function: Callable[..., Any], name: str) -> Any:
        """Return the function as it is."""
        del name
        return function

    def call(self, number: int, tasks: list[Task], needs: Resources, post: Post) -> _ThreadCall:
        """Run tasks in an idle thread, or in a new one."""
        del needs
        call = _ThreadCall(number, tasks, post)
        self._threads.run(call.run)
        return call

    def fetch(self, value: Value) -> Packed:
        """Return the value: all are here."""
        assert isinstance(value, Packed)
        return value

    def is_lost(self, values: Sequence[Value]) -> bool:
        """Return False: values are lost with this process only."""
        del values
        return False

    def close(self) -> None:
        """End the idle threads."""
        self._threads.close()


class _ThreadCall:
    def __init__(self, number: int, tasks: list[Task], post: Post) -> None:
        self._number = number
        self._slice = Slice(tasks)
        self._post = post
        self._abandoned = False

    def run(self) -> None:
        known = Inputs()
        while (task := self._slice.take()) is not None:
            inputs = known.of(task)
            if inputs is None:
                self._report(Left(self._number, (task.id,)))
                continue
            self._report(Begun(self._number, task.id))
            with heard(functools.partial(self._heard, task.id)):
                done = attempt(task.code, task, inputs)
            known.keep(task, done)
            self._report(Ended(self._number, task.id, done))
            if done.failure:  # the driver decides whether the others still begin
                self.close()
        self._report(Over(self._number))

    def close(self) -> None:
        left = self._slice.close()
        if left:
            self._report(Left(self._number, left))

    def kill(self) -> None:
        self._abandoned = True
        self._slice.close()

    def _heard(self, task: str, details: Any) -> bool:
        self._report(Beat(self._number, task, said(details)))
        return not self._abandoned

    def _report(self, message: Begun | Beat | Ended | Left | Over) -> None:
        if not self._abandoned:
            self._post(message)
