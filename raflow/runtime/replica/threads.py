"""One replica of a stage: reads, runs its ops and writes, each on a thread of its own.

Theory. Work passes three threads joined by short queues, so that the next batch is read and the last one
written while user code runs, and the next unit is read while this one is written. The user's `setup`,
`process` and `teardown` all run on the middle thread. The first error marks the unit; every thread then
lets its remaining batches pass, and the writer, last in line, aborts what was staged and answers. So a
unit has one answer, and by then nothing of it is in motion.

A unit of work comes in one of two ways. Where it begins, `run_unit` takes the whole of it: a split that the
replica reads, or a partition whose records come with the order. In a later stage `feed` brings its batches
one by one, and `close_unit` ends it. What goes on to other stages leaves as blocks: with the answer of
`feed` and `close_unit`, or for `next_block` to take.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pyarrow as pa

from raflow.batch import from_ipc, slices, to_ipc
from raflow.metrics import Counts
from raflow.operators import routing
from raflow.operators.contract import Wide
from raflow.plan import Exchange, Op
from raflow.runtime.failure import Failure, explain
from raflow.runtime.replica.ops import Ops, Result
from raflow.runtime.replica.spread import pieces
from raflow.runtime.replica.unit import Unit
from raflow.runtime.replica.writers import Writers
from raflow.runtime.work import Block, Job, Order, Outcome, Pieces, route_of, unpack_schema
from raflow.schema import together
from raflow.sources import Source

_END = None
_TARGET_S = 0.05
_MIN_ROWS, _MAX_ROWS = 256, 1 << 20
_MAX_RECORDS = 1 << 13
"""Python objects of more records than this fall out of the processor's caches: 20 % slower, measured."""
_BLOCKS = 2
"""Blocks that wait to be taken; then user code waits."""

Answer = tuple[Any, list[Any]]
"""What a call tells the driver, and the payloads that stay where they are until they are needed."""


class Replica:
    """Runs units of work of one stage. `setup` first, `teardown` last.

    Args:
        job: What to do.
        name: For logs and errors, e.g. `tip_rate[0]`.
        own_process: Whether it has a process of its own, whose collector and logs it may arrange, and which
            payloads leave as bytes.
    """

    def __init__(self, job: Job, name: str, own_process: bool = False) -> None:
        self.job = job
        self.stage = job.stage
        self.name = name
        self.own_process = own_process
        self.cancelled = threading.Event()
        self.left = {} if job.limit is None else {op.name: job.limit for op in job.stage.entries}
        self._units: dict[tuple[str, int, int], Unit] = {}
        self._orders: queue.Queue[Any] = queue.Queue()
        self._read: queue.Queue[Any] = queue.Queue(2)
        self._done: queue.Queue[Any] = queue.Queue(2)
        self._blocks: queue.Queue[Any] = queue.Queue(_BLOCKS)
        self._ready: Future[Failure | None] = Future()
        self._ended: Failure | None = None
        self._rows = 8192.0
        self._max_rows = _MAX_RECORDS if job.stage.runs_python else _MAX_ROWS
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=target, name=f"{name} {target.__name__[1:]}", daemon=True)
            for target in (self._reader, self._processor, self._writer)
        ]

    # -- called by the driver ---------------------------------------------------------------------

    def setup(self) -> Failure | None:
        """Run the user's `setup` and open the sinks; returns why that failed, or None."""
        logging.getLogger(None if self.own_process else "raflow").setLevel(self.job.log_level)
        for thread in self._threads:
            thread.start()
        return self._ready.result()

    def run_unit(self, order: Order, *payloads: Any) -> Answer:
        """Do one unit of work that begins here; further ones wait in line. Never raises, but after `cancel`."""
        unit = self._unit(order)
        with self._lock:  # what came after the end would wait for its answer for ever
            if self.cancelled.is_set():
                raise _Cancelled
            self._orders.put((unit, payloads))
        return self._answered(unit)

    def next_block(self) -> Answer:
        """Return the next block that goes to another stage; waits until there is one, None at the end."""
        item = self._blocks.get()
        if item is _END:
            self._blocks.put(_END)
            return None, []
        block, table = item
        return block, [self._payload(table)]

    def feed(self, order: Order, channel: str, parts: Sequence[tuple[int, int]], *payloads: Any) -> Answer:
        """Process batches of a unit that an op of another stage has given. Never raises.

        Args:
            order: The unit.
            channel: Name of that op.
            parts: Per payload the first row and the number of rows to take.
            payloads: The batches.
        """
        unit, answer = self._unit(order), Future[Answer]()
        tables = [_table(one).slice(*part) for one, part in zip(payloads, parts, strict=True)]
        self._read.put((unit, "feed", (channel, tables, answer)))
        return answer.result()

    def close_unit(self, order: Order) -> Answer:
        """End a unit that was fed; returns what it has staged and given. Never raises."""
        unit = self._unit(order)
        self._read.put((unit, "close", None))
        return self._answered(unit)

    def drop_unit(self, key: tuple[str, int, int]) -> None:
        """Give up an attempt that was fed: another one takes its place."""
        unit = self._units.get(key)
        if unit is not None:
            unit.fail(_Cancelled(), "drop")
            self._read.put((unit, "close", None))
            self._answered(unit)

    def spread(self, exchange: Exchange, bounds: Any, payload: Any) -> Answer:
        """Cut a unit's results for a range exchange, now that the bounds are known."""
        route, partitions = route_of(self.stage, exchange), self.job.partitions[exchange.taker]
        table = _table(payload)
        tables = routing.split(table, route, partitions, bounds=from_ipc(bounds))
        return pieces(exchange, tables, table.schema), [self._payload(one) for one in tables]

    def counts(self) -> Counts:
        """Return what the units in flight have done so far. Never waits for user code."""
        return sum((unit.counts() for unit in list(self._units.values())), Counts())

    def cancel(self) -> None:
        """Give up the units in flight and end the threads, as soon as user code returns."""
        with self._lock:
            self.cancelled.set()
            self._orders.put(_END)
        self._drain_blocks()

    def teardown(self) -> Failure | None:
        """Run the user's `teardown` and close the sinks, after the units in line; returns why that failed."""
        self._orders.put(_END)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._drain_blocks()
        return self._ended

    def _unit(self, order: Order) -> Unit:
        with self._lock:
            unit = self._units.get(order.key)
            if unit is None:
                unit = self._units[order.key] = Unit(order, self.job)
            return unit

    def _answered(self, unit: Unit) -> Answer:
        try:
            return unit.answer.result()
        finally:
            with self._lock:
                self._units.pop(unit.key, None)

    def _drain_blocks(self) -> None:
        while not self._blocks.empty():
            try:
                self._blocks.get_nowait()
            except queue.Empty:
                break
        self._blocks.put(_END)

    # -- the reading thread -----------------------------------------------------------------------

    def _reader(self) -> None:
        while (item := self._orders.get()) is not _END:
            unit, payloads = item
            try:
                if isinstance(self._entry(unit).work, Wide):
                    self._read.put((unit, "partition", _sides(unit.order, payloads)))
                else:
                    self._read_split(unit)
            except BaseException as error:
                unit.fail(error, "read")
            self._read.put((unit, "close", None))
        self._read.put(_END)

    def _read_split(self, unit: Unit) -> None:
        for batch in self._batches(unit):
            if self.cancelled.is_set():
                raise _Cancelled
            if unit.is_over:
                break
            unit.rows_in += batch.num_rows
            unit.bytes_in += batch.nbytes
            self._read.put((unit, "batch", batch))

    def _batches(self, unit: Unit) -> Iterator[pa.RecordBatch]:
        entry = self._entry(unit)
        assert isinstance(entry.work, Source)
        after = next((op for op in self.stage.after(entry.name) if op.shape), entry)
        for batch in entry.work.read(unit.order.split, unit.columns, unit.rejects[after.name].unreadable):
            taken = batch.slice(0, self.left.get(entry.name))
            if entry.name in self.left:
                self.left[entry.name] -= taken.num_rows
            if taken.num_rows:
                yield taken
            if self.left.get(entry.name) == 0:
                return

    def _entry(self, unit: Unit) -> Op:
        return self.stage.by_name[unit.order.entry]

    # -- the thread of user code ------------------------------------------------------------------

    def _processor(self) -> None:
        ops = Ops(self.stage, self.cancelled)
        failure = None
        try:
            ops.setup()
            if self.own_process:
                _calm_collector()
        except BaseException as error:
            failure = explain(error, "setup")
        self._done.put(failure)
        while (item := self._read.get()) is not _END:
            self._handle(ops, *item)
        try:
            ops.teardown()
        except BaseException as error:
            self._ended = explain(error, "teardown")
        self._done.put(_END)

    def _handle(self, ops: Ops, unit: Unit, kind: str, value: Any) -> None:
        try:
            if kind == "batch" and not unit.is_over:
                self._pieces(ops, unit, unit.order.entry, value)
            elif kind == "partition" and not unit.is_over:
                self._finish_partition(ops, unit, value)
            elif kind == "feed" and not unit.is_over:
                self._take(ops, unit, *value[:2])
            elif kind == "close" and not unit.is_over:
                self._timed(unit, 0, ops.finish(unit))
        except BaseException as error:
            unit.fail(error, "process")
        if kind == "feed":
            self._done.put((unit, "answer", value[2]))
        elif kind == "close":
            self._done.put((unit, "close", self._cut(unit)))

    def _take(self, ops: Ops, unit: Unit, channel: str, tables: Sequence[pa.Table]) -> None:
        for table in tables:
            for batch in table.to_batches():
                unit.rows_in += batch.num_rows
                unit.bytes_in += batch.nbytes
                self._pieces(ops, unit, channel, batch)

    def _finish_partition(self, ops: Ops, unit: Unit, tables: Sequence[pa.Table]) -> None:
        wide = self._entry(unit).work
        assert isinstance(wide, Wide)
        unit.rows_in += sum(table.num_rows for table in tables)
        unit.bytes_in += sum(table.nbytes for table in tables)
        start = time.perf_counter()
        result = wide.finish(*tables)
        unit.busy_s += time.perf_counter() - start
        for batch in result.combine_chunks().to_batches():
            self._pieces(ops, unit, unit.order.entry, batch)

    def _pieces(self, ops: Ops, unit: Unit, channel: str, batch: pa.RecordBatch) -> None:
        for piece in slices(batch, int(self._rows)):
            if self.cancelled.is_set():
                raise _Cancelled
            self._timed(unit, piece.num_rows, ops.arrive(channel, piece, unit))
            if self.own_process:
                gc.collect(1)

    def _timed(self, unit: Unit, rows: int, results: Iterator[Result]) -> None:
        """Pass on results as they come, and time the ops without the wait for whoever takes them."""
        took = 0.0
        while True:
            start = time.perf_counter()
            result = next(results, None)
            took += time.perf_counter() - start
            if result is None or unit.is_over:
                break
            self._done.put((unit, "result", result))
        unit.busy_s += took
        self._adapt(rows, took)

    def _adapt(self, rows: int, took: float) -> None:
        """Aim at 50 ms a piece: long enough to pay for the hop, short enough to answer and to cancel."""
        if rows >= self._rows / 2:
            aim = rows * _TARGET_S / max(took, 1e-6)
            self._rows = min(max(aim, self._rows / 4, _MIN_ROWS), self._rows * 4, self._max_rows)

    def _cut(self, unit: Unit) -> list[tuple[Pieces, list[pa.Table]]]:
        try:
            return [] if unit.is_over else [spread.cut() for spread in unit.spreads]
        except BaseException as error:
            unit.fail(error, "exchange")
            return []

    # -- the writing thread -----------------------------------------------------------------------

    def _writer(self) -> None:
        writers = Writers(self.stage, self.job.context)
        failure = self._done.get()
        try:
            writers.open()
        except BaseException as error:
            failure = failure or explain(error, "setup")
        self._ready.set_result(failure)
        held: dict[tuple[str, int, int], dict[str, list[pa.RecordBatch]]] = {}
        while (item := self._done.get()) is not _END:
            unit, kind, value = item
            try:
                if kind == "result" and not unit.is_over:
                    self._put(unit, value, writers, held)
            except BaseException as error:
                unit.fail(error, "write")
            if kind == "answer":
                value.set_result(self._with_blocks(unit, {}, held.pop(unit.key, {})))
            elif kind == "close":
                unit.answer.set_result(self._closed(unit, writers, value, held.pop(unit.key, {})))
        writers.close()

    def _put(self, unit: Unit, result: Result, writers: Writers, held: Any) -> None:
        if result.kind != "emit":
            writers.write(unit, result)
        elif unit.order.entry in self.stage.by_name:
            unit.blocks[result.op] += 1
            block = Block(unit.key, result.op, unit.blocks[result.op], result.batch.num_rows, result.batch.nbytes)
            self._blocks.put((block, pa.Table.from_batches([result.batch])))
        else:
            held.setdefault(unit.key, {}).setdefault(result.op, []).append(result.batch)

    def _with_blocks(self, unit: Unit, parts: Any, held: dict[str, list[pa.RecordBatch]]) -> Answer:
        """Return the outcome so far with a block per op that emits, and their payloads."""
        tables = [together(held[name]) if held.get(name) else None for name in self.stage.emits]
        blocks = []
        for name, table in zip(self.stage.emits, tables, strict=True):
            if table is not None:
                unit.blocks[name] += 1
            rows, size = (table.num_rows, table.nbytes) if table is not None else (0, 0)
            blocks.append(Block(unit.key, name, unit.blocks[name], rows, size))
        outcome: Outcome = unit.outcome(parts)
        if outcome.is_over:
            return outcome, []
        return outcome.with_blocks(blocks), [None if table is None else self._payload(table) for table in tables]

    def _closed(self, unit: Unit, writers: Writers, cut: Any, held: dict[str, list[pa.RecordBatch]]) -> Answer:
        parts: dict[str, Any] = {}
        try:
            if not unit.is_over:
                parts = writers.prepare(unit)
        except BaseException as error:
            unit.fail(error, "write")
        if unit.is_over:
            writers.abort(unit)
        writers.release(unit)
        outcome, payloads = self._with_blocks(unit, parts, held)
        if outcome.is_over:
            return outcome, []
        for (_, tables), exchange in zip(cut, self.stage.exchanges, strict=True):
            cells: list[Any] = [self._payload(one) if one.num_rows else None for one in tables]
            payloads += cells or [None] * self.job.pieces(exchange)
        return outcome.with_pieces([found for found, _ in cut]), payloads

    def _payload(self, table: pa.Table) -> Any:
        return to_ipc(table.to_batches(), table.schema) if self.own_process else table


def _table(payload: Any) -> pa.Table:
    return payload if isinstance(payload, pa.Table) else from_ipc(payload)


def _sides(order: Order, payloads: Sequence[Any]) -> list[pa.Table]:
    """Return per input of a wide op all records of a partition."""
    tables, start = [], 0
    for number, packed in zip(order.sides, order.schemas, strict=True):
        mine = [_table(one) for one in payloads[start : start + number] if one is not None]
        tables.append(together(mine, unpack_schema(packed)))
        start += number
    return tables


def _calm_collector() -> None:
    """Keep the collector out of record loops: in a worker's large heap it made them up to 3 times slower."""
    gc.collect()
    gc.freeze()
    gc.disable()


class _Cancelled(Exception):
    """The run ended before the unit did."""
