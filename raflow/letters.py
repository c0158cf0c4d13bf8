"""Dead letters: the one form of row in which records that fail are kept, by runs and by collectors."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pyarrow as pa

DEAD_LETTERS = pa.schema(
    [
        ("record", pa.string()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("traceback", pa.string()),
        ("processor", pa.string()),
        ("attempt", pa.int32()),
        ("position", pa.string()),
    ]
)
"""Columns of a dead letter: the record as JSON, what happened, where, and where the record came from."""


def letter(
    record: str, error: BaseException, *, processor: str, attempt: int, position: str, traced: bool = True
) -> dict[str, Any]:
    """Return a dead letter.

    Args:
        record: As JSON, or what came in its place.
        error: Why it failed; one that was never raised has no traceback.
        processor: Name of the processor.
        attempt: Of its unit of work, from 1.
        position: Where the record came from.
        traced: Whether it has the traceback; where many share an error, one is enough.
    """
    trace = "".join(traceback.format_exception(error)) if traced and error.__traceback__ else ""
    return {
        "record": _storable(record),
        "error_type": type(error).__name__,
        "error": _storable(str(error)),
        "traceback": _storable(trace),
        "processor": processor,
        "attempt": attempt,
        "position": position,
    }


def as_json(value: Any) -> str:
    """Return a record, or several, as a dead letter has it: what JSON cannot hold is text."""
    return json.dumps(value, default=str, ensure_ascii=False)


def row_as_json(batch: pa.RecordBatch, row: int) -> str:
    """Return a record of a batch as a dead letter has it; a value that Python lacks is Arrow's text of it."""
    one = batch.slice(row, 1)
    try:
        return as_json(one.to_pylist()[0])
    except (ValueError, OverflowError):  # such as a date after the year 9999
        return as_json({name: _value(one[name]) for name in one.schema.names})


def _value(column: pa.Array) -> Any:
    try:
        return column.to_pylist()[0]
    except (ValueError, OverflowError):
        return column.to_string(indent=0).strip("[]\n")


def batch_of(letters: list[dict[str, Any]]) -> pa.RecordBatch:
    """Return dead letters as a batch."""
    return pa.RecordBatch.from_pylist(letters, schema=DEAD_LETTERS)


def _storable(text: str) -> str:
    """Return text that has a UTF-8 form: names of files and bad input may hold halves of characters."""
    return text.encode(errors="backslashreplace").decode()
