"""Streams: said step by step, run when a result is asked for."""

from __future__ import annotations

import functools
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import raflow
from raflow import Flow, FlowOptions, RunFailed, Stream, consumer
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import InvalidOption, InvalidProcessor, RaflowError, RecordError, SchemaError, SourceError
from raflow.testing import check_source

TRIPS = pa.table(
    {
        "zone": [1, 2, 1, None, 2, 3],
        "fare": [4.0, 0.0, 6.0, 8.0, None, float("nan")],
        "kind": ["a", "b", "a", "c", "b", "a"],
    }
)
LOCAL = {"engine": "local"}


def trips() -> Stream:
    return Flow().read(MemorySource(TRIPS, rows_per_split=2))


def numbers(rows: int, per_split: int = 10) -> Stream:
    return Flow().read(MemorySource(pa.table({"n": range(rows)}), rows_per_split=per_split))


def found(stream: Stream) -> list[dict[str, Any]]:
    return stream.collect(engine="local")


# -- steps ------------------------------------------------------------------------------------------------


def test_a_write_that_is_said_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    stream, memory = numbers(3), MemorySink()
    for folder in ("out", "out/"):
        run = stream.write(ParquetFiles(f"{tmp_path}/{folder}", if_exists="overwrite")).run(engine="local")
        assert run.stats().stages[0].counts.rows_in == 3
        assert pq.read_table(tmp_path / "out").num_rows == 3
    stream.write([ParquetFiles(tmp_path / "out", if_exists="overwrite"), ParquetFiles(tmp_path / "other"), memory])
    stream.write(memory).run(engine="local")
    assert (pq.read_table(tmp_path / "out").num_rows, pq.read_table(tmp_path / "other").num_rows) == (3, 3)
    assert len(memory.records()) == 3


def test_two_streams_of_a_flow_are_not_written_to_one_folder(tmp_path: Path) -> None:
    flow = Flow("reports")
    flow.read(MemorySource(TRIPS)).write(ParquetFiles(tmp_path / "report"))
    message = r"flow 'reports' has another stream that is written to ParquetFiles\('.*report'\)"
    with pytest.raises(InvalidOption, match=message):
        flow.read(MemorySource(TRIPS)).write(ParquetFiles(tmp_path / "report"))
    flow.read(MemorySource(TRIPS)).write(ParquetFiles(tmp_path / "other"))
    assert len(flow.nodes) == 2


def test_each_step_makes_a_new_stream_and_runs_nothing() -> None:
    calls: list[int] = []

    def note(record: dict[str, Any]) -> dict[str, Any]:
        calls.append(record["n"])
        return record

    first = numbers(3)
    second = first.map(note)
    third = second.filter(pc.field("n") > 0)
    assert calls == []
    assert (len(found(first)), len(found(third)), calls) == (3, 2, [0, 1, 2])
    assert repr(third) == "<Stream of raflow-app: MemorySource(3 records) → note → filter (n > 0)>"


def test_record_functions_map_drop_and_flatten() -> None:
    stream = numbers(3)
    assert found(stream.map(lambda r: {"n": r["n"] * 2} if r["n"] else None)) == [{"n": 2}, {"n": 4}]
    assert found(stream.flat_map(lambda r: [r] * r["n"])) == [{"n": 1}, {"n": 2}, {"n": 2}]


def words(record: dict[str, Any]) -> Any:
    if not record["n"]:
        return None
    return ({"word": "x" * (record["n"] // (record["n"] - 2))} for _ in range(record["n"]))


def test_generators_that_a_record_function_returns_flatten() -> None:
    assert found(numbers(3).flat_map(lambda r: ({"n": n} for n in range(r["n"])))) == [{"n": 0}, {"n": 0}, {"n": 1}]
    assert found(numbers(2).flat_map(lambda r: map(dict, [r, r]))) == [{"n": 0}, {"n": 0}, {"n": 1}, {"n": 1}]


async def two(record: dict[str, Any]) -> Any:
    return iter([record, record])


def test_a_coroutine_may_return_a_generator() -> None:
    assert found(numbers(2).flat_map(two)) == [{"n": 0}, {"n": 0}, {"n": 1}, {"n": 1}]


def test_a_returned_generator_that_fails_is_the_failure_of_its_record() -> None:
    kept = numbers(4).flat_map(words, on_error="skip")
    assert found(kept) == [{"word": ""}, *[{"word": "xxx"}] * 3]
    with pytest.raises(RunFailed, match="record 2: ZeroDivisionError"):
        found(numbers(4).flat_map(words))


def test_a_returned_generator_is_tried_again() -> None:
    calls: list[int] = []

    def flaky(record: dict[str, Any]) -> Any:
        calls.append(record["n"])
        return ({"n": 10 // (len(calls) - 1)} for _ in range(2))

    assert found(numbers(1).flat_map(flaky, retry=raflow.Retry(times=1, delay_s=0))) == [{"n": 10}, {"n": 10}]


def scale(record: dict[str, Any], factor: int) -> dict[str, Any]:
    return {"n": record["n"] * factor}


@dataclass
class Scale:
    factor: int
    n: str = "a field, which is no parameter"

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        return {"n": record["n"] * self.factor}


@dataclass
class Number:
    n: int


@dataclass
class Adding:
    record: str

    def __call__(self, record: Number) -> Number:
        return Number(record.n + 1)


class Waiting(Scale):
    async def __call__(self, record: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return {"n": record["n"] * self.factor}


class Repeating(Scale):
    def __call__(self, record: dict[str, Any]) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        yield from [record] * (self.factor - 1)


@pytest.mark.parametrize(
    ("code", "title", "results"),
    [
        (functools.partial(scale, factor=2), "scale", [0, 2]),
        (functools.partial(functools.partial(scale, factor=2), factor=3), "scale", [0, 3]),
        (functools.lru_cache(lambda n: n), "<lambda>", None),
        (Scale(2), "Scale", [0, 2]),
        (Waiting(2), "Waiting", [0, 2]),
        (Repeating(3), "Repeating", [0, 0, 1, 1]),
        (functools.partial(Repeating(3)), "Repeating", [0, 0, 1, 1]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_partials_and_instances_that_can_be_called_are_functions(code: Any, title: str, results: Any) -> None:
    stream = numbers(2).map(code)
    assert repr(stream).endswith(f"→ {title.strip('<>')}>")
    if results is not None:
        assert [row["n"] for row in found(stream)] == results


def test_an_instance_gets_the_record_type_of_its_call() -> None:
    assert found(numbers(2).map(Adding("x"))) == [{"n": 1}, {"n": 2}]
    assert numbers(2).map(functools.partial(Adding("x"))).schema() == pa.schema([("n", pa.int64())])


def test_a_partial_that_cannot_take_the_record_is_refused() -> None:
    with pytest.raises(InvalidProcessor, match="'scale' must take one record or batch"):
        numbers(2).map(functools.partial(scale, record={}))


@dataclass
class Priced:
    price: Decimal


def priced(record: Priced) -> Priced:
    return record


@pytest.mark.parametrize("code", [priced, lambda record: record])
def test_decimals_with_many_places_come_back(code: Any, tmp_path: Path) -> None:
    prices = [Decimal("1.5"), Decimal("2.012345678901234567"), Decimal(3)]
    for number, price in enumerate(prices):
        table = pa.table({"price": pa.array([price], pa.decimal128(38, 18))})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    source = ParquetFiles(str(tmp_path / "*.parquet"))
    assert [row["price"] for row in found(Flow().read(source).map(code))] == prices
    out = ParquetFiles(str(tmp_path / "out"))
    Flow().read(source).map(code).write(out).run(engine="local")
    assert [row["price"] for row in found(Flow().read(ParquetFiles(str(tmp_path / "out"))))] == prices


def test_a_batch_function_gets_a_record_batch_if_it_does_not_say_what() -> None:
    def kinds(batch):  # type: ignore[no-untyped-def]
        return pa.table({"kind": [type(batch).__name__]})

    def frame(batch: pd.DataFrame) -> pd.DataFrame:
        return batch.assign(n=batch["n"] + 1)

    assert found(numbers(3).map_batches(kinds)) == [{"kind": "RecordBatch"}]
    assert found(numbers(3).map_batches(frame)) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_class_keeps_state_per_replica() -> None:
    class Numbered:
        def setup(self) -> None:
            self.seen = 0

        def process(self, batch: pa.RecordBatch) -> pa.Table:
            self.seen += batch.num_rows
            return pa.table({"seen": [self.seen]})

    seen = found(numbers(30).map_batches(Numbered, num_replicas=1, batch_rows=10))
    assert sorted(one["seen"] for one in seen) == [10, 20, 30]


def test_a_filter_keeps_records_as_they_are() -> None:
    table = pa.table({"n": pa.array([1, None, 3], pa.int8()), "t": pa.array([1, 2, 3], pa.timestamp("s"))})

    def per_record(record: dict[str, Any]) -> bool:
        return record["n"] is not None and record["n"] > 1

    def per_batch(batch: pa.RecordBatch) -> pa.Array:
        return pc.greater(batch["n"], 1)

    def per_frame(frame: pd.DataFrame) -> Any:
        return frame["n"] > 1

    for condition in (per_record, per_batch, per_frame, pc.field("n") > 1):
        kept = raflow.from_arrow(table).filter(condition).to_arrow(engine="local")
        assert kept.equals(table.slice(2)), condition


def test_an_async_filter_and_one_that_fails_on_some_records() -> None:
    async def even(record: dict[str, Any]) -> bool:
        return bool(record["n"] % 2 == 0)

    def picky(record: dict[str, Any]) -> bool:
        if record["n"] == 1:
            raise ValueError("no")
        return bool(record["n"] != 2)

    assert [one["n"] for one in found(numbers(5).filter(even))] == [0, 2, 4]
    letters = MemorySink()
    assert [one["n"] for one in found(numbers(4).filter(picky, on_error=letters))] == [0, 3]
    assert [one["processor"] for one in letters.records()] == ["picky"]


def test_a_filter_that_does_not_say_true_or_false_is_told() -> None:
    with pytest.raises(RunFailed, match="a filter must return True or False for a record, not 1") as raised:
        found(numbers(1).filter(lambda r: 1))
    assert isinstance(raised.value.__cause__, RecordError)

    def numbered(batch: pa.RecordBatch) -> list[int]:
        return [1] * batch.num_rows

    with pytest.raises(RunFailed, match="a True or False per record: 1, not 1 of int64"):
        found(numbers(1).filter(numbered))


def test_columns_are_selected_renamed_dropped_and_made() -> None:
    stream = trips().select("fare", "zone").rename({"fare": "price"}).with_columns(twice=pc.field("price") * 2, one=1)
    assert found(stream.drop("price").limit(1)) == [{"zone": 1, "twice": 8.0, "one": 1}]


def test_groups_are_aggregated_and_counted() -> None:
    known = trips().filter(pc.field("zone") != 3)
    groups = found(known.group_by("zone").agg(mean=("fare", "mean"), n=("kind", "count")))
    expected = [{"zone": 1, "mean": 5.0, "n": 2}, {"zone": 2, "mean": 0.0, "n": 2}]
    assert sorted(groups, key=lambda one: one["zone"]) == expected
    assert sorted(found(trips().group_by("kind").count()), key=lambda one: one["kind"]) == [
        {"kind": "a", "count": 3}, {"kind": "b", "count": 2}, {"kind": "c", "count": 1},
    ]  # fmt: skip


def test_sorted_records_come_in_order() -> None:
    stream = numbers(1000).repartition(7)
    down = [one["n"] for one in found(stream.sort("n", descending=True))]
    assert down == list(reversed(range(1000)))
    several = found(trips().select("kind", "zone").sort(["kind", ("zone", "descending")]))
    assert [(one["kind"], one["zone"]) for one in several] == [
        ("a", 3), ("a", 1), ("a", 1), ("b", 2), ("b", 2), ("c", None),
    ]  # fmt: skip
    batches = stream.sort([("n", "ascending")]).with_columns(m=pc.field("n")).limit(1000).iter_batches(engine="local")
    assert [n for batch in batches for n in batch["n"].to_pylist()] == list(range(1000))


def test_distinct_limit_and_sample() -> None:
    assert trips().distinct("kind").count(engine="local") == 3
    assert trips().select("kind", "zone").distinct().count(engine="local") == 4
    assert numbers(100).take(3, engine="local") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert numbers(10).take(0, engine="local") == []
    some = [one["n"] for one in found(numbers(10_000, 1000).sample(0.1, seed=7))]
    assert 800 < len(some) < 1200
    assert some == [one["n"] for one in found(numbers(10_000, 1000).sample(0.1, seed=7))]


def test_groups_are_reduced_and_mapped_by_functions() -> None:
    reduced = found(trips().filter(pc.field("fare") >= 0).reduce_by_key(lambda a, b: a + b, key="kind", value="fare"))
    assert sorted((one["kind"], one["fare"]) for one in reduced) == [("a", 10.0), ("b", 0.0), ("c", 8.0)]

    def first(group: pd.DataFrame) -> pd.DataFrame:
        return group.head(1)[["kind"]]

    firsts = [found(trips().map_groups(first, by="kind")), found(trips().group_by("kind").map_groups(first))]
    assert [sorted(one["kind"] for one in some) for some in firsts] == [["a", "b", "c"]] * 2


def test_streams_are_joined() -> None:
    zones = raflow.from_arrow(pa.table({"id": [1, 2, 9], "kind": ["x", "y", "z"]}))
    joined = trips().join(zones, {"zone": "id"}, suffix="_of_zone").select("zone", "kind", "kind_of_zone")
    assert sorted((one["zone"], one["kind"], one["kind_of_zone"]) for one in found(joined)) == [
        (1, "a", "x"), (1, "a", "x"), (2, "b", "y"), (2, "b", "y"),
    ]  # fmt: skip
    few = trips().select("kind").distinct()
    assert trips().join(few, "kind", how="anti").count(engine="local") == 0
    assert numbers(5).join(numbers(9).filter(pc.field("n") > 2), ["n"]).count(engine="local") == 2
    same = numbers(5)
    assert same.join(same, "n").count(engine="local") == 5


def test_streams_are_united_by_name() -> None:
    left, right = numbers(2), raflow.from_arrow(pa.table({"x": ["a"], "n": [2.5]}))
    united = left.union(right.drop("x"), left)
    assert sorted(one["n"] for one in found(united)) == [0.0, 0.0, 1.0, 1.0, 2.5]
    assert sorted(one["n"] for one in found(united.filter(pc.field("n") > 0))) == [1.0, 1.0, 2.5]
    assert united.count(engine="local") == 5
    assert found(united.group_by().agg(sum=("n", "sum"))) == [{"sum": 4.5}]
    with pytest.raises(SchemaError, match="union: column 'x' is in some of the inputs only"):
        found(left.union(right))
    assert sorted(found(left.union(right).map(lambda r: r)), key=lambda one: one["n"]) == [
        {"n": 0.0, "x": None}, {"n": 1.0, "x": None}, {"n": 2.5, "x": "a"},
    ]  # fmt: skip


def test_a_flow_reads_processors_and_lists_too() -> None:
    flow, kept = Flow(), MemorySink()

    @flow.consumer(source=MemorySource([{"n": 1}]), sink=kept)
    def plus(record: dict[str, Any]) -> dict[str, Any]:
        return {"n": record["n"] + 1}

    stream = flow.read([plus, MemorySource([{"n": 10}])])
    assert sorted(one["n"] for one in found(stream)) == [2, 10]
    assert kept.records() == []
    after = consumer(source=stream, sink=kept, name="after")(lambda record: record)
    flow = Flow()
    flow.add_consumer(after)
    flow.run(engine="local")
    assert sorted(one["n"] for one in kept.records()) == [2, 2, 10]


# -- results ----------------------------------------------------------------------------------------------


def test_several_sinks_each_get_all_records() -> None:
    sinks = [MemorySink(), MemorySink()]
    numbers(3).write(sinks).run(engine="local")
    assert [sink.records() for sink in sinks] == [[{"n": 0}, {"n": 1}, {"n": 2}]] * 2


def test_what_is_written_is_written_when_the_flow_runs(tmp_path: Path) -> None:
    sink = MemorySink()
    stream = numbers(5).filter(pc.field("n") > 1)
    flow = stream.write(ParquetFiles(str(tmp_path / "out")))
    assert stream.map(lambda r: {"n": -r["n"]}).write(sink) is flow
    assert not (tmp_path / "out").exists()
    run = flow.run(engine="local")
    assert pq.read_table(tmp_path / "out")["n"].to_pylist() == [2, 3, 4]
    assert sorted(one["n"] for one in sink.records()) == [-4, -3, -2]
    assert sum(stage.counts.rows_in for stage in run.stats().stages) == 5


def test_results_come_in_the_form_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    stream = numbers(3)
    assert stream.to_arrow(engine="local").equals(pa.table({"n": [0, 1, 2]}))
    assert stream.to_pandas(engine="local").equals(pd.DataFrame({"n": [0, 1, 2]}))
    assert stream.count(engine="local") == 3
    stream.show(2, engine="local")
    shown = capsys.readouterr()
    assert shown.out.split() == ["n", "0", "1"]
    assert shown.err == ""


def test_a_result_without_records_has_its_columns() -> None:
    nothing = trips().filter(pc.field("fare") > 1000)
    assert nothing.to_arrow(engine="local").schema == TRIPS.schema
    assert (nothing.count(engine="local"), nothing.collect(engine="local")) == (0, [])
    assert list(nothing.iter_batches(engine="local")) == []
    assert nothing.map(lambda record: record).count(engine="local") == 0


def test_exchanges_know_the_columns_of_a_source_without_records() -> None:
    nothing = Flow().read(MemorySource(TRIPS.slice(0, 0)))
    joined = nothing.join(numbers(2), {"zone": "n"}, how="right").filter(pc.field("fare").is_null())
    assert found(joined) == [{"zone": n, "fare": None, "kind": None} for n in range(2)]
    least = nothing.group_by().agg(kind=("kind", "min"), zone=("zone", "sum"), n=("fare", "count"))
    assert least.to_arrow(engine="local").schema == least.schema()
    assert found(least) == [{"kind": None, "zone": None, "n": 0}]


def test_schema_and_plan_are_known_without_a_run() -> None:
    stream = trips().with_columns(tip=pc.field("fare") * 2).group_by("zone").agg(tip=("tip", "sum"))
    assert stream.schema() == pa.schema({"zone": pa.int64(), "tip": pa.float64()})
    assert "group by zone" in str(stream.explain())
    page = stream._repr_html_()
    assert "zone: int64" in page
    assert "<svg" in page
    assert trips().map(lambda r: r).schema() is None
    assert "decided by user code" in trips().map(lambda r: r)._repr_html_()
    assert "there is no column" in trips().select("far")._repr_html_()


def test_streams_come_from_frames() -> None:
    frame = pd.DataFrame({"n": [1, 2]}, index=[7, 8])
    assert raflow.from_pandas(frame).to_pandas(engine="local").equals(frame.reset_index(drop=True))
    polars = pytest.importorskip("polars", reason="polars is not installed")
    assert raflow.from_arrow(polars.DataFrame({"n": [1, 2]})).to_polars(engine="local")["n"].to_list() == [1, 2]


def test_batches_come_while_the_run_goes_on() -> None:
    go = threading.Event()

    def wait(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch["n"][0].as_py() > 0:
            assert go.wait(30)
        return batch

    batches = numbers(2, 1).map_batches(wait, num_replicas=1).iter_batches(engine="local")
    assert next(batches)["n"].to_pylist() == [0]
    go.set()
    assert [batch["n"].to_pylist() for batch in batches] == [[1]]


def test_a_slow_taker_holds_the_run_back() -> None:
    units, size, made = 100, 4 << 20, []

    def large(batch: pa.RecordBatch) -> pa.RecordBatch:
        made.append(batch["n"][0].as_py())
        return pa.record_batch({"n": batch["n"], "data": [b"x" * size]})

    taken, most = [], 0
    for batch in numbers(units, 1).map_batches(large, num_replicas=1).iter_batches(engine="local"):
        threading.Event().wait(0.005)  # slower than they are made
        taken.append(batch["n"][0].as_py())
        most = max(most, len(made) - len(taken))
    assert sorted(taken) == list(range(units))
    assert most * size < 150 << 20


def test_closing_the_iterator_stops_the_run_and_leaves_nothing() -> None:
    threads, made = set(threading.enumerate()), []

    def note(batch: pa.RecordBatch) -> pa.RecordBatch:
        made.append(1)
        return pa.record_batch({"data": [b"x" * (4 << 20)]})

    batches = numbers(1000, 1).map_batches(note, num_replicas=1).iter_batches(engine="local")
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(made) < 100
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_unit_that_is_done_again_in_a_wider_schema_is_given_once() -> None:
    def widen(record: dict[str, Any]) -> dict[str, Any]:
        return {"n": record["n"] if record["n"] < 90 else record["n"] + 0.5}

    batches = numbers(100).map(widen, num_replicas=1).iter_batches(engine="local")
    assert sorted(int(n) for batch in batches for n in batch["n"].to_pylist()) == list(range(100))


def test_an_error_of_user_code_ends_the_iterator() -> None:
    def fail(record: dict[str, Any]) -> None:
        raise ValueError("no")

    with pytest.raises(RunFailed, match="ValueError: no"):
        list(numbers(3).map(fail).iter_batches(engine="local"))
    with pytest.raises(RunFailed, match="ValueError: no"):
        found(numbers(3).map(fail))


def test_an_interrupted_run_gives_no_part_for_the_whole() -> None:
    def interrupt(record: dict[str, Any]) -> dict[str, Any]:
        if record["n"] == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return record

    with pytest.raises(KeyboardInterrupt):
        found(numbers(20_000, 1).map(interrupt))


def test_options_of_the_flow_hold_for_its_streams() -> None:
    def fail(record: dict[str, Any]) -> None:
        raise ValueError("no")

    flow = Flow("named", FlowOptions(on_error="skip"))
    assert flow.read(MemorySource([{"n": 1}])).map(fail).collect(engine="local") == []
    assert "named" in repr(flow.read(MemorySource([])))


# -- on Ray -----------------------------------------------------------------------------------------------


@pytest.mark.ray
def test_streams_run_on_ray_and_meet_its_datasets(ray_session: None) -> None:
    ray = pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of ray.data, about itself
        _with_datasets(ray)


def _with_datasets(ray: Any) -> None:
    dataset = ray.data.from_arrow([TRIPS.slice(0, 3), TRIPS.slice(3)])
    stream = raflow.from_ray_dataset(dataset)
    assert stream.schema() == TRIPS.schema
    groups = stream.filter(pc.field("fare") > 0).group_by("kind").agg(n=("fare", "count"))
    assert groups.sort("kind").collect(engine="ray") == [{"kind": "a", "n": 2}, {"kind": "c", "n": 1}]
    back = stream.filter(lambda r: r["kind"] != "b").select("kind").to_ray_dataset()
    assert sorted(one["kind"] for one in back.take_all()) == ["a", "a", "a", "c"]
    batches = numbers(1000, 1).iter_batches(engine="ray")
    assert next(batches).num_rows == 1
    batches.close()  # type: ignore[attr-defined]

    from raflow.engines.ray.dataset import DatasetSource

    kinds = TRIPS.select(["zone", "kind"])
    source, other = (DatasetSource(ray.data.from_arrow([kinds.slice(0, 3), kinds.slice(3)])) for _ in range(2))
    check_source(source, kinds)
    assert source.inputs() != other.inputs()  # so that another process cannot resume with other blocks


# -- bad input --------------------------------------------------------------------------------------------


@dataclass
class Tip:
    tip: float


def wants_int(record: int) -> int:
    return record


def wants_record(record: dict[str, Any]) -> dict[str, Any]:
    return record


def wants_tip(record: Tip) -> bool:
    return record.tip > 0


WRONG: list[tuple[Callable[[Any], Any], type[RaflowError], str]] = [
    (lambda s: s.select("far"), SchemaError, "no column 'far' for select far; there are: zone, fare, kind.*'fare'"),
    (lambda s: s.drop("far"), SchemaError, "no column 'far'"),
    (lambda s: s.rename({"far": "x"}), SchemaError, "no column 'far'"),
    (lambda s: s.rename({"fare": "zone"}), SchemaError, "several columns 'zone'"),
    (lambda s: s.filter(pc.field("far") > 1), SchemaError, "no column 'far'"),
    (lambda s: s.filter(pc.field("fare")), SchemaError, "filter needs a boolean expression"),
    (lambda s: s.filter(pc.field("kind") > 1), SchemaError, "does not fit the columns"),
    (lambda s: s.filter("fare > 1"), InvalidOption, "give an expression"),
    (lambda s: s.filter(pc.field("fare") > 1, num_replicas=2), InvalidOption, "num_replicas cannot be given"),
    (lambda s: s.with_columns(x=pc.field("far")), SchemaError, "no column 'far'"),
    (lambda s: s.select(), InvalidOption, "select"),
    (lambda s: s.group_by("far").agg(m=("fare", "mean")), SchemaError, "no column 'far' for group by far"),
    (lambda s: s.group_by("zone").agg(), InvalidOption, "makes nothing"),
    (lambda s: s.group_by("zone").agg(m="fare"), InvalidOption, "give a column and a function"),
    (lambda s: s.group_by("zone").agg(m=("fare", "men")), InvalidOption, "no aggregation 'men'.*did you mean 'mean'"),
    (lambda s: s.group_by("zone").agg(m=("kind", "mean")), SchemaError, "mean of column 'kind' does not work"),
    (lambda s: s.sort("far"), SchemaError, "no column 'far'"),
    (lambda s: s.sort([("fare", "up")]), InvalidOption, "up"),
    (lambda s: s.sort([]), InvalidOption, "sort"),
    (lambda s: s.distinct("far"), SchemaError, "no column 'far'"),
    (lambda s: s.limit(-1), InvalidOption, "-1"),
    (lambda s: s.take(-1, engine="local"), InvalidOption, "-1"),
    (lambda s: s.sample(1.5), InvalidOption, "fraction is 1.5"),
    (lambda s: s.sample("some"), InvalidOption, "some"),
    (lambda s: s.repartition(0), InvalidOption, "0"),
    (lambda s: s.map_groups(len, by="far"), SchemaError, "no column 'far'"),
    (lambda s: s.reduce_by_key(max, key="far", value="fare"), SchemaError, "no column 'far'"),
    (lambda s: s.reduce_by_key("max", key="zone", value="fare"), RaflowError, "max"),
    (lambda s: s.union(TRIPS), InvalidOption, "is no stream"),
    (lambda s: s.join(TRIPS, "zone"), InvalidOption, "is no stream"),
    (lambda s: s.join(numbers(2), "zone"), SchemaError, "no column 'zone'.*there are: n"),
    (lambda s: s.join(numbers(2), {"kind": "n"}), SchemaError, "kind"),
    (lambda s: s.join(numbers(2), []), InvalidOption, "join"),
    (lambda s: s.join(numbers(2), {"zone": "n"}, how="sideways"), InvalidOption, "how is 'sideways'"),
    (lambda s: s.map("x"), InvalidProcessor, "cannot be a processor"),
    (lambda s: s.map(lambda: 1), InvalidProcessor, "must take one record or batch"),
    (lambda s: s.map(lambda r: r, num_replica=1), InvalidOption, "no option 'num_replica'"),
    (lambda s: s.map_batches(lambda r: r, batch_rows=0), InvalidOption, "batch_rows is 0"),
    (lambda s: s.map(wants_int), InvalidProcessor, "processor 'wants_int': a function cannot get int"),
    (lambda s: s.map_batches(wants_record), InvalidProcessor, "map_batches: wants_record takes one record"),
    (lambda s: s.select("fare").map(wants_tip).collect(engine="local"), SchemaError, "wants_tip: .*no column 'tip'"),
    (lambda s: s.filter(pc.field("fare") > 0).filter(wants_tip), SchemaError, "no column 'tip'"),
    (lambda s: s.select(["fare"]), InvalidOption, r"select: \['fare'\] is no name of a column"),
    (lambda s: s.drop(1), InvalidOption, "drop: 1 is no name"),
    (lambda s: s.rename({"fare": 1}), InvalidOption, "rename: 1 is no name"),
    (lambda s: s.group_by(1), InvalidOption, "group_by: 1 is no name"),
    (lambda s: s.distinct(1), InvalidOption, "distinct: 1 is no name"),
    (lambda s: s.join(s, [1]), InvalidOption, "join: 1 is no name"),
    (lambda s: s.map_groups(len, by=[1]), InvalidOption, "map_groups: 1 is no name"),
    (lambda s: s.with_columns(x=len), InvalidOption, "with_columns: x cannot be <built-in.*give an expression"),
    (lambda s: raflow.from_arrow(3), SourceError, "cannot hold 3; give a table"),
    (lambda s: s.write("out"), InvalidOption, "must be a raflow Sink"),
    (lambda s: s.write([]), InvalidOption, "must be a raflow Sink"),
    (lambda s: s.count(engine="spark"), InvalidOption, "no engine 'spark'"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_is_wrong_is_told_before_data_moves(number: int) -> None:
    moved: list[int] = []
    step, error, message = WRONG[number]

    def note(batch: pa.RecordBatch) -> None:
        moved.append(batch.num_rows)

    with pytest.raises(error, match=message):
        step(trips()).map_batches(note).collect(engine="local")
    assert moved == []


@pytest.mark.parametrize("last", ["count", "sort"])
def test_a_unit_that_gives_nothing_to_one_exchange_gives_all_to_the_next_one(tmp_path: Path, last: str) -> None:
    flow, few, all_of_them = Flow(), MemorySink(), MemorySink()
    records = flow.read(MemorySource(pa.table({"k": range(8), "v": [n // 2 for n in range(8)]}), rows_per_split=2))
    records.filter(pc.field("v") == 2).group_by("k").count().write(few)
    (records.group_by("k").count() if last == "count" else records.sort("k")).write(all_of_them)
    flow.run(engine="local")
    assert sorted(row["k"] for row in few.records()) == [4, 5]
    assert sorted(row["k"] for row in all_of_them.records()) == list(range(8))


def test_what_an_exchange_gave_is_kept_until_no_other_stage_can_widen_what_both_write(tmp_path: Path) -> None:
    flow, grouped = Flow(), threading.Event()

    def late(record: dict[str, Any]) -> dict[str, Any]:
        assert grouped.wait(30)
        return {"k": record["k"], "n": 0.5}

    class Watched(ParquetFiles):
        def commit(self, parts: Any) -> None:
            super().commit(parts)
            grouped.set()

    counted = flow.read(MemorySource([{"k": n % 3, "x": n} for n in range(9)])).group_by("k").agg(n=("x", "sum"))
    others = flow.read(MemorySource([{"k": 7}])).map(late, num_replicas=2)
    counted.union(others).write(Watched(tmp_path / "out"))
    flow.run(engine="local")
    written = sorted(Flow().read(ParquetFiles(tmp_path / "out")).collect(engine="local"), key=lambda row: row["k"])
    assert written == [{"k": 0, "n": 9.0}, {"k": 1, "n": 12.0}, {"k": 2, "n": 15.0}, {"k": 7, "n": 0.5}]


@pytest.mark.parametrize("own", [{}, {"num_replicas": 1, "fuse": False}], ids=["one stage", "two stages"])
def test_take_ends_the_unit_under_way_as_soon_as_it_has_enough(own: dict[str, Any]) -> None:
    calls: list[int] = []

    def note(record: dict[str, Any]) -> dict[str, Any]:
        calls.append(record["n"])
        return record

    stream = numbers(400_000, per_split=100_000).map(lambda record: record, name="same", **own)
    assert stream.map(note, name="note", **own).take(3, engine="local") == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len(calls) < 50_000
