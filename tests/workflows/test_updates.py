from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from raflow.metrics import Status
from raflow.workflows.updates import DOCS_CHARS, NodeDTO, StepDTO, flow_update


def test_a_state_is_sent_as_its_users_know_it() -> None:
    steps: list[dict[str, Any]] = [
        {"id": "a", "docs": "doc of a"},
        {"id": "b", "predecessors": ["a"], "app_id": "solver"},
    ]
    nodes: list[dict[str, Any]] = [
        {"id": "a_0", "parent_id": "a", "status": Status.SUCCEEDED},
        {"id": "b_0", "parent_id": "b", "predecessor_ids": ["a_0"], "status": "running", "run_id": "r1"},
    ]
    sent = json.loads(flow_update(steps, nodes).to_json())
    assert sent["pipeline_graph"] == {
        "steps": [
            {"id": "a", "predecessors": [], "docs": "doc of a"},
            {"id": "b", "predecessors": ["a"], "app_id": "solver"},
        ],
        "nodes": [
            {"id": "a_0", "parent_id": "a", "predecessor_ids": [], "status": "succeeded"},
            {"id": "b_0", "parent_id": "b", "predecessor_ids": ["a_0"], "status": "running", "run_id": "r1"},
        ],
    }
    updated_at = datetime.fromisoformat(sent["updated_at"].replace("Z", "+00:00"))
    assert abs(updated_at - datetime.now(timezone.utc)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("docs", "sent"),
    [("x" * DOCS_CHARS, "x" * DOCS_CHARS), ("x" * (DOCS_CHARS + 1), "x" * DOCS_CHARS + "…"), (None, None)],
)
def test_long_docs_are_cut(docs: str | None, sent: str | None) -> None:
    assert StepDTO(id="a", docs=docs).docs == sent


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="color"):
        flow_update([{"id": "a", "color": "red"}])
    assert NodeDTO(id="a_0", parent_id="a", status="pending").run_id is None
