"""Group commit: what requests bring while a flush is under way shares the next one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from raflow.errors import SinkError
from raflow.http.application.door import logged
from raflow.http.ingest.accepted import Accepted
from raflow.http.ingest.conversion import Results
from raflow.http.ingest.failing import of_result
from raflow.http.ingest.writing import Writing, is_about_data
from raflow.options import CollectorOptions

log = logging.getLogger("raflow.http")

_RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Waits between the tries to write what was accepted; the last one repeats."""
_CLOSING_S = 20.0
"""How long it is still tried at the end; below what a replica has for its shutdown, 30 s."""


class FlushFailed(Exception):
    """Nothing of what was given to the outlet has been written.

    Attributes:
        error_id: Under which the log has the traceback.
        is_final: Whether it would fail again: a sink cannot hold what was given.
    """

    def __init__(self, error_id: str, is_final: bool) -> None:
        super().__init__(f"error {error_id}")
        self.error_id = error_id
        self.is_final = is_final


class Full(Exception):
    """The buffer takes no more."""


@dataclass(eq=False)
class _Waiting:
    results: Results
    written: asyncio.Future[None] | None


class Outlet:
    """Takes results on the event loop and has them written, group by group, on a thread of its own.

    Args:
        writing: Used on that thread only.
        options: Of the collector.
        name: Of the collector, for logs and the thread.
    """

    def __init__(self, writing: Writing, options: CollectorOptions, name: str) -> None:
        self._writing = writing
        self._options = options
        self._name = name
        self._waiting: list[_Waiting] = []
        self._accepted = 0
        keep = None if options.error_sink is None else partial(of_result, name)
        self._early = Accepted(writing.conversion.schema, self._dropped, keep)
        self._something = asyncio.Event()
        self._closing = asyncio.Event()
        self._until = 0.0
        self._unwritten = 0
        self._thread: ThreadPoolExecutor | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the sinks and start to flush."""
        self._something, self._closing = asyncio.Event(), asyncio.Event()  # of this event loop
        self._unwritten = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"raflow {self._name} sink")
        await self._run(self._writing.open)
        self._flushing = asyncio.create_task(self._flush_groups())

    async def close(self) -> None:
        """Flush what waits, then close the sinks.

        Raises:
            SinkError: Accepted records were lost, since the sinks could not be written for too long.
        """
        self._until = time.monotonic() + _CLOSING_S
        self._closing.set()
        self._something.set()
        if self._flushing is not None:
            await self._flushing
        try:
            await self._run(self._writing.close)
        finally:
            if self._thread is not None:
                self._thread.shutdown()
        if self._unwritten:
            msg = f"collector {self._name!r} has lost {self._unwritten} accepted record(s): its sinks failed to the end"
            raise SinkError(msg)

    async def write(self, results: Results) -> None:
        """Return when the sinks have the results.

        When it is cancelled before their flush has begun, they are not written: the client is told that
        its request failed, and comes again.

        Raises:
            FlushFailed: They do not have them.
        """
        written = asyncio.get_running_loop().create_future()
        waiting = _Waiting(results, written)
        self._waiting.append(waiting)
        self._something.set()
        try:
            await written
        except asyncio.CancelledError:
            self._waiting = [one for one in self._waiting if one is not waiting]
            raise

    def accept(self, results: Results) -> None:
        """Take results to be written later.

        Raises:
            Full: As many records as allowed are waiting.
        """
        if self._accepted and self._accepted + results.size > self._options.buffer_records:
            raise Full
        self._accepted += results.size
        self._early.add(results)
        self._something.set()

    async def _flush_groups(self) -> None:
        while True:
            if not await self._come():
                continue
            if self._closing.is_set() and not (self._waiting or self._early):
                return
            await self._pause(self._options.linger_s)
            group, self._waiting = [*self._waiting, *(_Waiting(one, None) for one in self._early.take())], []
            if not self._closing.is_set():
                self._something.clear()
            if group:  # not if all that came was cancelled
                await self._flush(group)

    async def _come(self) -> bool:
        """Wait for something to write, and return True; or until a file is due, which readers then see."""
        try:
            await asyncio.wait_for(self._something.wait(), self._writing.due_s())
        except asyncio.TimeoutError:
            await self._roll()
            return False
        return True

    async def _roll(self) -> None:
        try:
            await self._run(self._writing.roll)
        except Exception as error:
            logged(f"collector {self._name!r}: a file could not be published", error)
            await self._pause(_RETRY_S[-1])

    async def _flush(self, group: list[_Waiting]) -> None:
        error, failures = await self._tried(group), 0
        while error is not None:
            parts = _halves(group) if is_about_data(error) else []
            if len(parts) > 1:
                # So that one request that brought what the sink cannot hold does not fail the others.
                for part in parts:
                    await self._flush(part)
                return
            error_id = logged(f"collector {self._name!r}: {len(group)} request(s) were not written", error)
            if is_about_data(error) and self._refuse(group[0].results, error, error_id):
                await self._flush(group)
                return
            if self._options.ack == "written" or is_about_data(error) or not await self._waited(failures):
                self._lost(group, FlushFailed(error_id, is_about_data(error)))
                return
            failures += 1
            error = await self._tried(group)
        for one in group:
            self._done(one, None)

    async def _tried(self, group: list[_Waiting]) -> Exception | None:
        try:
            await self._run(partial(self._writing.flush, [one.results for one in group]))
        except Exception as error:
            return error
        return None

    def _refuse(self, results: Results, error: Exception, error_id: str) -> bool:
        """Have what a sink cannot hold become dead letters; returns whether it does, which is tried once."""
        if results.letter is None or results.refused is not None:
            return False
        results.refused, results.error_id = error, error_id
        self._early.forget(self._writing.conversion.schema)
        return True

    async def _waited(self, failures: int) -> bool:
        """Wait before the next try to write; returns False if there is no time left for one."""
        wait_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
        if not self._closing.is_set():
            await self._pause(wait_s)
            return True
        left_s = self._until - time.monotonic()
        await asyncio.sleep(max(0.0, min(wait_s, left_s)))
        return left_s > 0

    def _lost(self, group: list[_Waiting], error: FlushFailed) -> None:
        if error.is_final:
            self._early.forget(self._writing.conversion.schema)
        records = sum(one.results.size for one in group if one.written is None)
        if records:
            log.error("error %s: collector %r loses %d accepted record(s)", error.error_id, self._name, records)
            self._unwritten += 0 if error.is_final else records
        for one in group:
            self._done(one, error)

    def _done(self, one: _Waiting, error: FlushFailed | None) -> None:
        if one.written is None:
            self._accepted -= one.results.size
            misfits = Counter(one.results.misfits.values() if one.results.letter is None else ())
            for misfit, records in misfits.items():  # those of a batch have one and the same
                self._dropped(misfit, records)
        elif not one.written.done():  # it is, if the client is gone
            one.written.set_exception(error) if error else one.written.set_result(None)

    def _dropped(self, misfit: Exception, records: int = 1) -> None:
        logged(f"collector {self._name!r}: {records} accepted record(s) were dropped", misfit)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when the replica ends."""
        if seconds and not self._closing.is_set():
            await asyncio.wait([closing := asyncio.ensure_future(self._closing.wait())], timeout=seconds)
            closing.cancel()

    async def _run(self, work: Callable[[], Any]) -> None:
        assert self._thread is not None
        await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _halves(group: list[_Waiting]) -> list[list[_Waiting]]:
    """Return a group as two, or as one if it cannot be divided."""
    if len(group) > 1:
        return [group[: len(group) // 2], group[len(group) // 2 :]]
    return [[_Waiting(half, group[0].written)] for half in group[0].results.halves()]
