"""What a step hands on: its value, and where and when it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

from raflow.errors import InvalidOption


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class Context:
    """A value with its origin; `Context(context)` is a copy, in which ids may be given anew.

    Attributes:
        storage: The value.
        task_id: The task that made it; any text.
        workflow_id: The workflow of that task; any text, or None.
        time: When it was made, in UTC. Contexts that differ in nothing else are equal.
    """

    storage: Any = None
    task_id: str = ""
    workflow_id: str | None = None
    time: datetime = field(default_factory=_now, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.storage, Context):
            inner = self.storage
            self.storage, self.time = inner.storage, inner.time
            self.task_id = self.task_id or inner.task_id
            self.workflow_id = inner.workflow_id if self.workflow_id is None else self.workflow_id
        self.task_id = _text("task_id", self.task_id) or ""
        self.workflow_id = _text("workflow_id", self.workflow_id)


def _text(name: str, given: Any) -> str | None:
    if given is None or isinstance(given, str | UUID):
        return None if given is None else str(given)
    msg = f"{name} must be text, not a {type(given).__name__}: {given!r}"
    raise InvalidOption(msg)
