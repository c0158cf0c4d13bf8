"""Streams from and to `ray.data.Dataset`: its blocks stay in Ray's object store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray

from raflow.batch import MAX_BATCH_BYTES, from_ipc, slices
from raflow.connectors.memory import MemorySink, by_number
from raflow.engines.ray.spare import spare
from raflow.errors import SourceError
from raflow.schema import conform, merge
from raflow.sinks import Part
from raflow.sources import Input, Reject, Source, Split


class DatasetSource(Source):
    """The blocks of a dataset, each a split; replicas get them by reference.

    They end with this process, so a run that reads them cannot be resumed: another process has other blocks.

    Args:
        dataset: A `ray.data.Dataset`; it is computed now, if it is not yet.
    """

    def __init__(self, dataset: Any) -> None:
        if not isinstance(dataset, ray.data.Dataset):
            msg = f"{type(dataset).__name__} is no ray.data.Dataset"
            raise SourceError(msg)
        spare.end()  # they hold what Ray Data needs
        self._blocks = list(dataset.to_arrow_refs())
        look = ray.remote(num_cpus=0.25)(_look)
        self._looks = ray.get([look.remote(block) for block in self._blocks])

    def __repr__(self) -> str:
        return f"DatasetSource({len(self._blocks)} blocks)"

    def schema(self) -> pa.Schema:
        """Return the columns of all blocks."""
        return merge([schema for schema, _, _ in self._looks])

    def splits(self) -> list[Split]:
        """Return the blocks."""
        return [
            Split(one.name, n, rows=rows, bytes=size, inputs=(one,))
            for n, (one, (_, rows, size)) in enumerate(zip(self.inputs(), self._looks, strict=True))
        ]

    def inputs(self) -> list[Input]:
        """Return the blocks by their ids, which no other process has."""
        looks = zip(self._blocks, self._looks, strict=True)
        return [Input(f"block {n}", size, block.hex()) for n, (block, (_, _, size)) in enumerate(looks)]

    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        """Yield the records of a block, without a copy where it is on this node."""
        del reject
        block = ray.get(self._blocks[split.payload])
        names = [name for name in columns.names if name in block.column_names]
        for batch in block.select(names).to_batches():
            pieces = -(-batch.nbytes // MAX_BATCH_BYTES) or 1
            for piece in slices(batch, max(1, -(-batch.num_rows // pieces))):
                yield conform(piece, columns)


def _look(block: pa.Table) -> tuple[pa.Schema, int, int]:
    return block.schema.remove_metadata(), block.num_rows, block.nbytes


class StoreSink(MemorySink):
    """Puts what is committed into Ray's store, where it belongs to this process."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[str, Any] = {}

    def commit(self, parts: Sequence[Part]) -> None:
        """Put the rows into the store."""
        stored = {part.target: ray.put(from_ipc(part.payload or b"")) for part in parts}
        with self._lock:
            self._blocks.update(stored)

    def discard(self, parts: Sequence[Part]) -> None:
        """Let the store forget the rows."""
        with self._lock:
            for part in parts:
                self._blocks.pop(part.target, None)

    def dataset(self) -> Any | None:
        """Return a `ray.data.Dataset` of all, a block per unit of work, in their order; None if there is none."""
        with self._lock:
            blocks = [self._blocks[name] for name in sorted(self._blocks, key=by_number)]
        spare.end()  # they hold what Ray Data needs
        return ray.data.from_arrow_refs(blocks) if blocks else None


def empty(schema: pa.Schema) -> Any:
    """Return a dataset without records."""
    return ray.data.from_arrow(schema.empty_table())
