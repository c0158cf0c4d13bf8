"""The first thread of a replica: reads what begins here, ahead of user code."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raflow.operators.contract import Wide
from raflow.runtime.replica.payloads import sides
from raflow.runtime.replica.unit import Cancelled, Unit
from raflow.runtime.work import Job
from raflow.sources import Source

_END = None


class Reading:
    """Makes batches of splits, and tables of partitions.

    Args:
        job: Of the replica.
        cancelled: Set when the replica must end.
        orders: Units that begin here, with their payloads; None at the end.
        read: Takes what user code is to have.
    """

    def __init__(self, job: Job, cancelled: threading.Event, orders: queue.Queue[Any], read: queue.Queue[Any]) -> None:
        self._stage = job.stage
        self._left = {} if job.limit is None else {op.name: job.limit for op in job.stage.entries}
        self._cancelled = cancelled
        self._orders, self._read = orders, read

    def run(self) -> None:
        """Work until the orders end."""
        while (item := self._orders.get()) is not _END:
            unit, payloads = item
            try:
                if isinstance(unit.entry.work, Wide):
                    self._read.put((unit, "partition", sides(unit.order, payloads)))
                else:
                    self._read_split(unit)
            except BaseException as error:
                unit.fail(error, "read")
            self._read.put((unit, "close", None))
        self._read.put(_END)

    def _read_split(self, unit: Unit) -> None:
        batches = self._batches(unit)
        while True:
            with unit.timed("read"):
                batch = next(batches, None)
            if batch is None:
                break
            if self._cancelled.is_set():
                raise Cancelled
            if unit.is_over or unit.has_enough:
                break
            self._read.put((unit, "batch", batch))

    def _batches(self, unit: Unit) -> Iterator[pa.RecordBatch]:
        entry = unit.entry
        assert isinstance(entry.work, Source)
        after = next((op for op in self._stage.after(entry.name) if op.shape), entry)
        for batch in entry.work.read(unit.order.split, unit.columns, unit.rejects[after.name].unreadable):
            taken = batch.slice(0, self._left.get(entry.name))
            if entry.name in self._left:
                self._left[entry.name] -= taken.num_rows
            if taken.num_rows:
                yield taken
            if self._left.get(entry.name) == 0:
                return
