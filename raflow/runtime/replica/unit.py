"""A unit of work inside a replica: what has become of it so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from raflow.errors import SchemaError
from raflow.metrics import Counts
from raflow.operators.names import UnknownColumn
from raflow.plan import Op, Stage
from raflow.runtime.failure import Failure, explain
from raflow.runtime.replica.rejects import Rejects
from raflow.runtime.replica.spread import Spread
from raflow.runtime.work import Job, Order, Outcome, pack_schema, unpack_schema
from raflow.schema import SchemaWidened, conform, holds, is_fixed, merge, same_but_digits
from raflow.sinks import Part
from raflow.sources import Source


class Cancelled(Exception):
    """The run ended before the unit did."""


class Unit:
    """An order on its way through the threads of a replica; each thread writes only its own counters.

    Args:
        order: What to do.
        job: Of the replica.
    """

    def __init__(self, order: Order, job: Job) -> None:
        self._stage = stage = job.stage
        self.order = order
        self.key = order.key
        self.columns = unpack_schema(order.columns)
        self.schemas: dict[str, pa.Schema | None] = {op.name: op.returned for op in stage.ops}
        self.schemas |= {name: unpack_schema(schema) for name, schema in order.agreed.items()}
        self.answer: Future[tuple[Outcome, list[Any]]] = Future()
        self.failure: Failure | None = None
        self.widened: tuple[str, SchemaWidened] | None = None
        self.rows_in = self.bytes_in = self.rows_out = 0
        self.took = dict.fromkeys(("read", "process", "write"), 0.0)
        """Seconds of each thread, without waiting for another."""
        self.seen: Counter[str] = Counter()
        """By op: records that came to it."""
        self.written: Counter[str] = Counter()
        """By op: records that went to its sinks."""
        self.blocks: Counter[str] = Counter()
        """By op: blocks that went to other stages."""
        self.letters = 0
        self.rejects = {op.name: _rejects(op, stage, order) for op in stage.ops}
        self.spreads = [Spread(exchange, job, order.unit) for exchange in stage.exchanges]
        self._gives_only = len(self.spreads) == 1 and not stage.emits and not stage.writers
        self._widening = ""
        """The op whose results need a wider schema; empty if it is the source."""
        self.waiting: dict[str, list[pa.RecordBatch]] = {}
        """By op: batches that are not a whole one of `batch_rows` yet."""

    @property
    def entry(self) -> Op:
        """The op at which it begins, where that is in this stage."""
        return self._stage.by_name[self.order.entry]

    @property
    def is_over(self) -> bool:
        """Whether it has failed, or must begin again with a wider schema."""
        return self.failure is not None or self.widened is not None

    @property
    def has_enough(self) -> bool:
        """Whether the rest of it need not be looked at: all that comes of it is the beginning of a `limit`."""
        return self._gives_only and self.spreads[0].has_enough

    @contextmanager
    def timed(self, work: str) -> Iterator[None]:
        """Count the seconds of `read`, `process` or `write`, which must not wait for one of the others."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.took[work] += time.perf_counter() - start

    def came(self, data: pa.RecordBatch | pa.Table) -> None:
        """Count input that the ops are through with: its time has been counted, too, so that both make a speed."""
        self.rows_in += data.num_rows
        self.bytes_in += data.nbytes

    def fail(self, error: BaseException, where: str) -> None:
        """Take the first error; a wish for a wider schema is not one."""
        if self.is_over:
            return
        if isinstance(error, SchemaWidened):
            self.widened = self._widening or self.order.entry, error
        else:
            record = next((rejects.failed_at for rejects in self.rejects.values() if rejects.failed_at), None)
            self.failure = explain(_advised(error), f"{where} at {record}" if record else where)

    def agree(self, op: Op, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Bring a batch to the op's schema, or ask the driver for a wider one."""
        schema = self.schemas[op.name]
        if schema is None:
            self.schemas[op.name] = schema = batch.schema
        if batch.schema.equals(schema):
            return batch
        if not holds(schema, batch.schema):
            wide = merge([schema, batch.schema])
            for field in filter(is_fixed, schema):
                found = wide.field(field.name).type
                if not same_but_digits(found, field.type):
                    msg = f"field {field.name!r} is {found} here, the return annotation says {field.type}"
                    raise SchemaError(msg)
            self._widening = op.name
            raise SchemaWidened(wide)
        return conform(batch, schema)

    def counts(self, bytes_out: int = 0) -> Counts:
        """Return what it has done so far."""
        kept, errors = self.letters, sum(rejects.count for rejects in self.rejects.values())
        busy_s = max(self.took.values())
        return Counts(self.rows_in, self.rows_out, self.bytes_in, bytes_out, errors - kept, kept, busy_s)

    def outcome(self, parts: dict[str, tuple[tuple[Part, ...], ...]]) -> Outcome:
        """Return what has become of it.

        Args:
            parts: What was staged.
        """
        if self.is_over:
            widened = (self.widened[0], pack_schema(self.widened[1].schema) or b"") if self.widened else None
            return Outcome(self.key, failure=self.failure, widened=widened, emitted=dict(self.blocks))
        size = sum(part.size_bytes for groups in parts.values() for group in groups for part in group)
        schemas = {name: pack_schema(self.schemas[name]) or b"" for name in self.written}
        failed = {name: rejects.count for name, rejects in self.rejects.items() if rejects.count}
        emitted = dict(self.blocks)
        return Outcome(self.key, parts, self.counts(size), failed, schemas, emitted=emitted)


def _advised(error: BaseException) -> BaseException:
    """Return an error with what to do: columns that are known before the run have been checked there."""
    if not isinstance(error, UnknownColumn):
        return error
    msg = (
        f"{error}. If only some records have it, annotate what the function before returns with a dataclass or a "
        "pydantic model that has the field: then it is null in the others"
    )
    return UnknownColumn(msg)


def _rejects(op: Op, stage: Stage, order: Order) -> Rejects:
    source = stage.by_name[op.inputs[0]].work if op.inputs and op.inputs[0] in stage.by_name else None
    direct = source if isinstance(source, Source) and op.inputs == (order.entry,) else None

    def locate(row: int) -> str:
        return direct.locate(order.split, row) if direct else f"{order.split.name}, record {row} for {op.name!r}"

    options = op.options
    return Rejects(op.name, order.attempt, on_error=options.on_error, max_errors=options.max_errors, locate=locate)
