"""Side outputs of consumers: rows go the way of the results, once each."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raflow import Flow, Scope, dependency
from raflow.connectors.files import JsonLinesFiles, ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.dependencies import SideOutput, SinkDependency
from raflow.errors import InvalidDependency, InvalidOption, RunFailed

audits = SinkDependency(MemorySink())
Audit = Annotated[SideOutput, audits]


@dataclass
class Note:
    of: int
    text: str


@dependency(scope=Scope.REPLICA)
class Auditor:
    def __init__(self, audit: Audit) -> None:
        self.audit = audit

    def note(self, of: int) -> None:
        self.audit.put(Note(of, "by the auditor"))


def numbers(count: int, rows: int = 100) -> MemorySource:
    return MemorySource([{"n": n} for n in range(count)], rows_per_split=rows)


def moved(code: Any, side: MemorySink, engine: str = "local", count: int = 10, **options: Any) -> list[dict[str, Any]]:
    """Runs a consumer, and returns its results."""
    app, sink = Flow("sides"), MemorySink()
    app.consumer(source=numbers(count), sink=sink, **options)(code)
    app.run(engine=engine)
    return sink.records()


def ofs(side: MemorySink) -> list[int]:
    return sorted(row["of"] for row in side.records())


@pytest.fixture
def side() -> MemorySink:
    return MemorySink()


def test_what_is_pushed_comes_to_its_sink_and_not_among_the_results(engine: str, side: MemorySink) -> None:
    output = SinkDependency(side)

    def halve(record: dict[str, Any], odd: Annotated[SideOutput, output]) -> dict[str, Any] | None:
        if record["n"] % 2:
            odd.put({"of": record["n"]})
            return None
        return {"half": record["n"] // 2}

    found = moved(halve, side, engine, count=1000, num_replicas=2)
    assert sorted(row["half"] for row in found) == list(range(500))
    assert ofs(side) == list(range(1, 1000, 2))


def test_asynchronous_functions_and_generators_push_as_well(side: MemorySink) -> None:
    output = SinkDependency(side)

    async def one(record: dict[str, Any], side: Annotated[SideOutput, output]) -> dict[str, Any]:
        await asyncio.sleep(0)
        await asyncio.gather(side.push({"of": record["n"]}), asyncio.sleep(0))
        return record

    async def several(record: dict[str, Any], side: Annotated[SideOutput, output]) -> AsyncIterator[dict[str, Any]]:
        yield record
        await side.push_batch([{"of": record["n"]}])

    def each(record: dict[str, Any], side: Annotated[SideOutput, output]) -> Iterator[dict[str, Any]]:
        yield record
        side.put({"of": record["n"]})

    for code in (one, several, each):
        side.__init__()  # type: ignore[misc]
        assert len(moved(code, side)) == 10
        assert ofs(side) == list(range(10))


def test_what_a_failing_call_has_pushed_is_dropped(engine: str, side: MemorySink) -> None:
    output = SinkDependency(side)

    def fails(record: dict[str, Any], side: Annotated[SideOutput, output]) -> dict[str, Any]:
        side.put({"of": record["n"]})
        if record["n"] == 7:
            raise ValueError(record)
        return record

    assert len(moved(fails, side, engine, on_error="skip")) == 9
    assert ofs(side) == [n for n in range(10) if n != 7]
    side.__init__()  # type: ignore[misc]
    with pytest.raises(RunFailed):
        moved(fails, side, engine)
    assert side.table().num_rows == 0


def test_calls_that_are_tried_again_push_once(side: MemorySink) -> None:
    output = SinkDependency(side)
    tried: set[int] = set()

    async def flaky(record: dict[str, Any], side: Annotated[SideOutput, output]) -> dict[str, Any]:
        await side.push({"of": record["n"]})
        if record["n"] not in tried:
            tried.add(record["n"])
            raise ConnectionError
        return record

    moved(flaky, side, retry={"times": 1, "delay_s": 0.0})
    assert ofs(side) == list(range(10))


def test_batches_that_are_halved_push_for_the_good_records_once(side: MemorySink) -> None:
    output = SinkDependency(side)

    def whole(table: pa.Table, side: Annotated[SideOutput, output]) -> Any:
        ns = table["n"].to_pylist()
        side.put(*({"of": n} for n in ns))
        return pa.Table.from_arrays([table["n"], table["n"]], ["n", "n"]) if 7 in ns else table

    assert len(moved(whole, side, on_error="skip")) == 9
    assert ofs(side) == [n for n in range(10) if n != 7]


def test_a_dependency_may_hold_one_and_shares_it_with_the_function(engine: str) -> None:
    sink = audits.sink
    assert isinstance(sink, MemorySink)
    sink.__init__()  # type: ignore[misc]

    def noted(record: dict[str, Any], audit: Audit, auditor: Auditor) -> dict[str, Any]:
        auditor.note(record["n"])
        audit.put(Note(record["n"], "by the function"))
        return record

    app = Flow()
    app.consumer(source=numbers(2), name="noted", num_replicas=1)(noted)
    assert [op.name for op in app.plan().ops() if op.all_sinks] == ["noted.side"]
    assert "● side output" in str(app.plan())
    app.run(engine=engine)
    assert [(row["of"], row["text"]) for row in sink.records()] == [
        (0, "by the auditor"), (0, "by the function"), (1, "by the auditor"), (1, "by the function"),
    ]  # fmt: skip


def test_two_outputs_of_a_later_stage_are_kept_apart(engine: str, side: MemorySink) -> None:
    left, right = SinkDependency(side), SinkDependency(MemorySink())
    app = Flow("sides")

    def same(record: dict[str, Any]) -> dict[str, Any]:
        return record

    def parted(record: dict[str, Any], odd: Annotated[SideOutput, left], even: Annotated[SideOutput, right]) -> None:
        (odd if record["n"] % 2 else even).put({"of": record["n"]})

    first = app.consumer(source=numbers(100), num_replicas=1)(same)
    app.consumer(source=first, num_replicas=2)(parted)
    app.run(engine=engine)
    assert isinstance(right.sink, MemorySink)
    assert (ofs(side), ofs(right.sink)) == (list(range(1, 100, 2)), list(range(0, 100, 2)))


def test_all_that_a_run_pushes_has_one_schema(engine: str, tmp_path: Path) -> None:
    output = SinkDependency(ParquetFiles(tmp_path / "side"))

    def widening(record: dict[str, Any], side: Annotated[SideOutput, output]) -> None:
        n = record["n"]
        side.put({"of": n, "value": None if n < 100 else n if n < 200 else n / 2})

    app = Flow("sides")
    app.consumer(source=numbers(300), num_replicas=2)(widening)
    app.run(engine=engine)
    files = sorted((tmp_path / "side").glob("*.parquet"))
    assert len(files) == 3
    assert {str(pq.read_schema(file).field("value").type) for file in files} == {"double"}
    assert sorted(pq.read_table(tmp_path / "side")["of"].to_pylist()) == list(range(300))


def test_a_record_that_does_not_fit_the_output_is_an_error_of_the_consumer(side: MemorySink) -> None:
    output, letters = SinkDependency(side), MemorySink()

    def mixed(record: dict[str, Any], side: Annotated[SideOutput, output]) -> None:
        side.put({"of": record["n"], "value": "text" if record["n"] == 3 else 1})

    moved(mixed, side, on_error=letters)
    assert ofs(side) == [n for n in range(10) if n != 3]
    assert [row["error_type"] for row in letters.records()] == ["RecordError"]


def test_a_resumed_run_has_each_row_of_a_side_output_once(tmp_path: Path) -> None:
    output, broken = SinkDependency(JsonLinesFiles(tmp_path / "side")), threading.Event()
    broken.set()

    def noted(record: dict[str, Any], side: Annotated[SideOutput, output]) -> dict[str, Any]:
        side.put({"of": record["n"]})
        if record["n"] == 250 and broken.is_set():
            raise ValueError(record)
        return record

    app = Flow("sides")
    app.consumer(source=numbers(300), sink=JsonLinesFiles(tmp_path / "out"), num_replicas=1)(noted)
    with pytest.raises(RunFailed):
        app.run(engine="local")
    broken.clear()
    app.run(engine="local", resume="last")
    for folder in ("side", "out"):
        lines = [line for file in (tmp_path / folder).glob("*.jsonl") for line in file.read_text().splitlines()]
        assert len(lines) == len(set(lines)) == 300


@pytest.mark.usefixtures("ray_session")
def test_a_replica_that_dies_leaves_each_row_of_a_side_output_once(tmp_path: Path) -> None:
    output, died = SinkDependency(JsonLinesFiles(tmp_path / "side")), tmp_path / "died"

    def noted(record: dict[str, Any], side: Annotated[SideOutput, output]) -> None:
        side.put({"of": record["n"]})
        if record["n"] == 250 and not died.exists():
            died.touch()
            os._exit(1)

    app = Flow("sides")
    app.consumer(source=numbers(300), num_replicas=1)(noted)
    stats = app.run(engine="ray").stats()
    assert (died.exists(), stats.stages[0].replicas_lost) == (True, 1)
    lines = [line for file in (tmp_path / "side").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 300


def test_a_dry_run_writes_none(side: MemorySink) -> None:
    output = SinkDependency(side)
    app, sink = Flow("sides"), MemorySink()

    @app.consumer(source=numbers(10), sink=sink)
    def noted(record: dict[str, Any], side: Annotated[SideOutput, output]) -> dict[str, Any]:
        side.put({"of": record["n"]})
        return record

    run = app.run(engine="local", limit=3)
    assert [row["n"] for row in run.preview()] == [0, 1, 2]
    assert side.table().num_rows == 0


def test_pushing_outside_of_a_call_is_told(side: MemorySink) -> None:
    output = SinkDependency(side)

    def threaded(record: dict[str, Any], side: Annotated[SideOutput, output]) -> None:
        caught: list[BaseException] = []

        def push() -> None:
            try:
                side.put(record)
            except InvalidDependency as error:
                caught.append(error)

        thread = threading.Thread(target=push)
        thread.start()
        thread.join()
        raise caught[0]

    with pytest.raises(RunFailed, match="while its function is called"):
        moved(threaded, side)


def test_what_is_no_sink_is_told_at_once() -> None:
    with pytest.raises(InvalidOption, match="takes a raflow Sink"):
        SinkDependency("audit/")  # type: ignore[arg-type]
