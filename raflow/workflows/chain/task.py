"""One task of a workflow: an action with its place in the chain, and what has become of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from raflow.metrics import Status
from raflow.runtime.failure import Failure
from raflow.runtime.steps.worker import now
from raflow.workflows.chain.actions import Action
from raflow.workflows.chain.schema import TaskSchema
from raflow.workflows.chain.status import WORDS, TypeStatus
from raflow.workflows.context import Context

if TYPE_CHECKING:
    from raflow.workflows.chain.config import Config

log = logging.getLogger("raflow")


@dataclass(frozen=True)
class TaskError:
    """Why an attempt of a task failed."""

    attempt: int
    """From 1; 0 if it failed before its first one."""
    exception: str
    """Name of the error's type."""
    message: str
    traceback: str
    """The user's own frames, innermost call last, with the error itself."""

    @classmethod
    def of(cls, failure: Failure, attempt: int) -> TaskError:
        """Return the record of a failure."""
        name, message = type(failure.error).__name__, str(failure.error)
        return cls(attempt, name, message, failure.traceback or f"{name}: {message}\n")


class Task:
    """A task in a workflow's queue. Workflows make them; users read them.

    Attributes:
        task_id: `<function>#<n>`: the n-th task of that function, from 0; the same in every process.
        workflow_id: The workflow's id.
        step: The action.
        callback: Called with `task=` after the task has ended, or None.
        initial_context: What the step gets as `initial_context`.
        errors: One record per failed attempt, also of tasks that succeeded later.
        config: The workflow's.
        group_name: Tasks of one group run in order, groups at the same time.
        retry_count: Attempts after the first one.
        created_at: When it was added, UTC.
        started_at: When its first attempt began, UTC; None before.
        finished_at: When its last attempt ended, UTC; None before.
    """

    def __init__(
        self,
        task_id: str,
        step: Action,
        *,
        callback: Callable[..., Any] | None = None,
        initial_context: Any = None,
        workflow_id: str | None = None,
        config: Config | None = None,
        group_name: str = "default",
    ) -> None:
        self.task_id = task_id
        self.workflow_id = workflow_id
        self.step = step
        self.callback = callback
        self.initial_context = Context(initial_context, workflow_id=workflow_id)
        self.config = config
        self.group_name = group_name
        self.created_at = now()
        self.reset()

    def reset(self) -> None:
        """Forget what has become of it."""
        self.errors: list[TaskError] = []
        self.retry_count = 0
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self._last: Task | None = None
        self._state = Status.PENDING
        self._live: Callable[[], Status] | None = None
        self._result: Context | Callable[[], Context] | None = None

    def __repr__(self) -> str:
        return f"<task {self.task_id}: {self.status}>"

    @property
    def checkpoint_key(self) -> str:
        """What its result is kept under: the `task_id`."""
        return self.task_id

    @property
    def state(self) -> Status:
        """How far it is, in raflow's own words."""
        return self._live() if self._live else self._state

    @property
    def status(self) -> str:
        """How far it is: a word of `TypeStatus`."""
        state = self.state
        if state is Status.CANCELLED and self.started_at is None:
            return TypeStatus.NOT_STARTED
        return WORDS[state]

    @property
    def previous_context(self) -> Context:
        """What the step gets as `previous_context`: the last result before it."""
        return self._last.current_context if self._last else Context(workflow_id=self.workflow_id)

    @property
    def current_context(self) -> Context:
        """Its result; one whose `storage` is None before, and after a failure.

        Of a class whose third action failed, `storage` is the list of the first two results.
        """
        if callable(self._result):
            self._result = self._result()
        return self._result or Context(None, self.task_id, self.workflow_id)

    @property
    def duration(self) -> float | None:
        """Seconds from the start of its first attempt to the end of the last one; None before."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())

    @property
    def error(self) -> TaskError | None:
        """The last of its errors, or None."""
        return self.errors[-1] if self.errors else None

    def schema(self) -> TaskSchema:
        """Return what is known of it as a pydantic model."""
        return TaskSchema.model_validate(self, from_attributes=True)

    # -- for those who run it -----------------------------------------------------------------------------

    def follow(self, last: Task | None, live: Callable[[], Status] | None = None) -> None:
        """It comes after the last one that succeeded; its state is to be read there while an engine runs it."""
        self._last = last
        self._live = live

    def begin(self) -> None:
        """It starts now."""
        self.started_at = now()
        self._change(Status.RUNNING)

    def fail(self, failure: Failure, attempt: int) -> None:
        """Remember why an attempt failed."""
        self.errors.append(TaskError.of(failure, attempt))

    def retry(self, attempt: int) -> None:
        """There is a further attempt after this one."""
        self.retry_count = attempt
        self._change(Status.RETRYING)

    def end(
        self, state: Status, result: Context | Callable[[], Context] | None, at: datetime | None, *, tell: bool = False
    ) -> None:
        """It will not change any more; the result may be something that fetches it."""
        self.finished_at = at
        self._result = result
        self._live = None
        self._change(state, tell=tell)

    def restore(self, result: Context) -> None:
        """It succeeded in an earlier run, with this result."""
        self._result = result
        self._state = Status.SUCCEEDED

    def _change(self, state: Status, *, tell: bool = True) -> None:
        self._state = state
        if tell and log.isEnabledFor(logging.ERROR):
            error = self.errors[-1] if self.errors else None
            text = f"{error.exception}: {error.message}" if error else None
            announce(self.workflow_id, self.task_id, state, text, self.duration)


def announce(
    workflow_id: str | None, task_id: str, state: Status, error: str | None, duration: float | None = None
) -> None:
    """Log that a task has changed: one line, ERROR if it has failed and INFO otherwise."""
    level = logging.ERROR if state in (Status.FAILED, Status.TIMED_OUT) else logging.INFO
    if not log.isEnabledFor(level):
        return
    took = "" if duration is None else f" after {duration:.3f} s"
    why = f": {error}" if error and state is not Status.SUCCEEDED else ""
    log.log(level, "workflow %s: task %s: %s%s%s", workflow_id, task_id, WORDS[state], took, why)
