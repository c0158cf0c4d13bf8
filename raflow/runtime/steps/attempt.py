"""What became of one attempt of a step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from raflow.runtime.failure import Failure
from raflow.runtime.steps.values import Value


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt; travels from the worker to the driver."""

    started_at: datetime
    finished_at: datetime
    values: tuple[Value, ...] = ()
    """The result; or, of a step that expands, one value per item."""
    failure: Failure | None = None
    retryable: bool = True
    """Whether the failure is one after which the step may be tried again."""
    timed_out: bool = False
