"""One call of a dependency: the step that it became, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raflow.errors import StepTimedOut, TaskError, TaskTimedout
from raflow.metrics import Status
from raflow.runtime.failure import Failure, restore
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import Packed, Value, pack, unpack

if TYPE_CHECKING:
    from raflow.workflows.inferred.history import Place
    from raflow.workflows.inferred.scope import Scope


class Call:
    """A call that was made, and perhaps has ended.

    Args:
        scope: In which it was made.
        step: What it became.
        place: Where it stands in the workflow's code; None if it is not to be recorded.
    """

    def __init__(self, scope: Scope, step: Step, place: Place | None = None) -> None:
        self.scope = scope
        self.place = place
        self.digest = ""
        self.run = scope.run
        self.step = step
        self.order: tuple[int, int] | None = None
        """Place in the order of completion, over all resumes; None until it has ended."""
        self.ended = threading.Event()
        self.watchers: list[Callable[[], None]] = []
        """Called when it ends, on the driver's thread."""
        self.failure: Failure | None = None

    def value(self) -> Any:
        """Return a new copy of the result; waits for it.

        Raises:
            TaskError: It has failed.
        """
        self.check()
        return unpack(self.run.fetch(self.stored()))

    def check(self) -> None:
        """Wait for the end.

        Raises:
            TaskError: It has failed.
        """
        self.run.wait(self)
        if self.failure:
            self.run.seen.add(id(self.failure))
            self.scope.told.append(self)
            raise self.error()

    def error(self) -> TaskError:
        """Return what the workflow sees of its failure."""
        assert self.failure, "it has failed"
        return as_task_error(restore(self.failure), f"task {self.step.id}")

    def stored(self) -> Value:
        """Return the result as the engine keeps it."""
        assert self.step.values is not None, "it has succeeded"
        return self.step.values[0]

    def still(self, value: Any) -> bool:
        """Return whether the workflow has left the value as it came; False if that cannot be told."""
        before, now = self.run.fetch(self.stored()), pack(value, f"the result of {self.step.id}")
        return _content(before) == _content(now)

    def end(self) -> None:
        """Note how the step has ended."""
        if self.step.status is not Status.SUCCEEDED and self.step.failures:
            self.failure = self.step.failures[-1]
        if self.step.status in (Status.FAILED, Status.TIMED_OUT):
            self.run.failed.append(self)


def _content(packed: Packed) -> tuple[Any, ...]:
    return type(packed.atom), packed.atom, packed.data, [bytes(buffer) for buffer in packed.buffers]


def as_task_error(error: BaseException, where: str) -> TaskError:
    """Return an error as the failure of a task, unless it already is one."""
    if isinstance(error, TaskError):
        again = type(error)(*error.args)
        again.__cause__ = error.__cause__
        return again
    if isinstance(error, StepTimedOut):
        late = TaskTimedout(str(error))
        late.__cause__ = error
        return late
    told = TaskError(f"{type(error).__name__}: {error} ({where})")
    told.__cause__ = error
    return told
