"""Hive partitions: which folder each record belongs to, found by Arrow and not per record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from raflow.batch import one_batch
from raflow.errors import SinkError

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark, DuckDB and Arrow call the partition of null."""
SPLIT_BYTES = 64 << 20
"""Arrow bytes that are collected before they are split; most units of work are smaller."""


@dataclass
class Partitioner:
    """Splits the batches of a unit by folder.

    Batches are collected first: with many partition values, each would otherwise fall into crumbs, and those
    into many files once there are more values than files may be open.
    """

    columns: Sequence[str]
    """Partition columns, outermost first; they are in the folders' names and not in the files."""
    held: int = 0
    """Arrow bytes that wait."""
    _waiting: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Take a batch and yield what is ready, as folder (empty, or with a slash at its end) and records.

        Raises:
            SinkError: A partition column is missing.
        """
        if not self.columns:
            yield "", batch
            return
        check_columns(self.columns, batch.schema)
        if not batch.num_rows:
            return
        self._waiting.append(batch)
        self.held += batch.nbytes
        if self.held >= SPLIT_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Yield what still waits."""
        batches, self._waiting, self.held = self._waiting, [], 0
        if batches:
            yield from split(one_batch(batches), self.columns)


def check_columns(columns: Sequence[str], schema: pa.Schema) -> None:
    """Raise if records of a schema cannot be partitioned by these columns."""
    missing = [name for name in columns if name not in schema.names]
    if missing:
        msg = f"partition_by names {missing[0]!r}, but the records have: {', '.join(schema.names)}"
        raise SinkError(msg)
    if len(columns) == len(schema):
        msg = f"partition_by names every column ({', '.join(columns)}); leave one for the files to hold"
        raise SinkError(msg)
    for name in columns:
        if pa.types.is_nested(schema.field(name).type):
            msg = f"partition_by names {name!r}, which is {schema.field(name).type}; use a plain value"
            raise SinkError(msg)


def split(batch: pa.RecordBatch, columns: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield a batch's records by folder, in their order, without the partition columns."""
    encoded = [_encode(batch.column(name)) for name in columns]
    codes = encoded[0].indices.to_numpy()
    for column in encoded[1:]:
        # Codes stay below the number of rows, so their product cannot overflow.
        joined = codes.astype(np.int64) * len(column.dictionary) + column.indices.to_numpy()
        codes = np.unique(joined, return_inverse=True)[1]
    # numpy sorts integers of 16 bits by radix.
    codes = codes.astype(np.min_scalar_type(int(codes.max(initial=0))))
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(codes[order]) != 0])
    names = [_folder_names(name, column) for name, column in zip(columns, encoded, strict=True)]
    records = batch.drop_columns(list(columns))
    records = records if len(starts) == 1 else records.take(pa.array(order))
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        row = int(order[start])
        steps = (texts[column.indices[row].as_py()] for texts, column in zip(names, encoded, strict=True))
        yield "".join(steps), records.slice(int(start), int(end - start))


def _encode(column: pa.Array) -> pa.DictionaryArray:
    plain = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
    return plain.dictionary_encode(null_encoding="encode")


def _folder_names(name: str, column: pa.DictionaryArray) -> list[str]:
    values = column.dictionary.cast(pa.string()).to_pylist()
    texts = [NULL_FOLDER if value is None else quote(value, safe="") for value in values]
    return [f"{quote(name, safe='')}={text}/" for text in texts]
