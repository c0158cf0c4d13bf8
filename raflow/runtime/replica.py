"""One replica of a stage: reads, calls user code and writes, each on a thread of its own.

Theory. A unit of work passes three threads joined by short queues, so that the next batch is read and
the last one written while user code runs, and the next unit is read while this one is written. The
user's `setup`, `process` and `teardown` all run on the middle thread. The first error marks the unit;
every thread then lets its remaining batches pass, and the writer, last in line, aborts what was staged
and answers. So a unit has one answer, and by then nothing of it is in motion.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pyarrow as pa

from raflow.batch import regroup, slices
from raflow.errors import SchemaError
from raflow.metrics import Counts
from raflow.runtime.failure import Failure, explain
from raflow.runtime.rejects import Rejects
from raflow.runtime.usercode import UserCode
from raflow.runtime.work import Job, Order, Outcome, pack_schema, unpack_schema
from raflow.schema import SchemaWidened, conform, holds, is_fixed, merge
from raflow.sinks import Part, Writer

_END = None
_TARGET_S = 0.05
_MIN_ROWS, _MAX_ROWS = 256, 1 << 20
_MAX_RECORDS = 1 << 14
"""Python objects of more records than this fall out of the processor's caches: 20 % slower, measured."""


class _Unit:
    """An order on its way through the three threads; each thread writes only its own counters."""

    def __init__(self, order: Order, job: Job) -> None:
        stage = job.stage
        self.order = order
        self.columns = unpack_schema(order.columns)
        self.agreed = unpack_schema(order.agreed)
        self.schema: pa.Schema | None = self.agreed
        self.answer: Future[Outcome] = Future()
        self.failure: Failure | None = None
        self.widened: SchemaWidened | None = None
        self.widened_input = False
        self.rows_in = self.bytes_in = self.rows_out = 0
        self.rows_seen = 0
        self.busy_s = 0.0
        self.letters = 0
        self.rejects = Rejects(
            stage.name,
            order.attempt,
            on_error=stage.options.on_error,
            max_errors=stage.options.max_errors,
            locate=lambda row: stage.source.locate(order.split, row),
        )

    @property
    def is_over(self) -> bool:
        return self.failure is not None or self.widened is not None

    def fail(self, error: BaseException, where: str) -> None:
        """Take the first error; a wish for a wider schema is not one."""
        if self.is_over:
            return
        if isinstance(error, SchemaWidened):
            self.widened, self.widened_input = error, where == "read"
        else:
            record = self.rejects.failed_at
            self.failure = explain(error, f"{where} at {record}" if record else where)

    def counts(self, bytes_out: int = 0) -> Counts:
        kept, errors = self.letters, self.rejects.count
        return Counts(self.rows_in, self.rows_out, self.bytes_in, bytes_out, errors - kept, kept, self.busy_s)


class Replica:
    """Runs units of work of one stage. `setup` first, then any number of `run_unit`, `teardown` last.

    Args:
        job: What to do.
        name: For logs and errors, e.g. `tip_rate[0]`.
        own_process: Whether it has a process of its own, whose collector and logs it may arrange.
    """

    def __init__(self, job: Job, name: str, own_process: bool = False) -> None:
        self.job = job
        self.name = name
        self.own_process = own_process
        self.cancelled = threading.Event()
        self.left = job.limit
        self._units: list[_Unit] = []
        self._orders: queue.Queue[Any] = queue.Queue()
        self._read: queue.Queue[Any] = queue.Queue(2)
        self._done: queue.Queue[Any] = queue.Queue(2)
        self._ready: Future[Failure | None] = Future()
        self._ended: Failure | None = None
        self._rows = float(job.options.batch_rows or 8192)
        self._max_rows = _MAX_RECORDS if job.stage.shape.per_record else _MAX_ROWS
        self._threads = [
            threading.Thread(target=target, name=f"{name} {target.__name__[1:]}", daemon=True)
            for target in (self._reader, self._processor, self._writer)
        ]

    def setup(self) -> Failure | None:
        """Run the user's `setup` and open the sinks; returns why that failed, or None."""
        logging.getLogger(None if self.own_process else "raflow").setLevel(self.job.log_level)
        for thread in self._threads:
            thread.start()
        return self._ready.result()

    def run_unit(self, order: Order) -> Outcome:
        """Do one unit of work; further ones wait in line. Never raises."""
        unit = _Unit(order, self.job)
        self._units.append(unit)
        self._orders.put(unit)
        try:
            return unit.answer.result()
        finally:
            self._units.remove(unit)

    def counts(self) -> Counts:
        """Return what the units in flight have done so far. Never waits for user code."""
        return sum((unit.counts() for unit in list(self._units)), Counts())

    def cancel(self) -> None:
        """Give up the units in flight and end the threads, as soon as user code returns."""
        self.cancelled.set()
        self._orders.put(_END)

    def teardown(self) -> Failure | None:
        """Run the user's `teardown` and close the sinks, after the units in line; returns why that failed."""
        self._orders.put(_END)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        return self._ended

    # -- the three threads ------------------------------------------------------------------------

    def _reader(self) -> None:
        while (unit := self._orders.get()) is not _END:
            try:
                for batch in self._batches(unit):
                    if self.cancelled.is_set():
                        raise _Cancelled
                    if unit.is_over:
                        break
                    unit.rows_in += batch.num_rows
                    unit.bytes_in += batch.nbytes
                    self._read.put((unit, batch))
            except BaseException as error:
                unit.fail(error, "read")
            self._read.put((unit, _END))
        self._read.put(_END)

    def _batches(self, unit: _Unit) -> Iterator[pa.RecordBatch]:
        source = self.job.stage.source
        batches = source.read(unit.order.split, unit.columns, unit.rejects.unreadable)
        if self.job.options.batch_rows:
            batches = regroup(batches, self.job.options.batch_rows)
        for batch in batches:
            taken = batch if self.left is None else batch.slice(0, self.left)
            if self.left is not None:
                self.left -= taken.num_rows
            if taken.num_rows:
                yield taken
            if self.left == 0:
                return

    def _processor(self) -> None:
        code = UserCode(self.job.stage, self.cancelled)
        failure = None
        try:
            code.setup()
            if self.own_process:
                _calm_collector()
        except BaseException as error:
            failure = explain(error, "setup")
        self._done.put(failure)
        while (item := self._read.get()) is not _END:
            unit, batch = item
            if batch is not _END and not unit.is_over:
                try:
                    self._process(code, unit, batch)
                except BaseException as error:
                    unit.fail(error, "process")
            if batch is _END:
                self._letters(unit)
                self._done.put((unit, _END, _END))
        try:
            code.teardown()
        except BaseException as error:
            self._ended = explain(error, "teardown")
        self._done.put(_END)

    def _process(self, code: UserCode, unit: _Unit, batch: pa.RecordBatch) -> None:
        for piece in slices(batch, int(self._rows)):
            if self.cancelled.is_set():
                raise _Cancelled
            start = time.perf_counter()
            result = code.process(piece, unit.rows_seen, unit.schema, unit.rejects)
            unit.rows_seen += piece.num_rows
            if result is not None and result.num_rows:
                result = self._agree(unit, result)
                unit.rows_out += result.num_rows
            took = time.perf_counter() - start
            unit.busy_s += took
            self._adapt(piece.num_rows, took)
            if result is not None and result.num_rows:
                self._done.put((unit, result, 0))
            self._letters(unit)
            if self.own_process:
                gc.collect(1)

    def _adapt(self, rows: int, took: float) -> None:
        """Aim at 50 ms a batch: long enough to pay for the hop, short enough to answer and to cancel."""
        if self.job.options.batch_rows is None and rows >= self._rows / 2:
            aim = rows * _TARGET_S / max(took, 1e-6)
            self._rows = min(max(aim, self._rows / 4, _MIN_ROWS), self._rows * 4, self._max_rows)

    def _agree(self, unit: _Unit, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Bring a batch to the unit's schema, or ask the driver for a wider one."""
        if unit.schema is None:
            unit.schema = batch.schema
        if batch.schema.equals(unit.schema):
            return batch
        if not holds(unit.schema, batch.schema):
            wide = merge([unit.schema, batch.schema])
            for field in filter(is_fixed, unit.schema):
                found = wide.field(field.name).type
                if found != field.type:
                    msg = f"field {field.name!r} is {found} here, the return annotation says {field.type}"
                    raise SchemaError(msg)
            raise SchemaWidened(wide)
        return conform(batch, unit.schema)

    def _letters(self, unit: _Unit) -> None:
        letters = unit.rejects.letters()
        if letters is not None:
            unit.letters += letters.num_rows
            self._done.put((unit, letters, 1))

    def _writer(self) -> None:
        writers: list[Writer] = []
        failure = self._done.get()
        try:
            writers = [sink.open(self.job.context) for sink in self.job.stage.all_sinks]
        except BaseException as error:
            failure = failure or explain(error, "setup")
        self._ready.set_result(failure)
        begun: _Unit | None = None
        while (item := self._done.get()) is not _END:
            unit, batch, kind = item
            try:
                if begun is not unit:
                    begun = unit
                    for writer in writers:
                        writer.begin(unit.order.unit, unit.order.attempt)
                if batch is not _END and not unit.is_over:
                    for writer in self._targets(writers, kind):
                        writer.write(batch)
            except BaseException as error:
                unit.fail(error, "write")
            if batch is _END:
                unit.answer.set_result(self._answer(unit, writers))
                begun = None
        for writer in writers:
            writer.close()

    def _targets(self, writers: list[Writer], kind: int) -> list[Writer]:
        plain = len(self.job.stage.sinks)
        return writers[plain:] if kind else writers[:plain]

    def _answer(self, unit: _Unit, writers: list[Writer]) -> Outcome:
        parts: list[tuple[Part, ...]] = []
        try:
            if not unit.is_over:
                parts = [tuple(writer.prepare()) for writer in writers]
        except BaseException as error:
            unit.fail(error, "write")
        order = unit.order
        if unit.is_over:
            for writer in writers:
                writer.abort()
            widened = pack_schema(unit.widened.schema) if unit.widened else None
            return Outcome(
                order.unit,
                order.attempt,
                failure=unit.failure,
                widened=widened,
                widened_input=unit.widened_input,
            )
        size = sum(part.size_bytes for group in parts for part in group)
        schema = pack_schema(unit.schema) if unit.rows_out else None
        return Outcome(order.unit, order.attempt, tuple(parts), unit.counts(size), schema)


def _calm_collector() -> None:
    """Keep the collector out of record loops: in a worker's large heap it made them up to 3 times slower."""
    gc.collect()
    gc.freeze()
    gc.disable()


class _Cancelled(Exception):
    """The run ended before the unit did."""
