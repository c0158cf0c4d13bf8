"""What functions made of requests, as record batches of one schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from raflow import convert
from raflow.batch import one_batch
from raflow.convert import Encoded
from raflow.errors import SchemaError
from raflow.letters import batch_of
from raflow.schema import conform, merge

_MOST_COLUMNS = 10_000
"""Columns of which a collector knows the type that was written before."""


@dataclass
class Results:
    """What a function made of one request, or as a lot of many."""

    values: Any
    """A result per record, or the one result for a batch."""
    is_batch: bool
    """Whether it is the latter."""
    records: int
    """Records of the request that are in it."""
    misfits: dict[int, Exception] = field(default_factory=dict)
    """Why results are not written, by the place of their record (of a lot: of their row); filled when they are
    converted."""
    letters: list[dict[str, Any]] = field(default_factory=list)
    """The dead letters of the request's other records."""
    letter: Callable[[int, Exception], dict[str, Any]] | None = None
    """Makes one of a misfit, by its place; None: they are not kept."""
    is_lot: bool = False
    """Whether it is a record batch of many requests, which need not stand or fall together."""
    is_whole: bool = False
    """Whether all of it is written or none: one misfit keeps the others out, too."""
    refused: Exception | None = None
    """Why a sink cannot hold it: all of it is dead letters then."""
    error_id: str | None = None
    """Under which the log has that."""

    @property
    def size(self) -> int:
        """Records that are to be written, and dead letters."""
        return self.records + len(self.letters)

    @property
    def rows(self) -> int:
        """Of a batch: what `misfits` count."""
        return int(self.values.num_rows) if self.is_lot else self.records

    @property
    def places(self) -> Iterable[int]:
        """The places of all that is to be written: what is None or empty is not."""
        if self.is_batch:
            return range(self.rows)
        return [place for place, value in enumerate(self.values) if value is not None and not _is_empty(value)]

    def all_letters(self) -> list[dict[str, Any]]:
        """Return its dead letters, with those of misfits where they are kept."""
        made = self.letter
        return [*self.letters, *([made(place, error) for place, error in self.misfits.items()] if made else ())]

    def halves(self) -> list[Results]:
        """Return a lot as two; one of a single row, and what is no lot, as it is."""
        if not self.is_lot or self.values.num_rows < 2:
            return [self]
        middle = self.values.num_rows // 2
        records = min(middle, self.records)
        left, right = _lean(self.values.slice(0, middle)), _lean(self.values.slice(middle))
        first = Results(left, True, records, letters=self.letters, letter=self.letter, is_lot=True)
        made = None if self.letter is None else partial(_later, self.letter, middle)
        return [first, Results(right, True, self.records - records, letter=made, is_lot=True)]


class Conversion:
    """Makes batches of results, whose types agree with all before.

    Args:
        schema: What is known of the results before there are any; None: nothing.
    """

    def __init__(self, schema: pa.Schema | None) -> None:
        self.schema = schema

    def batches(self, group: Sequence[Results]) -> list[pa.RecordBatch]:
        """Return the results of some requests as one batch or none.

        What does not fit is noted in `misfits` and left out.
        """
        for one in group:
            one.misfits.clear()  # of an earlier try
            if one.refused is not None:
                one.misfits.update(dict.fromkeys(one.places, one.refused))
        group = [one for one in group if one.refused is None]
        batches: list[pa.RecordBatch | None] = []
        for is_alone, some in groupby(group, lambda one: one.is_batch or one.is_whole):
            line = list(some)
            batches += [batch for one in line for batch in self._alone(one)] if is_alone else [self._records(line)]
        found = [batch for batch in batches if batch is not None and batch.num_rows]
        if len(found) <= 1:
            return found
        schema = merge(batch.schema for batch in found)
        return [one_batch([conform(batch, schema) for batch in found])]

    def _alone(self, one: Results) -> list[pa.RecordBatch | None]:
        known = self.schema
        found = self._batch(one) if one.is_batch else [self._records([one])]
        if not (one.is_whole and one.misfits):
            return found
        self.schema = known  # what is not written decides nothing for others
        return []

    def _records(self, group: list[Results]) -> pa.RecordBatch | None:
        values = [value for one in group for value in one.values]
        encoded = convert.encode(values, self.schema)
        if encoded.rejected:
            # All results of a record are written, or none.
            places = [(one, place) for one in group for place in range(len(one.values))]
            for position, error in encoded.rejected:
                one, place = places[position]
                one.misfits[place] = error
                values[position] = None
            encoded = convert.encode(values, self.schema)
        return self._agreed(encoded)

    def _batch(self, one: Results) -> list[pa.RecordBatch | None]:
        error: Exception
        try:
            encoded = convert.encode_batch(one.values, self.schema)
            if not encoded.rejected:
                return [self._agreed(encoded)]
            _, error = encoded.rejected[0]  # of whichever record: so all are written, or none
        except SchemaError as found:
            error = found
        halves = one.halves()
        if len(halves) == 1:
            one.misfits.update(dict.fromkeys(one.places, error))
            return []
        batches, before = [], 0
        for half in halves:
            batches += self._batch(half)
            one.misfits.update({before + place: error for place, error in half.misfits.items()})
            before += half.rows
        return batches

    def _agreed(self, encoded: Encoded) -> pa.RecordBatch | None:
        """Return the batch, and know its schema from now on: a later value of another kind is a misfit."""
        if encoded.batch is not None:
            known = [] if self.schema is None else [self.schema]
            wide = merge([*known, encoded.batch.schema], what="what this collector has written")
            if len(wide) <= _MOST_COLUMNS:  # clients choose the keys of dicts
                self.schema = wide
        return encoded.batch


def _is_empty(value: Any) -> bool:
    return type(value) is list and not value


def _later(letter: Callable[[int, Exception], dict[str, Any]], before: int, place: int, error: Exception) -> Any:
    """Return the letter of a place in the second half."""
    return letter(before + place, error)


def _lean(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch without columns that have no values, whose type may be what does not fit."""
    return batch.select([name for name in batch.schema.names if batch[name].null_count < batch.num_rows])


def letters(group: Sequence[Results]) -> list[pa.RecordBatch]:
    """Return the dead letters of a group, as one batch or none."""
    found = [letter for one in group for letter in one.all_letters()]
    return [batch_of(found)] if found else []
