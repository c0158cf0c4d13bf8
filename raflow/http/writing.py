"""The sinks of one collector in one replica: long-lived writers, and a unit of work per flush.

Everything here runs on one thread, which is not that of the event loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raflow import convert
from raflow.convert import Encoded
from raflow.errors import SchemaError, SinkError
from raflow.http.targets import Target, target_of
from raflow.letters import batch_of
from raflow.options import CollectorOptions
from raflow.schema import conform, merge
from raflow.sinks import Sink, SinkContext

_MOST_COLUMNS = 10_000
"""Columns of which a collector knows the type that was written before."""


@dataclass
class Results:
    """What a function made of one request."""

    values: Any
    """A result per record, or the one result for a batch."""
    is_batch: bool
    """Whether it is the latter."""
    records: int
    """Records of the request that are in it."""
    misfits: dict[int, Exception] = field(default_factory=dict)
    """Why results are not written, by their place in `values`; filled by `Writing.add`."""
    letters: list[dict[str, Any]] = field(default_factory=list)
    """The dead letters of the request's other records."""
    letter: Callable[[int, Exception], dict[str, Any]] | None = None
    """Makes one of a misfit, by its place in `values`; None: they are not kept."""

    @property
    def size(self) -> int:
        """Records that are to be written, and dead letters."""
        return self.records + len(self.letters)


def is_about_data(error: BaseException) -> bool:
    """Return whether a sink failed because of what it was given, so that it would fail again."""
    found = error if not isinstance(error, SinkError) else error.__cause__ or error
    return isinstance(found, (pa.ArrowException, SchemaError, ValueError, TypeError)) and not isinstance(found, OSError)


class Writing:
    """Converts results and writes them to all sinks.

    Args:
        sinks: With the Flow's credentials.
        context: Of the run.
        name: Of the collector: begins the names of what is written.
        options: Of the collector.
        schema: What the function's annotation says of its results; None if nothing.
        error_sink: Where dead letters go, with the Flow's credentials; None: there are none.
        wrote: Told of each sink and the rows that it has got.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        context: SinkContext,
        name: str,
        options: CollectorOptions,
        schema: pa.Schema | None,
        error_sink: Sink | None = None,
        wrote: Callable[[Sink, int], None] = lambda sink, rows: None,
    ) -> None:
        self._sinks, self._context, self._name, self._options = sinks, context, name, options
        self._schema = schema
        self._error_sink, self._wrote = error_sink, wrote
        self._targets: list[tuple[Sink, Target]] = []
        self._flushed = schema
        self._rows: list[int] = []

    def open(self) -> None:
        """Open the sinks."""
        pa.array([0])  # Arrow imports pandas to look at its first list, for most of a second
        unit = f"{self._name}.{secrets.token_hex(4)}"  # no other replica has it, nor this one when it starts again
        for sink in self._sinks:
            self._targets.append((sink, target_of(sink, self._context, unit, self._options)))
        if (last := self._error_sink) is not None:
            self._targets.append((last, target_of(last, self._context, f"{unit}.errors", self._options)))
        self._rows = [0] * len(self._targets)

    def close(self) -> None:
        """Let readers see all that was written, and close the sinks."""
        with ExitStack() as stack:
            for _, target in self._targets:
                stack.callback(target.close)
            self._targets = []

    def add(self, some: Sequence[Results]) -> None:
        """Convert what some requests brought, for the next `flush`.

        What does not fit the schema is noted in `misfits` and left out, or becomes a dead letter.

        Raises:
            Exception: Whatever a sink raised. Nothing since the last flush counts as written.
        """
        with self._all_or_nothing():
            for one in some:
                one.misfits.clear()  # of an earlier try
            batches, letters = self._converted(some), _letters(some)
            for number, (_, target) in enumerate(self._targets):
                found = batches if number < len(self._sinks) else letters
                self._rows[number] += sum(batch.num_rows for batch in found)
                target.add(found)

    def flush(self, some: Sequence[Results]) -> None:
        """Write these, and what was added before: afterwards the sinks have all of it, or nothing counts.

        Raises:
            Exception: As of `add`.
        """
        self.add(some)
        with self._all_or_nothing():
            for target in self._touched():
                target.stage()
            for target in self._touched():
                target.publish()
        rows, self._rows = self._rows, [0] * len(self._targets)
        self._flushed = self._schema
        for (sink, _), count in zip(self._targets, rows, strict=True):
            self._wrote(sink, count)

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._schema = self._flushed  # what a sink refuses would spoil all that comes after it
            for target in self._touched():
                target.undo()
            self._rows = [0] * len(self._targets)
            raise

    def _touched(self) -> list[Target]:
        """Return the targets that have got rows since the last flush."""
        return [target for (_, target), rows in zip(self._targets, self._rows, strict=True) if rows]

    def due_s(self) -> float | None:
        """Return in how many seconds `roll` is to be called; None if there is no need."""
        return min((due for _, target in self._targets if (due := target.due_s()) is not None), default=None)

    def roll(self) -> None:
        """Let readers see files that are large or old enough.

        Raises:
            Exception: Whatever a sink raised; what was written stays written.
        """
        for _, target in self._targets:
            target.roll()

    def _converted(self, group: Sequence[Results]) -> list[pa.RecordBatch]:
        batches = [self._records([one for one in group if not one.is_batch])]
        batches += [self._batch(one) for one in group if one.is_batch]
        found = [batch for batch in batches if batch is not None and batch.num_rows]
        if not found:
            return []
        schema = merge(batch.schema for batch in found)
        return [conform(batch, schema) for batch in found]

    def _records(self, group: list[Results]) -> pa.RecordBatch | None:
        values = [value for one in group for value in one.values]
        places = [(one, place) for one in group for place in range(len(one.values))]
        encoded = convert.encode(values, self._schema)
        if encoded.rejected:
            # All results of a record are written, or none.
            for position, error in encoded.rejected:
                one, place = places[position]
                one.misfits[place] = error
                values[position] = None
            encoded = convert.encode(values, self._schema)
        return self._agreed(encoded)

    def _batch(self, one: Results) -> pa.RecordBatch | None:
        try:
            encoded = convert.encode_batch(one.values, self._schema)
            one.misfits.update(encoded.rejected)
            return self._agreed(encoded)
        except SchemaError as error:
            one.misfits.update(dict.fromkeys(range(one.records), error))
            return None

    def _agreed(self, encoded: Encoded) -> pa.RecordBatch | None:
        """Return the batch, and know its schema from now on: a later value of another kind is a misfit."""
        if encoded.batch is not None:
            known = [] if self._schema is None else [self._schema]
            wide = merge([*known, encoded.batch.schema], what="what this collector has written")
            if len(wide) <= _MOST_COLUMNS:  # clients choose the keys of dicts
                self._schema = wide
        return encoded.batch


def _letters(group: Sequence[Results]) -> list[pa.RecordBatch]:
    """Return the dead letters of a group, as one batch or none."""
    found: list[dict[str, Any]] = []
    for one in group:
        found += one.letters
        if one.letter is not None:
            found += [one.letter(place, error) for place, error in one.misfits.items()]
    return [batch_of(found)] if found else []
