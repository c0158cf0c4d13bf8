"""Runs tasks one after the other in the thread that calls: no engine, no copies."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from raflow.errors import ResumeError, StepTimedOut
from raflow.metrics import Status
from raflow.runtime.failure import explain
from raflow.runtime.steps.worker import now
from raflow.workflows.chain.actions import Action
from raflow.workflows.chain.attempts import settled, tried
from raflow.workflows.chain.classes import done_before, methods, run_methods
from raflow.workflows.chain.journal import Journal
from raflow.workflows.chain.run import WorkflowRun
from raflow.workflows.chain.task import Task
from raflow.workflows.context import Context


def run_inline(run: WorkflowRun, journal: Journal, restored: Collection[Task], *, keep_going: bool) -> None:
    """Run a workflow's tasks; those that are restored are skipped.

    With `keep_going`, a task after a failed one gets the last result that there is.
    """
    last: Task | None = None
    for task in run.tasks:
        task.follow(last)
        if task not in restored:
            _run_task(task, journal)
            run.ended(task)
        if task.state is Status.SUCCEEDED:
            last = task
        elif not keep_going:
            return


def perform(action: Action, initial: Context, previous: Context, task_id: str) -> Any:
    """Make one attempt: call the action, and the actions of an object that it returns."""
    result = settled(action.given(initial, previous))
    return run_methods(result, initial, previous, task_id) if methods(type(result)) else result


def keep(
    task: Task, result: Context | Callable[[], Context], journal: Journal, at: datetime | None, *, tell: bool = False
) -> None:
    """End a task well, after its result was kept. A result that cannot be kept is the task's failure.

    Raises:
        ResumeError: Another process has taken the workflow over.
    """
    try:
        journal.write(task, result)
    except (ResumeError, KeyboardInterrupt):
        task.end(Status.CANCELLED, None, at)
        raise
    except BaseException as error:
        task.fail(explain(error, task.task_id), task.retry_count + 1)
        task.end(Status.FAILED, None, at, tell=True)
    else:
        task.end(Status.SUCCEEDED, result, at, tell=tell)


def partial_result(task: Task, error: BaseException) -> Context | None:
    """Return what a class had done before one of its actions raised this error."""
    done = done_before(error)
    return Context(done, task.task_id, task.workflow_id) if done else None


def _run_task(task: Task, journal: Journal) -> None:
    action, initial, previous, task_id = task.step, task.initial_context, task.previous_context, task.task_id

    def failed(attempt: int, error: BaseException, again: bool) -> None:
        task.fail(explain(error, task_id), attempt)
        if again:
            task.retry(attempt)

    task.begin()
    try:
        result = tried(action, lambda: perform(action, initial, previous, task_id), task_id, failed)
    except KeyboardInterrupt:
        task.end(Status.CANCELLED, None, now(), tell=True)
        raise
    except BaseException as error:
        state = Status.TIMED_OUT if type(error) is StepTimedOut else Status.FAILED
        task.end(state, partial_result(task, error), now(), tell=True)
        return
    at = now()
    keep(task, Context(result, task_id, task.workflow_id, time=at), journal, at, tell=True)
