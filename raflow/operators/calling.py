"""Calls Python functions on groups of rows, so that every error names the key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raflow.batch import one_batch
from raflow.convert import Encoded
from raflow.errors import InvalidOption, InvalidProcessor, RecordError, SchemaError
from raflow.operators.grouping import Ask, group, positions, rows_of


@dataclass(frozen=True)
class Groups:
    """The rows of a table in groups with equal keys, in order of first sight."""

    what: str
    """What is done to them, for errors."""
    keys: pa.Table
    """A row per group."""
    rows: pa.RecordBatch
    """Those of the first group, then those of the second, each in their order."""
    ends: list[int]
    """Where in the rows each group ends."""

    def call(self, function: Callable[[slice], Any]) -> list[Any]:
        """Return what a function makes of each group's place in the rows.

        An error of the function is raised as it is, with a note that names the key.

        Raises:
            RecordError: Types do not fit.
        """
        results: list[Any] = []
        try:
            for start, end in zip([0, *self.ends], self.ends, strict=False):  # `map` would end at a StopIteration
                results.append(function(slice(start, end)))
        except SchemaError as error:
            msg = f"{self.what}: failed for {self.key(len(results))}: {error}"
            raise RecordError(msg) from error
        except Exception as error:
            notes = vars(error).setdefault("__notes__", [])  # `add_note` is new in Python 3.11
            notes.append(f"{self.what}: failed for {self.key(len(results))}")
            raise
        return results

    def fitting(self, encoded: Encoded) -> pa.RecordBatch | None:
        """Return encoded results, one per group.

        Raises:
            RecordError: A result does not fit.
        """
        for number, error in encoded.rejected:
            msg = f"{self.what}: the result for {self.key(number)} does not fit: {error}"
            raise RecordError(msg) from error
        return encoded.batch

    def key(self, number: int) -> str:
        """Return a group's key for a message."""
        (values,) = self.keys.slice(number, 1).to_pylist()
        return ", ".join(f"{name}={value!r:.60}" for name, value in values.items())


def groups_of(table: pa.Table, keys: Sequence[str], what: str) -> Groups:
    """Return the groups of a table that has rows.

    Args:
        table: The rows.
        keys: Columns that are equal in a group; nulls are.
        what: What is done to them, for errors.
    """
    numbers = positions(table.num_rows)
    found, (lists, first) = group(table, keys, [Ask(numbers, "list"), Ask(numbers, "min")])
    order = pc.sort_indices(first)
    rows = rows_of(lists.take(order))
    ordered = one_batch(table.take(pa.array(rows.order)).to_batches())
    return Groups(what, found.take(order), ordered, np.cumsum(rows.lengths).tolist())


def check_function(function: Any, keys: Sequence[str], what: str) -> None:
    """Check what an operator is given.

    Raises:
        InvalidOption: There are no keys.
        InvalidProcessor: The function cannot be called just so.
    """
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if isinstance(function, type) or not callable(function) or is_async:
        msg = f"{what} needs a plain function, not {'async code' if is_async else 'a class or value'}: {function!r:.80}"
        raise InvalidProcessor(msg)
    if not keys:
        msg = f"{what}: there are no keys; name at least one column"
        raise InvalidOption(msg)
