"""What a filter function has said of records: those to keep stay as they are, with all their columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import RecordError


def records(
    batch: pa.RecordBatch, rows: Sequence[int], answers: Sequence[Any], fail: Callable[[int, Exception], None]
) -> pa.RecordBatch:
    """Return the records of which the function has said True.

    Args:
        batch: What they are rows of.
        rows: Of each answer.
        answers: Of a function that takes one record.
        fail: Takes the index and error of an answer that is neither True nor False.
    """
    mask = np.zeros(batch.num_rows, bool)
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if isinstance(answer, (bool, np.bool_)):
            mask[row] = answer
        else:
            fail(index, RecordError(f"a filter must return True or False for a record, not {answer!r}"))
    return batch.filter(pa.array(mask))


def rows(batch: pa.RecordBatch, taken: Sequence[int], answers: Any) -> pa.RecordBatch:
    """Return the records of which a function that takes a batch has said True; null is False.

    Args:
        batch: What they are rows of.
        taken: The rows that the function has got.
        answers: One per row: a list, an array or a series.

    Raises:
        RecordError: The answers are not one True or False per row.
    """
    try:
        mask = answers if isinstance(answers, (pa.Array, pa.ChunkedArray)) else pa.array(answers)
    except (pa.ArrowException, TypeError) as error:
        msg = f"a filter must return a True or False per record, not {type(answers).__name__}"
        raise RecordError(msg) from error
    if not pa.types.is_boolean(mask.type) or len(mask) != len(taken):
        msg = f"a filter must return a True or False per record: {len(taken)}, not {len(mask)} of {mask.type}"
        raise RecordError(msg)
    chosen = np.asarray(taken)[pc.fill_null(mask, False).to_numpy(zero_copy_only=False)]
    return batch.take(pa.array(chosen, pa.int64()))
