"""The map side of an exchange: what a unit of work gives to the partitions of a wide operator."""

from __future__ import annotations

import pyarrow as pa

from raflow.batch import to_ipc
from raflow.operators import routing
from raflow.operators.contract import Range
from raflow.plan import Exchange
from raflow.runtime.work import Job, Pieces, pack_schema, route_of
from raflow.schema import together

_CHUNK_BYTES = 32 << 20
"""Records that are held before they are made smaller by `Wide.partial`."""
_SAMPLE_ROWS = 1000


class Spread:
    """Collects the results of an op in one unit of work, and cuts them for the partitions.

    Args:
        exchange: Where they go.
        job: Of the replica.
        unit: Number of the unit.
    """

    def __init__(self, exchange: Exchange, job: Job, unit: int) -> None:
        self.exchange = exchange
        self._wide = job.stage.takers[exchange.taker]
        self._route = route_of(job.stage, exchange)
        self._start = unit
        self._partitions = job.partitions[exchange.taker]
        self._payloads = job.pieces(exchange)
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._rows = 0
        self._partial: list[pa.Table] = []

    @property
    def has_enough(self) -> bool:
        """Whether more records of the unit would change nothing."""
        return self._wide.enough is not None and self._rows >= self._wide.enough

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch; called on the thread that runs user code."""
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._bytes > _CHUNK_BYTES:
            self._reduce()

    def cut(self) -> tuple[Pieces, list[pa.Table]]:
        """Return all that was taken, as a table per partition; of a range exchange as one table."""
        if self._batches:
            self._reduce()
        if not self._partial:
            nothing = (0,) * self._payloads
            return Pieces(self.exchange, nothing, nothing, None), []
        table = self._partial[0]
        if len(self._partial) > 1:
            table = self._wide.merge(self.exchange.side, together(self._partial))
        sample = None
        if isinstance(self._route, Range):
            tables = [table]
            keys = routing.sample(table, self._route, _SAMPLE_ROWS)
            sample = to_ipc(keys.to_batches(), keys.schema).to_pybytes()
        else:
            tables = routing.split(table, self._route, self._partitions, start=self._start)
        return pieces(self.exchange, tables, table.schema, sample), tables

    def _reduce(self) -> None:
        self._partial.append(self._wide.partial(self.exchange.side, together(self._batches)))
        self._batches, self._bytes = [], 0


def pieces(exchange: Exchange, tables: list[pa.Table], schema: pa.Schema, sample: bytes | None = None) -> Pieces:
    """Return what is to be known of tables that go to the partitions of an exchange."""
    rows = tuple(table.num_rows for table in tables)
    return Pieces(exchange, rows, tuple(table.nbytes for table in tables), pack_schema(schema), sample)
