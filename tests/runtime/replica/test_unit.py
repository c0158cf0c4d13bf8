"""What a unit of work says of the time that it took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from raflow import Flow, consumer
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.runtime.replica import Replica
from raflow.runtime.work import Job, Order, pack_schema
from raflow.sinks import Part, SinkContext, Writer
from raflow.sources import Reject, Split

TOOK_S = 0.2


class SlowSource(MemorySource):
    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        time.sleep(TOOK_S)
        yield from super().read(split, columns, reject)


class SlowWriter(Writer):
    def __init__(self, inner: Writer) -> None:
        self._inner = inner

    def begin(self, unit: str, attempt: int) -> None:
        self._inner.begin(unit, attempt)

    def write(self, batch: pa.RecordBatch) -> None:
        self._inner.write(batch)

    def prepare(self) -> list[Part]:
        time.sleep(TOOK_S)
        return self._inner.prepare()

    def abort(self) -> None:
        self._inner.abort()


class SlowSink(MemorySink):
    def open(self, context: SinkContext) -> Writer:
        return SlowWriter(super().open(context))


def slow(batch: pa.RecordBatch) -> pa.RecordBatch:
    time.sleep(TOOK_S)
    return batch


def quick(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def test_records_count_as_soon_as_user_code_is_through_with_them_and_not_as_they_are_read() -> None:
    seen: list[int] = []

    def look(record: dict) -> dict:  # type: ignore[type-arg]
        seen.append(replica.counts().rows_in)
        return record

    flow, source = Flow(), MemorySource([{"n": n} for n in range(1000)])
    flow.add_consumer(consumer(source=source)(look))
    [stage] = flow.plan().stages
    replica = Replica(Job(stage, SinkContext("run"), {}, "INFO"), "look[0]")
    assert isinstance(replica.setup(), float)
    outcome, _ = replica.run_unit(
        Order(stage.entries[0].name, 0, 1, source.splits()[0], columns=pack_schema(source.schema()))
    )
    replica.teardown()
    assert outcome.counts.rows_in == 1000
    assert all(counted <= before for before, counted in enumerate(seen))
    assert len(set(seen)) > 1


@pytest.mark.parametrize(
    ("source", "function", "sink"),
    [(SlowSource, quick, MemorySink), (MemorySource, slow, MemorySink), (MemorySource, quick, SlowSink)],
    ids=["reading", "user code", "writing"],
)
def test_a_replica_is_busy_whichever_of_its_threads_is_slow(source: Any, function: Any, sink: Any) -> None:
    flow = Flow()
    flow.consumer(source=source([{"n": n} for n in range(3)], rows_per_split=1), sink=sink(), num_replicas=1)(function)
    [stage] = flow.run(engine="local").stats().stages
    assert 3 * TOOK_S <= stage.counts.busy_s < 4 * TOOK_S
