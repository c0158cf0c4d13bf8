"""A Context holds a value and where it came from."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone
from uuid import UUID

import pytest

from raflow.checkpoints.codec import decode, encode
from raflow.errors import InvalidOption
from raflow.workflows.context import Context


def test_an_empty_context_has_no_value_and_no_origin() -> None:
    context = Context()
    assert (context.storage, context.task_id, context.workflow_id) == (None, "", None)


def test_its_time_is_now_in_utc() -> None:
    context = Context(1)
    assert context.time.tzinfo is timezone.utc
    assert datetime.now(timezone.utc) - context.time < timedelta(minutes=1)


def test_ids_are_any_text() -> None:
    context = Context([1], "extract/0 ☃", "my-pipeline-v1")
    assert (context.task_id, context.workflow_id) == ("extract/0 ☃", "my-pipeline-v1")
    assert Context(workflow_id=UUID(int=1)).workflow_id == str(UUID(int=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["task_id", "workflow_id"])
def test_other_ids_are_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match=f"{name} must be text, not a int: 5"):
        Context(None, **{name: 5})  # type: ignore[arg-type]


def test_a_wrapped_context_is_copied() -> None:
    inner = Context({"a": 1}, "t", "w")
    outer = Context(inner)
    assert (outer.storage, outer.task_id, outer.workflow_id, outer.time) == (inner.storage, "t", "w", inner.time)
    assert Context(inner, "other").task_id == "other"


def test_contexts_of_one_value_and_origin_are_equal() -> None:
    assert Context(1, "t", "w") == Context(1, "t", "w")
    assert Context(1, "t", "w") != Context(2, "t", "w")
    assert Context(1, "t", "w") != Context(1, "t", "v")
    assert Context(1) != object()


def test_its_repr_says_everything() -> None:
    assert repr(Context([1], "t", "w")).startswith("Context(storage=[1], task_id='t', workflow_id='w', time=")


def test_it_travels_and_is_stored_whole() -> None:
    context = Context([Context(1, "inner")], "t", "w")
    for back in (pickle.loads(pickle.dumps(context)), decode(encode(context))):
        assert back == context
        assert back.time == context.time
        assert back.storage[0].task_id == "inner"
