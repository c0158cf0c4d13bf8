"""The last thread of a replica: writes, and gives the one answer of each unit."""

from __future__ import annotations

import queue
import time
from concurrent.futures import Future
from typing import Any

import pyarrow as pa

from raflow.runtime.failure import Failure, explain
from raflow.runtime.replica.ops import Result
from raflow.runtime.replica.payloads import Answer, packed
from raflow.runtime.replica.unit import Unit
from raflow.runtime.replica.writers import Writers
from raflow.runtime.work import Block, Job, Outcome
from raflow.schema import together

_END = None


class Answering:
    """Writes results, keeps those that go on to other stages, and ends units.

    Args:
        job: Of the replica.
        own_process: Whether payloads leave as bytes.
        done: What comes: first the failure of the set-up or None; None at the end.
        blocks: Takes blocks that another stage is to have while their unit goes on.
    """

    def __init__(self, job: Job, own_process: bool, done: queue.Queue[Any], blocks: queue.Queue[Any]) -> None:
        self._job, self._stage = job, job.stage
        self._own_process = own_process
        self._done, self._blocks = done, blocks
        self.ready: Future[Failure | float] = Future()
        """Seconds until the replica could work, or why it cannot."""

    def run(self) -> None:
        """Open the sinks, then take what comes until there is no more, and close them."""
        began = time.monotonic()
        writers = Writers(self._stage, self._job.context)
        failure = self._done.get()
        try:
            writers.open()
        except BaseException as error:
            failure = failure or explain(error, "setup")
        self.ready.set_result(failure or time.monotonic() - began)
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
            elif kind == "close" and not unit.answer.done():  # it is, if it was closed and then given up
                unit.answer.set_result(self._closed(unit, writers, value, held.pop(unit.key, {})))
        writers.close()

    def _put(self, unit: Unit, result: Result, writers: Writers, held: Any) -> None:
        if result.kind != "emit":
            with unit.timed("write"):
                writers.write(unit, result)
        elif unit.order.entry in self._stage.by_name:
            unit.blocks[result.op] += 1
            block = Block(unit.key, result.op, unit.blocks[result.op], result.batch.num_rows, result.batch.nbytes)
            self._blocks.put((block, pa.Table.from_batches([result.batch])))
        else:
            held.setdefault(unit.key, {}).setdefault(result.op, []).append(result.batch)

    def _with_blocks(self, unit: Unit, parts: Any, held: dict[str, list[pa.RecordBatch]]) -> Answer:
        """Return the outcome so far with a block per op that emits, and their payloads."""
        tables = [together(held[name]) if held.get(name) else None for name in self._stage.emits]
        blocks = []
        for name, table in zip(self._stage.emits, tables, strict=True):
            if table is not None:
                unit.blocks[name] += 1
            rows, size = (table.num_rows, table.nbytes) if table is not None else (0, 0)
            blocks.append(Block(unit.key, name, unit.blocks[name], rows, size))
        outcome: Outcome = unit.outcome(parts)
        if outcome.is_over:
            return outcome, []
        return outcome.with_blocks(blocks), [None if table is None else self._packed(table) for table in tables]

    def _closed(self, unit: Unit, writers: Writers, cut: Any, held: dict[str, list[pa.RecordBatch]]) -> Answer:
        parts: dict[str, Any] = {}
        try:
            if not unit.is_over:
                with unit.timed("write"):
                    parts = writers.prepare(unit)
        except BaseException as error:
            unit.fail(error, "write")
        if unit.is_over:
            writers.abort(unit)
        writers.release(unit)
        outcome, payloads = self._with_blocks(unit, parts, held)
        if outcome.is_over:
            return outcome, []
        for (_, tables), exchange in zip(cut, self._stage.exchanges, strict=True):
            cells: list[Any] = [self._packed(one) if one.num_rows else None for one in tables]
            payloads += cells or [None] * self._job.pieces(exchange)
        return outcome.with_pieces([found for found, _ in cut]), payloads

    def _packed(self, table: pa.Table) -> Any:
        return packed(table, own_process=self._own_process)
