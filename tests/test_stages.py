"""Flows of several stages: batches routed between pools, the same on both engines."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from raflow import Flow, FlowOptions, RunFailed, consumer
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import DuplicateName, InvalidOption
from raflow.metrics import Status

ROWS = 1000
OWN: dict[str, Any] = {"num_replicas": 1, "num_cpus": 0.25}
"""A pool of its own, so small that four of them fit on one CPU."""


def numbers(rows: int = ROWS, per_split: int = 100) -> MemorySource:
    return MemorySource([{"n": n} for n in range(rows)], rows_per_split=per_split)


def add_one(record: dict) -> dict:  # type: ignore[type-arg]
    return {"n": record["n"] + 1}


def twice(record: dict) -> dict:  # type: ignore[type-arg]
    return {"n": record["n"] * 2}


def same(record: dict) -> dict:  # type: ignore[type-arg]
    return record


def found(sink: MemorySink) -> list[int]:
    return sorted(record["n"] for record in sink.records())


def test_processors_without_wishes_run_as_one_stage(engine: str) -> None:
    flow, sink = Flow(flow_options=FlowOptions(num_replicas=1)), MemorySink()
    first = consumer(source=numbers())(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink)(twice))
    (stage,) = flow.run(engine=engine).stats().stages
    assert (stage.name, stage.counts.rows_in, stage.counts.rows_out) == ("add_one → twice", ROWS, ROWS)
    assert found(sink) == [2 * (n + 1) for n in range(ROWS)]


def test_a_processor_with_wishes_has_a_pool_to_which_batches_are_routed(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    first = consumer(source=numbers(), **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink, num_replicas=2, num_cpus=0.25)(twice))
    stats = flow.run(engine=engine).stats()
    assert [(stage.name, stage.counts.rows_in) for stage in stats.stages] == [("add_one", ROWS), ("twice", ROWS)]
    assert found(sink) == [2 * (n + 1) for n in range(ROWS)]


def test_a_processor_reads_several_and_several_read_it(engine: str) -> None:
    flow, union, sinks = Flow(flow_options=FlowOptions(num_cpus=0.2)), MemorySink(), [MemorySink(), MemorySink()]
    first = consumer(source=numbers(), sink=sinks[0])(add_one)
    second = consumer(source=first, sink=sinks[1], **OWN)(twice)
    for one in (first, second, consumer(source=[first, second], sink=union, name="both", **OWN)(same)):
        flow.add_consumer(one)
    flow.run(engine=engine)
    assert found(sinks[0]) == [n + 1 for n in range(ROWS)]
    assert found(sinks[1]) == [2 * (n + 1) for n in range(ROWS)]
    assert found(union) == sorted([n + 1 for n in range(ROWS)] + [2 * (n + 1) for n in range(ROWS)])


def test_records_keep_their_order_where_they_are_asked_to(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    first = consumer(source=numbers(per_split=500), batch_rows=20, **OWN)(add_one)
    flow.add_consumer(first)
    keep = consumer(source=first, sink=sink, num_replicas=2, num_cpus=0.25, preserve_order=True, batch_rows=10)
    flow.add_consumer(keep(twice))
    flow.run(engine=engine)
    assert [record["n"] for record in sink.records()] == [2 * (n + 1) for n in range(ROWS)]


def test_order_is_kept_behind_a_stage_of_several_replicas_too(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    first = consumer(source=numbers(per_split=500), batch_rows=20, **OWN)(add_one)
    spread = consumer(source=first, num_replicas=2, num_cpus=0.25, batch_rows=10)(same)
    keep = consumer(source=spread, sink=sink, num_replicas=1, num_cpus=0.25, preserve_order=True, batch_rows=10)
    for one in (first, spread, keep(twice)):
        flow.add_consumer(one)
    assert [stage.options.preserve_order for stage in flow.plan().stages] == [False, True, True]
    run = flow.start(engine=engine)
    assert run.wait(60), "units wait for blocks that never come"
    assert [record["n"] for record in sink.records()] == [2 * (n + 1) for n in range(ROWS)]


def test_a_processor_that_is_fused_keeps_its_wish_for_order() -> None:
    flow = Flow()
    first = consumer(source=numbers(), **OWN)(add_one)
    plain = consumer(source=first)(same)
    keep = consumer(source=plain, sink=MemorySink(), preserve_order=True, start_timeout_s=99)(twice)
    for one in (first, plain, keep):
        flow.add_consumer(one)
    *_, fused = flow.plan().stages
    assert (fused.options.preserve_order, fused.options.start_timeout_s) == (True, 99.0)


def test_counts_of_a_later_stage_never_go_back(engine: str) -> None:
    flow, sink = Flow(), MemorySink()

    def slow(record: dict) -> dict:  # type: ignore[type-arg]
        time.sleep(0.0005)  # so that a unit takes many calls, and there is time to look
        return record

    first = consumer(source=numbers(4000, 2000), batch_rows=50, **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink, batch_rows=50, **OWN)(slow))
    run = flow.start(engine=engine)
    seen: list[float] = []
    while not run.wait(0.005):
        seen.append(run.stats().stages[1].counts.busy_s)
    assert min(seen) >= 0
    assert run.stats().stages[1].counts.rows_in == 4000


def test_failing_records_are_told_by_the_processor_in_which_they_fail(engine: str) -> None:
    flow, sink, letters = Flow(), MemorySink(), MemorySink()

    def fail_on_even(record: dict) -> dict:  # type: ignore[type-arg]
        if record["n"] % 2 == 0:
            raise ValueError(record["n"])
        return record

    first = consumer(source=numbers(100, 10), **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink, on_error=letters, name="odd", **OWN)(fail_on_even))
    stats = flow.run(engine=engine).stats()
    assert found(sink) == [n for n in range(1, 101) if n % 2]
    assert Counter(letter["processor"] for letter in letters.records()) == {"odd": 50}
    assert [stage.counts.dead_letters for stage in stats.stages] == [0, 50]


def test_an_error_in_a_later_stage_names_its_processor_and_the_split(engine: str) -> None:
    flow = Flow()

    def fail(record: dict) -> None:  # type: ignore[type-arg]
        raise ValueError("no")

    first = consumer(source=numbers(100, 10), **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, **OWN)(fail))
    with pytest.raises(RunFailed, match="processor 'fail' failed in process.*ValueError: no") as raised:
        flow.run(engine=engine)
    assert (raised.value.processor, raised.value.split is not None) == ("fail", True)


def test_a_type_that_widens_late_is_written_wide_by_a_later_stage_too(engine: str) -> None:
    flow, sink = Flow(), MemorySink()

    def widen(record: dict) -> dict:  # type: ignore[type-arg]
        return {"n": record["n"] if record["n"] < 900 else record["n"] + 0.5}

    first = consumer(source=numbers(), **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink, **OWN)(widen))
    flow.run(engine=engine)
    assert sink.table().schema.field("n").type == pa.float64()
    assert found(sink) == [n if n < 900 else n + 0.5 for n in range(1, ROWS + 1)]


def test_what_a_stage_gives_waits_in_a_bounded_line() -> None:
    flow, taken = Flow(), []

    def make(record: dict) -> dict:  # type: ignore[type-arg]
        taken.append(record["n"])
        return {"n": record["n"], "data": b"x" * 100_000}

    def slow(batch: pa.RecordBatch) -> None:
        if not seen:
            seen.append(len(taken))
            time.sleep(0.5)  # what is measured: how far the first stage gets meanwhile

    seen: list[int] = []
    first = consumer(source=numbers(20_000, 20_000), batch_rows=10, **OWN)(make)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, **OWN)(slow))
    from raflow.engines import local

    share, local._STORE_SHARE = local._STORE_SHARE, 20_000_000 / local._memory_bytes()
    try:
        run = flow.start(engine="local")
        while not seen:
            assert not run.wait(0.01)
        run.stop()
        run.settled(30)
    finally:
        local._STORE_SHARE = share
    assert run.status() is Status.CANCELLED
    assert seen[0] < 2_000


def test_many_small_blocks_wait_in_a_bounded_line_too() -> None:
    made, filled = [0], threading.Event()
    gaps: list[int] = []

    def make(record: dict) -> dict:  # type: ignore[type-arg]
        made[0] += 1
        if made[0] == 900:
            filled.set()
        return record

    def slow(record: dict) -> None:  # type: ignore[type-arg]
        assert filled.wait(60)
        gaps.append(made[0] - len(gaps))
        time.sleep(0.0002)  # what is measured: how far the stage before gets ahead of one that takes its time

    flow = Flow()
    first = consumer(source=numbers(8_000, 8_000), batch_rows=1, **OWN)(make)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, batch_rows=1, **OWN)(slow))
    flow.run(engine="local")
    assert len(gaps) == 8_000
    assert max(gaps) < 3_000


def test_a_drained_run_of_several_stages_is_resumed(engine: str) -> None:
    flow, sink = Flow("drained"), MemorySink()

    def slow(record: dict) -> dict:  # type: ignore[type-arg]
        time.sleep(0.001)
        return record

    first = consumer(source=numbers(2000, 100), **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink, batch_rows=10, **OWN)(slow))
    run = flow.start(engine=engine)
    while not run.stats().stages[1].counts.rows_in:
        assert not run.wait(0.01)
    run.drain()
    run.settled(60)
    assert run.status() is Status.CANCELLED
    part = found(sink)
    assert 0 < len(part) < 2000
    flow.run(engine=engine, resume=run.id)
    assert found(sink) == list(range(1, 2001))


def test_a_limited_run_reads_so_many_records_of_each_source(engine: str) -> None:
    flow = Flow()
    first = consumer(source=numbers(), **OWN)(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=MemorySink(), **OWN)(twice))
    run = flow.run(engine=engine, limit=7)
    assert sorted(record["n"] for record in run.preview()) == [2 * n for n in range(1, 8)]


def test_a_plan_says_why_stages_are_apart() -> None:
    flow = Flow()
    first = consumer(source=numbers())(add_one)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, num_gpus=1)(twice))
    flow.add_consumer(consumer(source=first, fuse=False, name="alone")(twice))
    text = str(flow.plan())
    assert "'twice' sets num_gpus" in text
    assert "'alone' has fuse=False" in text


def test_wrong_graphs_are_refused_by_name() -> None:
    flow = Flow()
    first = consumer(source=numbers(), name="p")(add_one)
    flow.add_consumer(consumer(source=first, name="q")(twice))
    assert [op.name for op in flow.plan().ops()] == ["p.source", "p", "q"]
    other: Any = consumer(source=numbers(), name="p")(twice)
    flow.add_consumer(consumer(source=[first, other], name="r")(twice))
    with pytest.raises(DuplicateName, match="two processors are named 'p'"):
        flow.plan()
    with pytest.raises(InvalidOption, match="source is an empty list"):
        consumer(source=[])
    with pytest.raises(InvalidOption, match="min_replicas is 3, max_replicas 2"):
        consumer(source=numbers(), min_replicas=3, max_replicas=2)


class LateStart:
    def setup(self) -> None:
        time.sleep(0.6)  # stands for a process that starts while nothing else is free

    def process(self, record: dict) -> dict:  # type: ignore[type-arg]
        return record


def test_a_stage_that_begins_late_has_as_much_time_to_start_as_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from raflow.engines.local import LocalEngine

    monkeypatch.setattr(LocalEngine, "available", lambda self: {"CPU": 0.0})

    def slow(record: dict) -> dict:  # type: ignore[type-arg]
        time.sleep(0.03)  # 50 of them take longer than any stage of this flow may take to start
        return record

    flow = Flow(flow_options=FlowOptions(start_timeout_s=0.2))
    late = flow.read(numbers(50, 50)).map(slow).distinct().map(LateStart, num_cpus=0.25, num_replicas=1)
    assert late.count(engine="local") == 50
