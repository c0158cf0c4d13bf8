"""Whole runs, the same on both engines."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from raflow import Flow, FlowOptions, RunFailed, consumer
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import FlowError, InvalidOption, NoCapacity, SchemaError
from raflow.metrics import Status
from raflow.runtime.ledger import Ledger

ROWS = 1000
SOURCE = MemorySource([{"n": n, "text": f"row {n}", "half": n / 2} for n in range(ROWS)], rows_per_split=100)


@dataclass
class Row:
    n: int
    half: float


def run(code: Any, engine: str, source: Any = SOURCE, **options: Any) -> tuple[list[dict[str, Any]], Any]:
    flow, sink = Flow("test"), MemorySink()
    one_is_enough = {"num_replicas": 1, **options}  # each further one costs a second of start-up on Ray
    flow.add_consumer(consumer(source=source, sink=sink, name="p", **one_is_enough)(code))
    finished = flow.run(engine=engine)
    return sink.records(), finished.stats()


def of_dict(record: dict) -> dict:  # type: ignore[type-arg]
    return {"n": record["n"]}


def of_row(record: Row) -> Row:
    return record


def bare(record):  # type: ignore[no-untyped-def]
    return {"n": record["n"]}


def of_list(records: list[Row]) -> list[Row]:
    return records


def of_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select(["n"])


def of_table(table: pa.Table) -> pa.Table:
    return table.select(["n"])


def of_pandas(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(frame[["n"]])


def of_polars(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select("n")


async def of_async(record: Row) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"n": record.n}


def of_generator(record: Row) -> Iterator[dict[str, Any]]:
    yield {"n": record.n}


async def of_async_generator(record: Row) -> AsyncIterator[dict[str, Any]]:
    yield {"n": record.n}


@pytest.mark.parametrize(
    "code",
    [
        of_dict,
        of_row,
        bare,
        of_list,
        of_batch,
        of_table,
        of_pandas,
        of_polars,
        of_async,
        of_generator,
        of_async_generator,
    ],
)
def test_every_record_passes_a_function_of_any_kind_once(code: Any, engine: str) -> None:
    records, stats = run(code, engine)
    assert [record["n"] for record in records] == list(range(ROWS))
    assert stats.status is Status.SUCCEEDED
    assert (stats.stages[0].counts.rows_in, stats.stages[0].counts.rows_out) == (ROWS, ROWS)
    assert (stats.stages[0].units_done, stats.stages[0].units_total, stats.stages[0].backlog) == (10, 10, 0)


def test_none_drops_and_a_list_flattens(engine: str) -> None:
    def twice_if_even(record: dict[str, Any]) -> list[dict[str, Any]] | None:
        return None if record["n"] % 2 else [record, record]

    records, _ = run(twice_if_even, engine)
    assert [record["n"] for record in records] == [n for n in range(0, ROWS, 2) for _ in range(2)]


class Stateful:
    folder: str

    def setup(self) -> None:
        self.seen = 0

    def process(self, record: Row) -> dict[str, Any]:
        self.seen += 1
        return {"seen": self.seen}

    def teardown(self) -> None:
        Path(self.folder).joinpath("torn-down").touch()


def test_a_class_has_state_per_replica_and_its_teardown_is_called(engine: str, tmp_path: Path) -> None:
    code = type("Mine", (Stateful,), {"folder": str(tmp_path)})
    records, _ = run(code, engine)
    assert sorted(record["seen"] for record in records) == list(range(1, ROWS + 1))
    assert (tmp_path / "torn-down").exists()


class Failing(Stateful):
    def process(self, record: Row) -> dict[str, Any]:
        if record.n == 777:
            msg = "seven"
            raise LookupError(msg)
        return {"n": record.n}


def test_teardown_is_called_before_the_error_of_a_run_is_told(engine: str, tmp_path: Path) -> None:
    code = type("Mine", (Failing,), {"folder": str(tmp_path)})
    with pytest.raises(RunFailed, match="LookupError: seven"):
        run(code, engine)
    assert (tmp_path / "torn-down").exists()


def test_user_code_that_hangs_holds_up_the_error_of_a_run_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls, goes_on = itertools.count(), threading.Event()

    def process(self: Any, record: Row) -> None:
        if next(calls) == 0:
            goes_on.wait()
        msg = "the other one hangs"
        raise LookupError(msg)

    monkeypatch.setattr("raflow.runtime.pools._GIVE_UP_S", 0.2)
    code = type("Mine", (Stateful,), {"folder": str(tmp_path), "process": process})
    began = time.monotonic()
    with pytest.raises(RunFailed, match="the other one hangs"):
        run(code, "local", num_replicas=2)
    assert time.monotonic() - began < 3
    goes_on.set()


def test_batches_have_the_size_that_was_asked_for(engine: str) -> None:
    def sizes(batch: pa.RecordBatch) -> dict[str, Any]:
        return {"rows": batch.num_rows}

    records, _ = run(sizes, engine, batch_rows=30)
    assert [record["rows"] for record in records] == [30, 30, 30, 10] * 10


def test_async_calls_overlap_up_to_the_bound(engine: str) -> None:
    class Meter:
        running = most = 0

        async def process(self, record: Row) -> dict[str, Any]:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.001)
            self.running -= 1
            return {"most": self.most}

    records, _ = run(Meter, engine, concurrency=7)
    assert max(record["most"] for record in records) == 7


def breaks_at_777(record: Row) -> dict[str, Any]:
    if record.n == 777:
        msg = "seven"
        raise LookupError(msg)
    return {"n": record.n}


def test_a_failing_record_ends_the_run_with_the_users_error_and_its_place(engine: str) -> None:
    with pytest.raises(RunFailed, match="LookupError: seven") as caught:
        run(breaks_at_777, engine)
    error = caught.value
    assert isinstance(error.__cause__, LookupError)
    assert "breaks_at_777" in error.traceback
    assert error.traceback.count("raflow/runtime") == 0
    assert (error.processor, error.split) == ("p", "records 700-800")
    assert error.replica is not None
    assert error.replica.startswith("p[")


def test_skipped_records_are_counted_and_their_neighbours_are_kept(engine: str) -> None:
    records, stats = run(breaks_at_777, engine, on_error="skip")
    assert [record["n"] for record in records] == [n for n in range(ROWS) if n != 777]
    assert stats.stages[0].counts.skipped == 1


def test_a_batch_function_loses_only_the_failing_records(engine: str) -> None:
    def no_sevens(batch: pa.RecordBatch) -> pa.RecordBatch:
        if any(n in (77, 777) for n in batch.column("n").to_pylist()):
            msg = "seven"
            raise ValueError(msg)
        return batch

    records, stats = run(no_sevens, engine, on_error="skip")
    assert [record["n"] for record in records] == [n for n in range(ROWS) if n not in (77, 777)]
    assert stats.stages[0].counts.skipped == 2


def test_dead_letters_say_what_failed_why_and_where(engine: str) -> None:
    letters = MemorySink()
    records, stats = run(breaks_at_777, engine, on_error=letters)
    assert len(records) == ROWS - 1
    (letter,) = letters.records()
    assert letter["record"] == '{"n": 777, "half": 388.5}'
    assert (letter["error_type"], letter["error"], letter["processor"]) == ("LookupError", "seven", "p")
    assert "breaks_at_777" in letter["traceback"]
    assert letter["position"] == "record 777"
    assert (stats.stages[0].counts.skipped, stats.stages[0].counts.dead_letters) == (0, 1)


def test_max_errors_bounds_what_may_be_skipped(engine: str) -> None:
    def odd_fails(record: Row) -> dict[str, Any]:
        return {"n": 1 / (record.n % 2)}

    with pytest.raises(RunFailed, match="max_errors is 20"):
        run(odd_fails, engine, on_error="skip", max_errors=20)


def test_max_errors_also_bounds_what_batch_functions_lose(engine: str) -> None:
    def nothing_fits(batch: pa.RecordBatch) -> pa.RecordBatch:
        msg = "no"
        raise ValueError(msg)

    with pytest.raises(RunFailed, match="4 records failed, max_errors is 3"):
        run(nothing_fits, engine, on_error="skip", max_errors=3)


def test_a_record_that_does_not_fit_its_type_is_one_that_fails(engine: str) -> None:
    source = MemorySource([{"n": 1, "half": 0.5}, {"n": None, "half": 1.0}, {"n": 3, "half": 1.5}])
    records, stats = run(of_row, engine, source, on_error="skip")
    assert [record["n"] for record in records] == [1, 3]
    assert stats.stages[0].counts.skipped == 1
    with pytest.raises(RunFailed, match="'n'"):
        run(of_row, engine, source)


def test_a_flaky_batch_is_tried_again(engine: str) -> None:
    class Flaky:
        def setup(self) -> None:
            self.tries = 0

        def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            self.tries += 1
            if self.tries % 2:
                msg = "try again"
                raise ConnectionError(msg)
            return batch

    from raflow import Retry

    records, _ = run(Flaky, engine, retry=Retry(times=1, delay_s=0))
    assert len(records) == ROWS


def test_an_error_in_setup_is_told_at_once_with_the_users_traceback(engine: str) -> None:
    class Broken:
        def setup(self) -> None:
            msg = "no model"
            raise OSError(msg)

        def process(self, record: Row) -> None: ...

    began = time.monotonic()
    with pytest.raises(RunFailed, match="failed in setup: OSError: no model"):
        run(Broken, engine)
    assert time.monotonic() - began < 30


def test_sys_exit_in_user_code_is_a_failure(engine: str) -> None:
    def leaves(record: Row) -> None:
        raise SystemExit(0)

    with pytest.raises(RunFailed, match="SystemExit"):
        run(leaves, engine, on_error="skip")


def test_what_the_record_type_wants_is_checked_before_data_moves(engine: str) -> None:
    with pytest.raises(SchemaError, match="no column 'half'"):
        run(of_row, engine, MemorySource([{"n": 1}]))
    with pytest.raises(SchemaError, match="'n' must be int64 but the column is string"):
        run(of_row, engine, MemorySource([{"n": "x", "half": 1.0}]))


def test_a_type_that_widens_late_is_written_wide_everywhere(engine: str) -> None:
    def late(record: Row) -> dict[str, Any]:
        return {
            "n": record.n,
            "x": None if record.n < 500 else record.n,
            "y": record.n if record.n < 900 else 0.5,
        }

    records, stats = run(late, engine)
    assert [record["n"] for record in records] == list(range(ROWS))
    assert [record["x"] for record in records] == [None] * 500 + list(range(500, ROWS))
    assert {type(record["y"]) for record in records} == {float}
    assert stats.stages[0].counts.rows_out == ROWS


def test_types_that_do_not_widen_are_an_error_that_names_the_field(engine: str) -> None:
    def mixed(record: Row) -> dict[str, Any]:
        return {"x": record.n if record.n < 500 else "text"}

    with pytest.raises(RunFailed, match="'x'"):
        run(mixed, engine)


def test_several_consumers_share_a_flow(engine: str) -> None:
    flow, one, two = Flow(), MemorySink(), MemorySink()
    flow.add_consumer(consumer(source=SOURCE, sink=one, name="one")(of_dict))
    flow.add_consumer(consumer(source=SOURCE, sink=[two, one], name="two")(of_row))
    flow.run(engine=engine)
    assert len(one.records()) == 2 * ROWS
    assert len(two.records()) == ROWS


def test_a_dry_run_processes_the_first_records_and_writes_nothing(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    flow.add_consumer(consumer(source=SOURCE, sink=sink, name="p")(of_row))
    finished = flow.run(engine=engine, limit=150)
    assert [row["n"] for row in finished.preview()] == list(range(150))
    assert sink.table().num_rows == 0
    assert finished.status() is Status.SUCCEEDED


def test_start_returns_at_once_and_wait_ends_with_the_run(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    flow.add_consumer(consumer(source=SOURCE, sink=sink, name="p")(of_row))
    running = flow.start(engine=engine)
    assert running.wait(60)
    assert running.status() is Status.SUCCEEDED
    assert len(sink.records()) == ROWS


def endless(record: Row) -> dict[str, Any]:
    time.sleep(0.02)  # the work itself
    return {"n": record.n}


def test_draining_finishes_what_is_under_way_and_resume_does_the_rest(engine: str) -> None:
    flow, sink = Flow("drained", FlowOptions(num_replicas=1)), MemorySink()
    source = MemorySource([{"n": n, "half": 0.0} for n in range(100)], rows_per_split=5)
    flow.add_consumer(consumer(source=source, sink=sink, name="p")(endless))
    running = flow.start(engine=engine)
    while not running.stats().stages[0].units_done:
        assert not running.wait(0.05)
    running.drain()
    running.wait(60)
    assert running.status() is Status.CANCELLED
    before = len(sink.records())
    assert 0 < before < 100
    flow.run(engine=engine, resume="last")
    assert [record["n"] for record in sink.records()] == list(range(100))


def test_a_run_that_somebody_stops_is_an_error_for_those_who_wait_for_it() -> None:
    flow = Flow(flow_options=FlowOptions(num_replicas=1))
    flow.add_consumer(consumer(source=SOURCE, sink=MemorySink(), name="p")(endless))

    def interrupt() -> None:
        while not any(thread.name.startswith("p[0]") for thread in threading.enumerate()):
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt, match="was stopped before its end; resume='"):
        flow.run(engine="local")
    thread.join()


def test_stopping_waits_for_nothing(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    flow.add_consumer(consumer(source=SOURCE, sink=sink, name="p")(endless))
    running = flow.start(engine=engine)
    while not running.stats().stages[0].replicas:
        assert not running.wait(0.05)
    began = time.monotonic()
    running.stop()
    running.wait(10)
    assert time.monotonic() - began < 3
    assert running.status() is Status.CANCELLED


def test_a_replica_that_cannot_be_placed_says_what_it_needs_and_what_there_is(engine: str) -> None:
    with pytest.raises((RunFailed, NoCapacity), match=r"needs .*GPU 7.*available: CPU") as caught:
        run(of_row, engine, num_gpus=7, start_timeout_s=1)
    assert isinstance(caught.value, NoCapacity) or isinstance(caught.value.__cause__, NoCapacity)


def test_host_and_port_need_an_http_processor() -> None:
    flow = Flow()
    flow.add_consumer(consumer(source=SOURCE, name="p")(of_row))
    with pytest.raises(InvalidOption, match="HTTP"):
        flow.run(engine="local", port=8000)
    with pytest.raises(FlowError, match="limit"):
        flow.run(engine="local", limit=0)


def test_a_function_that_raises_stop_iteration_loses_only_its_record(engine: str) -> None:
    def stopping(record: dict) -> dict:  # type: ignore[type-arg]
        if record["n"] in (3, ROWS - 1):
            raise StopIteration
        return {"n": record["n"]}

    records, stats = run(stopping, engine, on_error="skip")
    assert [record["n"] for record in records] == [n for n in range(ROWS) if n not in (3, ROWS - 1)]
    assert stats.stages[0].counts.skipped == 2


def test_a_run_says_that_it_is_alive_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    beaten = threading.Event()
    monkeypatch.setattr("raflow.runtime.driver.BEAT_S", 0.01)
    monkeypatch.setattr(Ledger, "beat", lambda _: beaten.set())

    def waits(record: dict[str, Any]) -> dict[str, Any]:
        return {"beaten": beaten.wait(10)}

    records, _ = run(waits, "local", MemorySource([{"n": 1}]))
    assert records == [{"beaten": True}]
