"""Runs tasks on an engine: groups at the same time, or every task by itself.

Theory. A line is what must run in order: a group, or a single task in parallel mode. Each step has the one before
it as its argument, so that a result goes from worker to worker and comes here only when somebody asks for it, and
quick tasks share a call. With `keep_going` a line has one step in the driver at a time, because which result the
next one gets is known only then; and so it has where results are kept, because one that cannot be is a failure,
after which the next one must not have begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from raflow import engines
from raflow.errors import ResumeError
from raflow.metrics import Status
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.events import StepEvent
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.workers import Workers
from raflow.workflows.chain.actions import Action
from raflow.workflows.chain.inline import keep, partial_result, perform
from raflow.workflows.chain.journal import Journal
from raflow.workflows.chain.run import WorkflowRun
from raflow.workflows.chain.task import Task, announce
from raflow.workflows.context import Context


def run_driven(run: WorkflowRun, journal: Journal, restored: Collection[Task], *, keep_going: bool) -> None:
    """Run a workflow's tasks; those that are restored are skipped.

    A failure ends its line; with `keep_going` the line's next task gets the last result that there is.
    """
    workers = engines.workers(run.engine, processes=run.mode == "parallel")
    workers.start()
    try:
        _Driven(run, journal, workers, keep_going=keep_going).drive(_lines(run), restored)
    finally:
        workers.close()


@dataclass(eq=False)
class _Line:
    tasks: deque[Task] = field(default_factory=deque)
    last: Task | None = None
    """The last one that has succeeded."""
    step: Step | None = None
    """Its step; None if it was restored."""


def _lines(run: WorkflowRun) -> list[_Line]:
    lines: dict[Any, _Line] = {}
    for task in run.tasks:
        key = task.task_id if run.mode == "parallel" else task.group_name
        lines.setdefault(key, _Line()).tasks.append(task)
    return list(lines.values())


class Performer:
    """What a worker calls for one task. It is the task's alone, so that no two tasks share a call."""

    def __init__(self, action: Action) -> None:
        self._action = action

    def __call__(self, initial: Context, previous: Any, previous_id: str, task_id: str) -> Any:
        """Make one attempt, with the value of the task before."""
        return perform(self._action, initial, Context(previous, previous_id, initial.workflow_id), task_id)


class _Driven:
    def __init__(self, run: WorkflowRun, journal: Journal, workers: Workers, *, keep_going: bool) -> None:
        self._run = run
        self._journal = journal
        self._keep_going = keep_going
        self._one_by_one = keep_going or journal.keeps
        self._driver = StepDriver(workers, run_id=run.workflow_id, on_end=self._ended, observers=[_announce])
        self._restored: Collection[Task] = ()
        self._stopped: ResumeError | None = None

    def drive(self, lines: list[_Line], restored: Collection[Task]) -> None:
        self._restored = restored
        for line in lines:
            self._next(line)
        self._driver.run()
        if self._stopped is not None:
            raise self._stopped

    def _next(self, line: _Line) -> None:
        while line.tasks:
            task = line.tasks.popleft()
            if task in self._restored:
                task.follow(line.last)
                line.last, line.step = task, None
                continue
            step = self._driver.add(self._step(task, line))
            if self._one_by_one:
                return
            line.last, line.step = task, step

    def _step(self, task: Task, line: _Line) -> Step:
        previous = line.step or (line.last.current_context if line.last else None)
        args = (task.initial_context, previous, line.last.task_id if line.last else "", task.task_id)
        action = task.step
        step = Step(action.name, Performer(action), args, options=action.options, id=task.task_id, note=(task, line))
        task.follow(line.last, lambda: step.status)
        return step

    def _ended(self, step: Step) -> None:
        task, line = step.note
        if step.status is Status.CANCELLED and not step.attempts:
            task.reset()
            return
        task.started_at = step.started_at
        task.retry_count = max(0, step.attempts - 1)
        for number, failure in enumerate(step.failures, 1):
            task.fail(failure, min(number, step.attempts))
        if step.status is Status.SUCCEEDED:
            self._keep(task, step)
        else:
            task.end(step.status, partial_result(task, step.failures[-1].error), step.finished_at)
        if step.status is not Status.CANCELLED and self._stopped is None:
            self._go_on(task, step, line)

    def _keep(self, task: Task, step: Step) -> None:
        driver, at = self._driver, step.finished_at

        def result() -> Context:
            return Context(driver.result(step), task.task_id, task.workflow_id, **_at(at))

        try:
            keep(task, result, self._journal, at)
        except ResumeError as error:
            self._stopped = error
            self._driver.cancel(str(error))

    def _go_on(self, task: Task, step: Step, line: _Line) -> None:
        self._run.ended(task)
        if not self._one_by_one:
            return
        if task.state is Status.SUCCEEDED:
            line.last, line.step = task, step
        if self._keep_going or task.state is Status.SUCCEEDED:
            self._next(line)


def _at(time: datetime | None) -> dict[str, Any]:
    return {} if time is None else {"time": time}


def _announce(event: StepEvent) -> None:
    if event.attempt:
        announce(event.run_id, event.step, event.status, event.error)
