"""Workflows and tasks as pydantic models, for users who store or send them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field, field_serializer, field_validator
from pydantic_core import to_jsonable_python

from raflow.workflows.context import Context


class ErrorSchema(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(from_attributes=True)

    attempt: int
    exception: str
    message: str
    traceback: str


class TaskSchema(BaseModel):
    """A task, with the values of its contexts: those of a class as a list. JSON shows others by their `repr`."""

    model_config = ConfigDict(from_attributes=True)

    task_id: str
    workflow_id: str | None
    status: str
    group_name: str
    initial_context: Any = None
    previous_context: Any = None
    current_context: Any = None
    duration: float | None = None
    retry_count: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    errors: list[ErrorSchema] = []

    @computed_field  # type: ignore[prop-decorator] # as pydantic's documentation says
    @property
    def id(self) -> str:
        """The `task_id`."""
        return self.task_id

    @computed_field  # type: ignore[prop-decorator]
    @property
    def error(self) -> ErrorSchema | None:
        """The last error, or None."""
        return self.errors[-1] if self.errors else None

    @field_validator("initial_context", "previous_context", "current_context", mode="before")
    @classmethod
    def _value(cls, given: Any) -> Any:
        return _plain(given)

    @field_serializer("initial_context", "previous_context", "current_context", when_used="json")
    def _json(self, value: Any) -> Any:
        try:
            return to_jsonable_python(value, fallback=repr, serialize_unknown=True)
        except ValueError:  # bytes that are no text, or a value that contains itself
            return repr(value)


class WorkflowSchema(BaseModel):
    """A workflow and its tasks, in their order."""

    workflow_id: str
    workflow_name: str | None
    tasks: list[TaskSchema]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The `workflow_id`."""
        return self.workflow_id

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str | None:
        """The `workflow_name`."""
        return self.workflow_name


def _plain(value: Any) -> Any:
    value = value.storage if isinstance(value, Context) else value
    return (
        [_plain(one) for one in value]
        if type(value) is list and any(isinstance(one, Context) for one in value)
        else value
    )
