"""A call on its way: what the driver knows of its tasks, and when one has taken too long."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.heartbeat import patience
from raflow.runtime.steps.messages import Beat, Task
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.worker import fell_silent, now, timed_out
from raflow.runtime.steps.workers import Call

Key: TypeAlias = "tuple[Callable[..., Any], str]"
"""Steps that may share calls: the function, and what a call of it needs."""


@dataclass
class InFlight:
    """A call on its way."""

    key: Key
    steps: dict[str, Step]
    """By id, in order; those that have not ended yet."""
    size: int
    """How many steps it had."""
    handle: Call | None = None
    begun: dict[str, datetime] = field(default_factory=dict)
    """When, of those that are known to have."""
    heard: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Last signs of life: when, `time.monotonic`, and what was said."""
    tasks: dict[str, Task] = field(default_factory=dict)
    closed: bool = False
    """Whether it was told to begin nothing more."""
    follows: bool = False
    """Whether it has steps that follow others in it."""

    def begin(self, step: Step) -> datetime:
        """Note that a step has begun, and return when."""
        return self.begun.setdefault(step.id, now())

    def hear(self, beat: Beat) -> bool:
        """Note a sign of life, from any thread; returns whether it is the first one, with which silence counts."""
        is_first = beat.task not in self.heard
        self.heard[beat.task] = time.monotonic(), beat.said
        return is_first

    def left(self, step: Step) -> float:
        """Return for how many seconds a step may still be silent."""
        return self.heard[step.id][0] + patience(step.heartbeat) - time.monotonic()

    def late(self, step: Step) -> Attempt:
        """Return the attempt of a step that has taken too long."""
        return timed_out(self.tasks[step.id], self.begun[step.id])

    def silent(self, step: Step) -> Attempt:
        """Return the attempt of a step that has been silent for too long."""
        return fell_silent(self.tasks[step.id], self.begun[step.id], self.heard.get(step.id, (0, ""))[1])

    def overdue(self, step: Step) -> Attempt | None:
        """Return an attempt whose worker is lost as late or silent, if that is why its worker has ended."""
        lasted = (now() - self.begun[step.id]).total_seconds()
        if lasted >= (step.options.timeout or math.inf):
            return self.late(step)
        silent = time.monotonic() - self.heard[step.id][0] if step.id in self.heard else lasted
        return self.silent(step) if silent >= (patience(step.heartbeat) or math.inf) else None
