"""One execution of a step, and the words for where it stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raflow.metrics import Status
from raflow.runtime.failure import said
from raflow.runtime.steps.step import Step as Call

if TYPE_CHECKING:
    from raflow.workflows.spec.flowgraph import FlowStep

STATUS_PENDING = "pending"
STATUS_RUNNING = "running"
STATUS_SUCCEEDED = "succeeded"
STATUS_FAILED = "failed"
STATUS_SKIPPED = "skipped"
STATUS_CANCELLED = "cancelled"
STATUS_TIMED_OUT = "timed_out"

WORDS = {
    Status.PENDING: STATUS_PENDING,
    Status.RUNNING: STATUS_RUNNING,
    Status.RETRYING: STATUS_RUNNING,
    Status.SUCCEEDED: STATUS_SUCCEEDED,
    Status.FAILED: STATUS_FAILED,
    Status.SKIPPED: STATUS_SKIPPED,
    Status.CANCELLED: STATUS_CANCELLED,
    Status.TIMED_OUT: STATUS_TIMED_OUT,
}


class FlowNode:
    """One execution of a step: with which inputs, and what became of it.

    Args:
        parent: The step.
        index: Which of the step's executions this is, from 0.
        call: What the step driver knows of it; None: nothing, it is pending.
        predecessors: The nodes whose results it gets.
        fetch: Gets the value of a call.
    """

    __slots__ = ("_fetch", "_predecessors", "call", "index", "parent", "run_id")

    def __init__(
        self,
        parent: FlowStep,
        index: int,
        call: Call | None = None,
        predecessors: Callable[[], list[FlowNode]] = list,
        fetch: Callable[[Call], Any] | None = None,
    ) -> None:
        self.parent = parent
        self.index = index
        self.run_id: str | None = None
        """Under which its app was run; None unless the step is an app."""
        self.call = call or Call(parent.id, parent.step_function, id=self.id)
        self._predecessors = predecessors
        self._fetch = fetch

    @property
    def id(self) -> str:
        """Unique in the flow: the step's name and the index."""
        return f"{self.parent.id}_{self.index}"

    @property
    def status(self) -> str:
        """One of the STATUS words, as it is now."""
        return WORDS[self.call.status]

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self.call.status.is_final

    @property
    def cancel(self) -> bool:
        """Whether it was given up, because another one failed or the run was stopped."""
        return self.call.status is Status.CANCELLED

    @property
    def error(self) -> str | None:
        """Type and text of the error with which it failed; None if it did not fail."""
        if self.call.status not in (Status.FAILED, Status.TIMED_OUT):
            return None
        return said(self.call.failures[-1].error)

    @property
    def result(self) -> Any:
        """What it returned, as a new copy each time; None before it has succeeded."""
        return self._fetch(self.call) if self._fetch and self.call.values is not None else None

    @property
    def predecessors(self) -> list[FlowNode]:
        """The nodes whose results it gets."""
        return self._predecessors()

    def __repr__(self) -> str:
        return f"FlowNode({self.id}, {self.status})"
