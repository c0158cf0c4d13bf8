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

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from raflow.batch import from_ipc
from raflow.logs import quiet_drivers
from raflow.metrics import Counts
from raflow.operators import routing
from raflow.plan import Exchange
from raflow.runtime.failure import Failure
from raflow.runtime.replica.answering import Answering
from raflow.runtime.replica.payloads import Answer, packed, unpacked
from raflow.runtime.replica.processing import Processing
from raflow.runtime.replica.reading import Reading
from raflow.runtime.replica.spread import pieces
from raflow.runtime.replica.unit import Cancelled, Unit
from raflow.runtime.work import Job, Order, route_of

_END = None
_LOOK_S = 0.05
_BLOCKS = 2
"""Blocks that wait to be taken; then user code waits."""


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
        self._units: dict[tuple[str, int, int], Unit] = {}
        self._orders: queue.Queue[Any] = queue.Queue()
        self._read: queue.Queue[Any] = queue.Queue(2)
        self._blocks: queue.Queue[Any] = queue.Queue(_BLOCKS)
        self._lock = threading.Lock()
        done: queue.Queue[Any] = queue.Queue(2)
        self._processing = Processing(job, self.cancelled, own_process, self._read, done)
        self._answering = Answering(job, own_process, done, self._blocks)
        work = {
            "reader": Reading(job, self.cancelled, self._orders, self._read).run,
            "processor": self._processing.run,
            "writer": self._answering.run,
        }
        self._threads = [threading.Thread(target=run, name=f"{name} {of}", daemon=True) for of, run in work.items()]

    # -- called by the driver ---------------------------------------------------------------------

    def setup(self) -> Failure | float:
        """Run the user's `setup` and open the sinks; returns the seconds that this took, or why it failed."""
        logging.getLogger(None if self.own_process else "raflow").setLevel(self.job.log_level)
        if self.own_process:
            quiet_drivers()
        for thread in self._threads:
            thread.start()
        return self._answering.ready.result()

    def run_unit(self, order: Order, *payloads: Any) -> Answer:
        """Do one unit of work that begins here; further ones wait in line. Never raises, but after `cancel`."""
        unit = self._unit(order)
        with self._lock:  # what came after the end would wait for its answer for ever
            if self.cancelled.is_set():
                raise Cancelled
            self._orders.put((unit, payloads))
        return self._answered(unit)

    def next_block(self) -> Answer:
        """Return the next block that goes to another stage; waits until there is one, None at the end."""
        item = self._blocks.get()
        if item is _END:
            self._blocks.put(_END)
            return None, []
        block, table = item
        return block, [self._packed(table)]

    def feed(self, order: Order, channel: str, parts: Sequence[tuple[int, int]], *payloads: Any) -> Answer:
        """Process batches of a unit that an op of another stage has given. Never raises.

        Args:
            order: The unit.
            channel: Name of that op.
            parts: Per payload the first row and the number of rows to take.
            payloads: The batches.
        """
        unit, answer = self._unit(order), Future[Answer]()
        tables = [unpacked(one).slice(*part) for one, part in zip(payloads, parts, strict=True)]
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
            unit.fail(Cancelled(), "drop")
            self._read.put((unit, "close", None))
            self._answered(unit)

    def spread(self, exchange: Exchange, bounds: Any, payload: Any) -> Answer:
        """Cut a unit's results for a range exchange, now that the bounds are known."""
        route, partitions = route_of(self.stage, exchange), self.job.partitions[exchange.taker]
        table = unpacked(payload)
        tables = routing.split(table, route, partitions, bounds=from_ipc(bounds))
        return pieces(exchange, tables, table.schema), [self._packed(one) for one in tables]

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
        """Run the user's `teardown` and close the sinks; returns why that failed. Units in line are given up."""
        self._orders.put(_END)
        for unit in list(self._units.values()):
            unit.fail(Cancelled(), "teardown")  # nobody waits for it: others have given enough
        for thread in self._threads:
            while thread.is_alive():
                self._drop_blocks()  # nobody takes them any more, and the thread may wait for that
                thread.join(_LOOK_S)
        self._drain_blocks()
        return self._processing.ended

    def give_up(self) -> Failure | None:
        """Tear down as soon as user code returns; what it works on is not needed any more."""
        self.cancel()
        return self.teardown()

    def _packed(self, table: Any) -> Any:
        return packed(table, own_process=self.own_process)

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
        self._drop_blocks()
        self._blocks.put(_END)

    def _drop_blocks(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._blocks.get_nowait()
