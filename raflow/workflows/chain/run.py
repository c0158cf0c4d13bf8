"""One run of a workflow, as `start` returns it."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - its exit handler must be there first, to run after ours
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from raflow.metrics import Status
from raflow.workflows.chain.attempts import settled
from raflow.workflows.chain.callbacks import tell
from raflow.workflows.chain.status import WORDS
from raflow.workflows.chain.task import Task

log = logging.getLogger("raflow")


@dataclass(frozen=True)
class CallbackError:
    """A callback has raised."""

    callback: str
    """Its name."""
    task_id: str | None
    """The task that it was told of; None for `on_success` and `on_failure`."""
    error: BaseException


class WorkflowRun:
    """A run of a workflow.

    Attributes:
        workflow_id: The workflow's id.
        mode: As it was started.
        engine: `local` or `ray`.
        tasks: Its tasks, in their order.
        callback_errors: What callbacks raised; it changes nothing else.
        state: How far it is, in raflow's own words.
        thread: In which it runs in the background; None otherwise.
    """

    def __init__(self, workflow_id: str, mode: str, engine: str, tasks: Sequence[Task]) -> None:
        self.workflow_id = workflow_id
        self.mode = mode
        self.engine = engine
        self.tasks = list(tasks)
        self.callback_errors: list[CallbackError] = []
        self.state = Status.PENDING
        self.thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<run of workflow {self.workflow_id}: {self.status}>"

    @property
    def status(self) -> str:
        """How far it is: a word of `TypeStatus`. It is Failed if any task is."""
        return WORDS[self.state]

    def wait(self, timeout: float | None = None) -> WorkflowRun:
        """Wait for its end, and return it.

        Args:
            timeout: Seconds to wait at most; None: no bound.

        Raises:
            TimeoutError: It goes on still.
            BaseException: What stopped it, if that was no task's failure: an interrupt, or a resume elsewhere.
        """
        if self.thread is not None:
            self.thread.join(timeout)
            if self.thread.is_alive():
                msg = f"workflow {self.workflow_id} has not ended within {timeout:g} s"
                raise TimeoutError(msg)
        if self._error is not None:
            raise self._error
        return self

    # -- for those who run it -----------------------------------------------------------------------------

    def execute(
        self,
        work: Callable[[WorkflowRun], None],
        on_success: Callable[..., Any] | None,
        on_failure: Callable[..., Any] | None,
    ) -> None:
        """Do the work, then call one of the callbacks."""
        self.state = Status.RUNNING
        try:
            work(self)
        except BaseException:
            self.state = Status.CANCELLED
            raise
        good = all(task.state is Status.SUCCEEDED for task in self.tasks)
        self.state = Status.SUCCEEDED if good else Status.FAILED
        self._call(on_success if good else on_failure, "tasks", self.tasks)

    def behind(self, execute: Callable[[], None]) -> None:
        """Execute in a thread of its own; what stops it is told by `wait`."""

        def guarded() -> None:
            try:
                execute()
            except BaseException as error:
                self._error = error
                log.exception("workflow %s was stopped", self.workflow_id)

        self.thread = threading.Thread(target=guarded, name=f"workflow {self.workflow_id}", daemon=False)
        _BEHIND.add(self.thread)
        self.thread.start()

    def ended(self, task: Task) -> None:
        """Tell a task's callback that it has ended."""
        self._call(task.callback, "task", task)

    def _call(self, callback: Callable[..., Any] | None, name: str, value: Any) -> None:
        if callback is None:
            return
        try:
            settled(tell(callback, name, value))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            called = getattr(callback, "__name__", repr(callback))
            task_id = value.task_id if isinstance(value, Task) else None
            self.callback_errors.append(CallbackError(called, task_id, error))
            log.exception("workflow %s: callback %s of %s failed", self.workflow_id, called, task_id or "the workflow")


_BEHIND: WeakSet[threading.Thread] = WeakSet()


def _complete() -> None:
    for thread in list(_BEHIND):
        thread.join()


# The threads are no daemons, so that a program that ends waits for them anyhow. But before it does, it forbids new
# work to executors, which async steps need: so it waits here, one moment earlier, where Python lets it.
with contextlib.suppress(AttributeError, RuntimeError):
    threading._register_atexit(_complete)  # type: ignore[attr-defined]
