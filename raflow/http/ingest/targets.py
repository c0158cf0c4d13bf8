"""One sink of a collector in one replica: staged and committed flush by flush, or appended to an open file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import pyarrow as pa

from raflow.options import CollectorOptions
from raflow.sinks import Appender, Part, Sink, SinkContext, Writer


class Target(Protocol):
    """What a flush does with each sink, in this order."""

    def stage(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Take what is to be written."""

    def publish(self) -> None:
        """Make it durable: it is written."""

    def undo(self) -> None:
        """Take back what was staged, and published if that can be; instead of the rest of a failed flush.

        Only after `stage` of the same flush, which may have failed.
        """

    def due_s(self) -> float | None:
        """Return in how many seconds `roll` is to be called; None if there is no need."""

    def roll(self) -> None:
        """Let readers see what they do not see yet."""

    def close(self) -> None:
        """End."""


def target_of(sink: Sink, context: SinkContext, unit: str, options: CollectorOptions) -> Target:
    """Return a sink's target, open: what is wrong with the sink shows at once."""
    appender = sink.appender(context, unit)
    if appender is not None:
        return _Appended(appender, options.roll_bytes, options.roll_s)
    return _Staged(sink, context, unit)


class _Staged:
    """A unit of work per flush. After a failed one, the next begins with a new writer."""

    def __init__(self, sink: Sink, context: SinkContext, unit: str) -> None:
        self._sink, self._context, self._unit = sink, context, unit
        self._writer: Writer | None = sink.open(context)
        self._flushes = 0
        self._parts: list[Part] = []

    def stage(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._flushes += 1
        self._parts = []
        if self._writer is None:
            self._writer = self._sink.open(self._context)
        self._writer.begin(f"{self._unit}.{self._flushes}", 0)
        for batch in batches:
            self._writer.write(batch)
        self._parts = self._writer.prepare()

    def publish(self) -> None:
        self._sink.commit(self._parts)

    def undo(self) -> None:
        with suppress(Exception):
            self._sink.discard(self._parts)
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(Exception):
                writer.abort()
                writer.close()

    def due_s(self) -> None:
        return None

    def roll(self) -> None:
        """Nothing: what was committed is visible."""

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Appended:
    """A file that many flushes share, until it is large or old enough."""

    def __init__(
        self, appender: Appender, roll_bytes: int, roll_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._appender = appender
        self._roll_bytes, self._roll_s = roll_bytes, roll_s
        self._now = now
        self._began = 0.0
        self._size_before = 0

    def stage(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._size_before = self._appender.size_bytes
        if not self._size_before:
            self._began = self._now()
        for batch in batches:
            self._appender.append(batch)

    def publish(self) -> None:
        self._appender.flush()

    def undo(self) -> None:
        self._appender.abandon(self._size_before)

    def due_s(self) -> float | None:
        size = self._appender.size_bytes
        if not size:
            return None
        return 0.0 if size >= self._roll_bytes else max(0.0, self._began + self._roll_s - self._now())

    def roll(self) -> None:
        if self.due_s() == 0.0:
            self._appender.roll()

    def close(self) -> None:
        self._appender.roll()
