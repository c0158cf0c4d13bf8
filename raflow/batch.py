"""What travels: Arrow record batches, and their bytes as IPC buffers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from raflow.errors import SchemaError

MAX_BATCH_BYTES = 32 << 20
"""No batch that a source yields should be larger."""


def to_ipc(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Buffer:
    """Return batches as one Arrow IPC stream.

    Between processes only this travels: pickling a slice of a batch would carry its whole parent.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()


def from_ipc(buffer: pa.Buffer | bytes) -> pa.Table:
    """Return the table in an IPC stream, without a copy."""
    return pa.ipc.open_stream(buffer).read_all()


def slices(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the batch in pieces of at most so many rows, without a copy."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def one_batch(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches of one schema as a single one.

    Raises:
        SchemaError: A column of all of them has no room in one: texts of more than 2 GiB.
    """
    if len(batches) == 1:
        return batches[0]
    found = pa.Table.from_batches(batches).combine_chunks().to_batches()
    if len(found) > 1:
        rows = sum(batch.num_rows for batch in batches)
        msg = f"{rows:,} records that are to be one batch have a column of more than 2 GiB; make batches smaller"
        raise SchemaError(msg)
    return found[0]
