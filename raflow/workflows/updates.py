"""The state of a flow as a server is told it: what an uplink sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

DOCS_CHARS = 1000
"""The longest text that tells of a step; longer ones are cut."""


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepDTO(_Sent):
    """A step of the flow, as it is written."""

    id: str
    predecessors: tuple[str, ...] = ()
    """Ids of steps."""
    docs: str | None = None
    app_id: str | None = None

    @field_validator("docs")
    @classmethod
    def _cut(cls, docs: str | None) -> str | None:
        return docs if docs is None or len(docs) <= DOCS_CHARS else docs[:DOCS_CHARS] + "…"


class NodeDTO(_Sent):
    """One execution of a step: a fanned-out step has many."""

    id: str
    parent_id: str
    """Id of the step."""
    predecessor_ids: tuple[str, ...] = ()
    """Ids of nodes."""
    status: str
    run_id: str | None = None
    """Of the app that it runs, if it runs one."""


class FlowDTO(_Sent):
    """The graph of a flow, and what has become of it."""

    steps: tuple[StepDTO, ...] = ()
    nodes: tuple[NodeDTO, ...] = ()


class FlowUpdateDTO(_Sent):
    """The state of a flow at one moment."""

    pipeline_graph: FlowDTO
    updated_at: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))

    def to_json(self) -> bytes:
        """Return what is sent; fields that are None are left out."""
        return self.model_dump_json(exclude_none=True).encode()


def flow_update(steps: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]] = ()) -> FlowUpdateDTO:
    """Return the state of a flow, as of now.

    Args:
        steps: Each with `id`, and perhaps `predecessors`, `docs` and `app_id`.
        nodes: Each with `id`, `parent_id` and `status`, and perhaps `predecessor_ids` and `run_id`.
    """
    graph = FlowDTO.model_validate({"steps": list(steps), "nodes": list(nodes)})
    return FlowUpdateDTO(pipeline_graph=graph)
