"""Steps in threads of this process: no start-up, one interpreter lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from raflow.engines.here import LocalWorkers
from raflow.options import Resources
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.heartbeat import heard, said
from raflow.runtime.steps.messages import Beat, Left, Post, Report, Task
from raflow.runtime.steps.values import Packed
from raflow.runtime.steps.worker import Inputs, Slice, attempt, run_slice

THREADS = 64
"""Steps that run at once by default. Threads wait well and compute badly, so this is more than the CPUs."""


class ThreadWorkers(LocalWorkers):
    """Runs steps in daemon threads. A timed-out or cancelled step is abandoned: a thread cannot be ended.

    Args:
        threads: Steps that run at once.
    """

    def __init__(self, threads: int = THREADS) -> None:
        super().__init__(threads, "raflow step")

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


class _ThreadCall:
    def __init__(self, number: int, tasks: list[Task], post: Post) -> None:
        self._number = number
        self._slice = Slice(tasks)
        self._post = post
        self._abandoned = False

    def run(self) -> None:
        for report in run_slice(self._number, self._slice, Inputs(), self._attempt):
            self._report(report)

    def close(self) -> None:
        left = self._slice.close()
        if left:
            self._report(Left(self._number, left))

    def kill(self) -> None:
        self._abandoned = True
        self._slice.close()

    def _attempt(self, task: Task, inputs: list[Packed]) -> Attempt:
        with heard(functools.partial(self._heard, task.id)):
            return attempt(task.code, task, inputs)

    def _heard(self, task: str, details: Any) -> bool:
        self._report(Beat(self._number, task, said(details)))
        return not self._abandoned

    def _report(self, report: Report) -> None:
        if not self._abandoned:
            self._post(report)
