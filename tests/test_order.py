"""Rows that go by their place in a unit come to the same partitions each time, however replicas share the unit."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pyarrow as pa
import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySource
from raflow.runtime import shuffle
from raflow.stream import Stream

ROWS = 3000


def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def unevenly(batch: pa.RecordBatch) -> pa.RecordBatch:
    time.sleep(random.random() * 0.005)  # so that replicas get other shares each time
    return batch


def rows(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"rows": sorted(batch["n"].to_pylist())}])


def shared(flow: Flow) -> Stream:
    """One unit that three replicas share."""
    source = MemorySource(pa.table({"n": range(ROWS), "k": [n % 7 for n in range(ROWS)]}), rows_per_split=ROWS)
    first = flow.read(source).map_batches(same, num_replicas=1, num_cpus=0.1, batch_rows=50)
    return first.map_batches(unevenly, num_replicas=3, num_cpus=0.1, batch_rows=10)


def by_two_ways(flow: Flow) -> Stream:
    source = flow.read(MemorySource(pa.table({"n": range(ROWS)}), rows_per_split=ROWS))
    ways = [source.map_batches(code, num_replicas=2, num_cpus=0.1, batch_rows=10) for code in (unevenly, same)]
    return ways[0].union(ways[1]).map_batches(unevenly, num_replicas=2, num_cpus=0.1)


def joined(flow: Flow) -> Stream:
    return shared(flow).join(flow.read(MemorySource([{"k": 1, "name": "one"}])), "k", how="left")


def grouped(flow: Flow) -> Stream:
    return shared(flow).group_by("n").count().repartition(5)


@pytest.mark.parametrize(
    "made",
    [
        lambda flow: shared(flow).repartition(5),
        joined,
        grouped,
        lambda flow: by_two_ways(flow).repartition(5),
        lambda flow: shared(flow).sample(0.5, seed=3).repartition(5),
    ],
    ids=["repartition", "join with a small side", "behind another exchange", "by two ways", "sample"],
)
def test_rows_come_to_the_same_partitions_each_time(
    made: Callable[[Flow], Stream], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "_UNIT_BYTES", 0)
    found = []
    for _ in range(3):
        stream = made(Flow()).map_batches(rows, batch_rows=10 * ROWS)
        found.append(sorted(stream.to_arrow(engine="local")["rows"].to_pylist()))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 1


def test_stages_before_keep_units_whole_only_where_rows_go_by_their_place() -> None:
    def ordered(stream: Stream) -> list[bool]:
        return [stage.options.preserve_order for stage in stream.explain().stages]

    assert ordered(shared(Flow()).group_by("k").count()) == [False, False, False]
    assert ordered(shared(Flow()).repartition(5)) == [False, True, False]
