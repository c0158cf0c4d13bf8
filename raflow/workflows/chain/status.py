"""The words in which chains tell how far a task is."""

from __future__ import annotations

from raflow.metrics import Status


class TypeStatus:
    """What `Task.status` and `WorkflowRun.status` can be; `state` has the finer `raflow.metrics.Status`."""

    NOT_STARTED = "Not started"
    IN_PROGRESS = "In progress"
    RETRY = "Retry"
    COMPLETED = "Completed"
    FAILED = "Failed"


WORDS = {
    Status.PENDING: TypeStatus.NOT_STARTED,
    Status.RUNNING: TypeStatus.IN_PROGRESS,
    Status.RETRYING: TypeStatus.RETRY,
    Status.SUCCEEDED: TypeStatus.COMPLETED,
    Status.FAILED: TypeStatus.FAILED,
    Status.SKIPPED: TypeStatus.NOT_STARTED,
    Status.CANCELLED: TypeStatus.FAILED,
    Status.TIMED_OUT: TypeStatus.FAILED,
}
"""The word of each state."""
