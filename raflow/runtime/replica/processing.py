"""The second thread of a replica: user code, batch by batch."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from raflow.batch import slices
from raflow.operators.contract import Wide
from raflow.runtime.failure import Failure, explain
from raflow.runtime.replica.ops import Ops, Result
from raflow.runtime.replica.unit import Cancelled, Unit
from raflow.runtime.work import Job, Pieces

_END = None
_TARGET_S = 0.05
_MIN_ROWS, _FIRST_ROWS, _MAX_ROWS = 256, 1 << 13, 1 << 20
_MAX_RECORDS = 1 << 13
"""Python objects of more records than this fall out of the processor's caches: 20 % slower, measured."""


class Processing:
    """Runs the ops of the stage over what is read.

    Args:
        job: Of the replica.
        cancelled: Set when the replica must end.
        own_process: Whether the process's garbage collector may be arranged.
        read: What comes; None at the end.
        done: Takes results and ends, after the failure of the set-up or None.
    """

    def __init__(
        self,
        job: Job,
        cancelled: threading.Event,
        own_process: bool,
        read: queue.Queue[Any],
        done: queue.Queue[Any],
    ) -> None:
        self._stage = job.stage
        self._cancelled = cancelled
        self._own_process = own_process
        self._read, self._done = read, done
        # User code may take long for each record: its first piece is small, so that it soon shows and can be ended.
        self._rows = float(_MIN_ROWS if job.stage.runs_python else _FIRST_ROWS)
        self._max_rows = _MAX_RECORDS if job.stage.runs_python else _MAX_ROWS
        self.ended: Failure | None = None
        """Why the teardown has failed."""

    def run(self) -> None:
        """Set up, work until there is no more, and tear down."""
        ops = Ops(self._stage, self._cancelled)
        failure = None
        try:
            ops.setup()
            if self._own_process:
                _calm_collector()
        except BaseException as error:
            failure = explain(error, "setup")
        self._done.put(failure)
        while (item := self._read.get()) is not _END:
            self._handle(ops, *item)
        try:
            ops.teardown()
        except BaseException as error:
            self.ended = explain(error, "teardown")
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
                self._pieces(ops, unit, channel, batch)

    def _finish_partition(self, ops: Ops, unit: Unit, tables: Sequence[pa.Table]) -> None:
        wide = unit.entry.work
        assert isinstance(wide, Wide)
        with unit.timed("process"):
            result = wide.finish(*tables)
        for table in tables:
            unit.came(table)
        for batch in result.combine_chunks().to_batches():
            self._pieces(ops, unit, unit.order.entry, batch, made=True)

    def _pieces(self, ops: Ops, unit: Unit, channel: str, batch: pa.RecordBatch, *, made: bool = False) -> None:
        for piece in slices(batch, int(self._rows)):
            if self._cancelled.is_set():
                raise Cancelled
            if unit.has_enough:
                break
            self._timed(unit, piece.num_rows, ops.arrive(channel, piece, unit))
            if not made:
                unit.came(piece)
            if self._own_process:
                gc.collect(1)

    def _timed(self, unit: Unit, rows: int, results: Iterator[Result]) -> None:
        """Pass on results as they come, and time the ops without the wait for whoever takes them."""
        before = unit.took["process"]
        while True:
            with unit.timed("process"):
                result = next(results, None)
            if result is None or unit.is_over:
                break
            self._done.put((unit, "result", result))
        self._adapt(rows, unit.took["process"] - before)

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


def _calm_collector() -> None:
    """Keep the collector out of record loops: in a worker's large heap it made them up to 3 times slower."""
    gc.collect()
    gc.freeze()
    gc.disable()
