"""A memory sink whose flushes a test holds, counts and breaks."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa

from raflow.connectors.memory import MemorySink
from raflow.errors import SinkError
from raflow.sinks import Part


class HeldSink(MemorySink):
    """Commits when the test says so.

    Attributes:
        reached: Counts commits that have begun.
        go: What a commit waits for; set at first.
        breaks: How many commits fail from now on.
        units: The units of work that were committed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.breaks = 0
        self.units: list[str] = []

    def commit(self, parts: Sequence[Part]) -> None:
        self.reached.release()
        assert self.go.wait(30)
        if self.breaks:
            self.breaks -= 1
            msg = "the disk password=hush is full"
            raise SinkError(msg)
        self.units += [part.target for part in parts]
        super().commit(parts)

    def ns(self) -> list[int]:
        return [row["n"] for row in self.records()] if self.units else []


class RefusingSink(MemorySink):
    """Can hold nothing that it is given."""

    def commit(self, parts: Sequence[Part]) -> None:
        if any(part.rows for part in parts):
            msg = "of another type"
            raise pa.ArrowInvalid(msg)


class FullSink(MemorySink):
    """Fails whatever it is given."""

    def commit(self, parts: Sequence[Part]) -> None:
        if any(part.rows for part in parts):
            msg = "the disk is full"
            raise SinkError(msg)
