"""Runs whose results come to this process: in order, bounded, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import raflow
from raflow import RunFailed, Stream
from raflow.connectors.memory import OrderedSink
from raflow.sinks import Part, SinkContext
from raflow.testing import write_unit

NUMBERS = pa.table({"n": [n * 7919 % 5000 for n in range(5000)]})


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each partition of an exchange is a unit of its own."""
    monkeypatch.setattr("raflow.runtime.shuffle._UNIT_BYTES", 0)


def left_behind() -> list[str]:
    files = fsspec.filesystem("memory")
    found: list[str] = files.find("/raflow-streams") if files.exists("/raflow-streams") else []
    return found


def part(sink: OrderedSink, unit: int, *numbers: int) -> list[Part]:
    batches = [pa.record_batch({"n": pa.array(numbers)})] if numbers else []
    return write_unit(sink.open(SinkContext("run")), f"sort.{unit:05}", 1, *batches)


def taken(batches: Iterator[pa.RecordBatch]) -> list[int]:
    return [n for batch in batches for n in batch["n"].to_pylist()]


def test_a_sorted_stream_comes_in_order_and_in_pieces(small_units: None) -> None:
    stream = raflow.from_arrow(NUMBERS).sort("n").filter(pc.field("n") >= 2000)
    batches = list(stream.iter_batches(engine="local"))
    assert len(batches) > 1
    assert taken(iter(batches)) == list(range(2000, 5000))


def test_units_are_given_away_in_order_and_once() -> None:
    sink = OrderedSink()
    for unit, numbers in ((2, (5, 6)), (0, (1,)), (1, ()), (0, (1,))):
        sink.commit(part(sink, unit, *numbers))
    sink.end()
    assert taken(sink.batches()) == [1, 5, 6]


def test_units_after_one_that_never_comes_are_given_away_at_the_end() -> None:
    sink = OrderedSink()
    sink.commit(part(sink, 3, 4))
    sink.commit(part(sink, 1, 2))
    sink.end()
    assert taken(sink.batches()) == [2, 4]


def test_the_run_is_held_only_while_much_can_be_taken() -> None:
    sink, held = OrderedSink(most_bytes=1), list[bool]()
    sink.hold_by(held.append)
    sink.commit(part(sink, 1, 2))
    assert held == []  # all depends on unit 0
    sink.commit(part(sink, 0, 1))
    assert held == [True]
    sink.end()
    assert taken(sink.batches()) == [1, 2]
    assert held == [True, False]


def test_a_run_that_is_held_goes_on(small_units: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderedSink.__init__, "__defaults__", (1,))
    assert taken(raflow.from_arrow(NUMBERS).sort("n").iter_batches(engine="local")) == list(range(5000))


def fails(record: dict[str, Any]) -> dict[str, Any]:
    raise ValueError(record["n"])


def runs(stream: Stream) -> dict[str, Any]:
    return {
        "table": lambda: stream.to_arrow(engine="local"),
        "batches": lambda: list(stream.iter_batches(engine="local")),
        "sorted batches": lambda: list(stream.sort("n").iter_batches(engine="local")),
        "early": lambda: next(iter(stream.iter_batches(engine="local"))),
    }


@pytest.mark.parametrize("how", ["table", "batches", "sorted batches", "early"])
def test_nothing_stays_of_a_run(how: str) -> None:
    assert runs(raflow.from_arrow(NUMBERS))[how]()
    with pytest.raises(RunFailed, match="ValueError"):
        runs(raflow.from_arrow(NUMBERS).map(fails))[how]()
    assert left_behind() == []
    assert [one.name for one in threading.enumerate() if one.name == "raflow batches"] == []


def test_nothing_stays_of_a_run_that_could_not_start() -> None:
    with pytest.raises(raflow.RaflowError, match="no column 'x'"):
        raflow.from_arrow(NUMBERS).select("x").collect(engine="local")
    assert left_behind() == []


def test_an_interrupt_ends_the_run_and_is_no_result() -> None:
    begun = threading.Event()

    def slow(record: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        time.sleep(0.001)
        return record

    def interrupt() -> None:
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    stream = raflow.from_arrow(pa.concat_tables([NUMBERS] * 100)).map(slow, batch_rows=50)
    with pytest.raises(KeyboardInterrupt):
        stream.collect(engine="local")
    assert left_behind() == []
