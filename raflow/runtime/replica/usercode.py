"""Runs user code over batches: calls, retries, and finding the records that fail."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import pyarrow as pa

from raflow import convert
from raflow.code import Code
from raflow.dependencies.needs import routine_of
from raflow.dependencies.side_output import Pushed
from raflow.errors import TooManyErrors
from raflow.plan import Op
from raflow.runtime.replica import keeping
from raflow.runtime.replica.rejects import Rejects


class UserCode:
    """One instance of a processor. All methods are called on one thread.

    Args:
        op: The processor.
        cancelled: Set when the replica must end; waits between retries stop at once.
    """

    def __init__(self, op: Op, cancelled: threading.Event) -> None:
        assert isinstance(op.work, Code)
        assert op.shape
        self.function = op.work.function
        self.keeps = op.work.keeps
        self.shape = op.shape
        self.options = op.options
        self.retry = op.options.retry
        self.cancelled = cancelled
        self.instance: Any = None
        self.side: Pushed | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def setup(self) -> None:
        """Make the instance and call its `setup`."""
        if isinstance(self.function, type):
            self.instance = self.function()
            self.side = side if isinstance(side := getattr(self.instance, "pushed", None), Pushed) else None
            self._maybe_call("setup")
        self.call = _returning(self._code(), self._run)

    def teardown(self) -> None:
        """Call the instance's `teardown`; called once, also after errors."""
        try:
            if self.instance is not None:
                self._maybe_call("teardown")
        finally:
            if self.loop is not None:
                self.loop.close()

    def process(
        self, batch: pa.RecordBatch, first_row: int, hint: pa.Schema | None, rejects: Rejects
    ) -> pa.RecordBatch | None:
        """Return what user code made of a batch; None if nothing is left.

        Args:
            batch: Columns as the source delivered them.
            first_row: Row of the unit at which the batch starts.
            hint: Output schema agreed so far.
            rejects: Takes the records that fail.
        """
        if self.shape.per_record:
            return self._records(batch, first_row, hint, rejects)
        return self._batch(batch, first_row, hint, rejects)

    def pushed(self) -> list[list[Any]]:
        """Return and forget what its calls have pushed into side outputs, by number of these."""
        return self.side.take() if self.side else []

    def _records(
        self, batch: pa.RecordBatch, first: int, hint: pa.Schema | None, rejects: Rejects
    ) -> pa.RecordBatch | None:
        decoded, failed = self.shape.decode(batch, while_taken=True), set[int]()
        for row, error in decoded.rejected:
            rejects.record(first + row, batch.slice(row, 1), error)

        def fail(index: int, error: Exception) -> None:
            row = decoded.rows[index]
            failed.add(index)
            rejects.record(first + row, batch.slice(row, 1), error)

        call = self._patient(self.call)
        if inspect.iscoroutinefunction(self._code()):
            results = self._run(self._gather(decoded.values, fail))
        else:
            results = _each(call, decoded.values, len(decoded.rows), fail)
        if self.keeps:
            results = [False if index in failed else result for index, result in enumerate(results)]
            return keeping.records(batch, decoded.rows, results, fail)
        # The types of results cost too much to look at all of them where they may well be fit.
        if results and isinstance(results[0], Iterator):
            _run_iterators(results, fail)
        encoded = convert.encode(results, hint)
        if encoded.rejected and _run_iterators(results, fail):
            encoded = convert.encode(results, hint)
        if encoded.rejected:
            # All results of a record are written, or none: its dead letter can then be replayed.
            for index, error in dict(encoded.rejected).items():
                fail(index, error)
                results[index] = None
            encoded = convert.encode(results, hint)
        return encoded.batch

    def _batch(
        self, batch: pa.RecordBatch, first: int, hint: pa.Schema | None, rejects: Rejects
    ) -> pa.RecordBatch | None:
        return self._bisect(batch, first, hint, rejects, self._patient(self._whole))

    def _bisect(
        self,
        batch: pa.RecordBatch,
        first: int,
        hint: pa.Schema | None,
        rejects: Rejects,
        call: Callable[..., Any],
    ) -> pa.RecordBatch | None:
        """Halve a failing batch until the failing records stand alone, so that only they are lost."""
        try:
            return call(batch, first, hint, rejects)
        except Exception as error:
            if rejects.fail or isinstance(error, TooManyErrors):
                raise
            if batch.num_rows <= 1:
                rejects.record(first, batch, error)
                return None
        middle = batch.num_rows // 2
        halves = [
            self._bisect(batch.slice(start, rows), first + start, hint, rejects, self._whole)
            for start, rows in ((0, middle), (middle, batch.num_rows - middle))
        ]
        return convert.concat([half for half in halves if half is not None])

    def _whole(
        self, batch: pa.RecordBatch, first: int, hint: pa.Schema | None, rejects: Rejects
    ) -> pa.RecordBatch | None:
        decoded = self.shape.decode(batch)
        with self.side.undone() if self.side else nullcontext():
            result = self.call(decoded.values)
            made = keeping.rows(batch, decoded.rows, result) if self.keeps else convert.encode_batch(result, hint)
        for row, error in decoded.rejected:
            rejects.record(first + row, batch.slice(row, 1), error)
        if isinstance(made, pa.RecordBatch):
            return made
        for _, error in made.rejected:
            rejects.result(str(error), error)
        return made.batch

    def _patient(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call with the processor's retries around it."""
        delays = self.retry.delays()
        if not delays:
            return call

        def attempt(*args: Any) -> Any:
            for delay_s in delays:
                try:
                    return _ran(call(*args))
                except Exception:
                    if self.cancelled.wait(delay_s):
                        raise
            return _ran(call(*args))

        return attempt

    async def _gather(self, values: Iterable[Any], fail: Callable[[int, Exception], None]) -> list[Any]:
        code, slots = self._code(), asyncio.Semaphore(self.options.concurrency)

        async def one(value: Any) -> Any:
            async with slots:
                for delay_s in self.retry.delays():
                    try:
                        return _ran(await code(value))
                    except Exception:
                        await asyncio.sleep(delay_s)
                return _ran(await code(value))

        results = await asyncio.gather(*(one(value) for value in values), return_exceptions=True)
        for index, result in enumerate(results):
            if isinstance(result, Exception):
                fail(index, result)
                results[index] = None
            elif isinstance(result, BaseException):
                raise result
        return results

    def _code(self) -> Any:
        return routine_of(self.function if self.instance is None else self.instance.process)

    def _maybe_call(self, name: str) -> None:
        method = getattr(self.instance, name, None)
        if method is not None:
            result = method()
            if inspect.isawaitable(result):
                self._run(result)

    def _run(self, awaitable: Any) -> Any:
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
        return self.loop.run_until_complete(awaitable)


def _each(
    call: Callable[[Any], Any], values: Iterable[Any], rows: int, fail: Callable[[int, Exception], None]
) -> list[Any]:
    """Return a result per value; None where the call failed. `map` keeps the loop out of the interpreter."""
    results: list[Any] = []
    calls = map(call, values)
    while len(results) < rows:
        try:
            results.extend(calls)
            if len(results) < rows:  # it looks like the end to `map`
                msg = "the function raised StopIteration"
                raise RuntimeError(msg)
        except Exception as error:
            fail(len(results), error)
            results.append(None)
    return results


def _ran(result: Any) -> Any:
    """Return a list in place of an iterator, such as a generator that a function returned: its code is the user's."""
    return list(result) if isinstance(result, Iterator) else result


def _run_iterators(results: list[Any], fail: Callable[[int, Exception], None]) -> bool:
    """Put lists in place of iterators, and None where one fails; returns whether there were any."""
    found = [index for index, result in enumerate(results) if isinstance(result, Iterator)]
    for index in found:
        try:
            results[index] = list(results[index])
        except Exception as error:
            results[index] = None
            fail(index, error)
    return bool(found)


def _returning(code: Callable[..., Any], run: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return the code as a function that returns lists where it yields, and values where it awaits."""
    if inspect.isasyncgenfunction(code):

        async def collect(value: Any) -> list[Any]:
            return [item async for item in code(value)]

        return lambda value: run(collect(value))
    if inspect.iscoroutinefunction(code):
        return lambda value: run(code(value))
    if inspect.isgeneratorfunction(code):
        return lambda value: list(code(value))
    return code
