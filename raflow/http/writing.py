"""The sinks of one collector in one replica: long-lived writers, and a unit of work per flush.

Everything here runs on one thread, which is not that of the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raflow import convert
from raflow.convert import Encoded
from raflow.errors import SchemaError
from raflow.schema import conform, merge
from raflow.sinks import Part, Sink, SinkContext, Writer


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
    """Why results are not written, by their place in `values`; filled by `Writing.flush`."""


class Writing:
    """Converts results and writes them to all sinks.

    Args:
        sinks: With the Flow's credentials.
        context: Of the run.
        unit: Begins the names of the units of work; unique to this replica.
        schema: What the function's annotation says of its results; None if nothing.
    """

    def __init__(self, sinks: Sequence[Sink], context: SinkContext, unit: str, schema: pa.Schema | None) -> None:
        self._sinks = sinks
        self._context = context
        self._unit = unit
        self._schema = schema
        self._writers: list[Writer] = []
        self._flushes = 0

    def open(self) -> None:
        """Open the writers, so that what is wrong with a sink shows at once."""
        self._writers = [sink.open(self._context) for sink in self._sinks]

    def close(self) -> None:
        """Close the writers."""
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.close()

    def flush(self, group: Sequence[Results]) -> None:
        """Write what a group of requests brought: afterwards the sinks have all of it, or nothing.

        What does not fit the schema is noted in `misfits` and left out.

        Raises:
            Exception: Whatever a sink raised. Nothing of the group counts as written.
        """
        batches = self._converted(group)
        if not batches or not self._sinks:
            return
        if not self._writers:
            self.open()
        self._flushes += 1
        staged: list[tuple[Sink, list[Part]]] = []
        try:
            for sink, writer in zip(self._sinks, self._writers, strict=True):
                staged.append((sink, self._stage(writer, batches)))
            for sink, parts in staged:
                sink.commit(parts)
        except BaseException:
            self._undo(staged)
            raise

    def _stage(self, writer: Writer, batches: list[pa.RecordBatch]) -> list[Part]:
        writer.begin(f"{self._unit}.{self._flushes}", 0)
        for batch in batches:
            writer.write(batch)
        return writer.prepare()

    def _undo(self, staged: list[tuple[Sink, list[Part]]]) -> None:
        """Take back what a failed flush has left; the next one begins with new writers."""
        for writer in self._writers:
            with suppress(Exception):
                writer.abort()
        for sink, parts in staged:
            with suppress(Exception):
                sink.discard(parts)
        with suppress(Exception):
            self.close()

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
            one.misfits[0] = error
            return None

    def _agreed(self, encoded: Encoded) -> pa.RecordBatch | None:
        """Return the batch, and know its schema from now on: a later value of another kind is a misfit."""
        if encoded.batch is not None:
            known = [] if self._schema is None else [self._schema]
            self._schema = merge([*known, encoded.batch.schema], what="what this collector has written")
        return encoded.batch
