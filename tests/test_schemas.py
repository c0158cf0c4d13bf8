"""Which columns are known before a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raflow import Flow
from raflow.code import Code
from raflow.connectors.files import CsvFiles, JsonLinesFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import SchemaError
from raflow.nodes import Node
from raflow.operators.contract import Narrow, Place
from raflow.schemas import schema_of


@dataclass(frozen=True)
class Column(Narrow):
    """Keeps one column."""

    name: str

    @property
    def label(self) -> str:
        return f"column {self.name}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        if self.name not in given.names:
            msg = f"there is no column {self.name!r}; there are: {', '.join(given.names)}"
            raise SchemaError(msg)
        return pa.schema([given.field(self.name)])

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        del place
        return batch.select([self.name])


class Counting(MemorySource):
    """Counts how often it is asked."""

    asked = 0

    def schema(self) -> pa.Schema:
        self.asked += 1
        return super().schema()


@dataclass
class Trip:
    zone: int
    fare: float


def typed(record: dict) -> Trip:  # type: ignore[type-arg]
    return Trip(1, 2.0)


def untyped(record):  # type: ignore[no-untyped-def]
    return record


def source(**columns: list[object]) -> Node:
    return Node(MemorySource(pa.table(columns)))


def test_columns_are_known_through_operators_and_annotated_code() -> None:
    first = source(a=[1], b=["x"])
    assert schema_of(first) == pa.schema({"a": pa.int64(), "b": pa.string()})
    assert schema_of(Node(Column("b"), (first,))) == pa.schema({"b": pa.string()})
    made = schema_of(Node(Code(typed), (first,)))
    assert made is not None
    assert made.names == ["zone", "fare"]


def test_code_without_annotation_ends_what_is_known() -> None:
    first = source(a=[1])
    assert schema_of(Node(Code(untyped), (first,))) is None
    assert schema_of(Node(Column("a"), (Node(Code(untyped), (first,)),))) is None
    assert schema_of(Node(Column("a"), (first, Node(Code(untyped), (first,))))) is None


def test_several_inputs_are_a_union() -> None:
    assert schema_of(Node(Column("a"), (source(a=[1]), source(a=[1.5], b=[1])))) == pa.schema({"a": pa.float64()})
    with pytest.raises(SchemaError, match="column a: field 'a' is string here but int64 in another input"):
        schema_of(Node(Column("a"), (source(a=[1]), source(a=["x"]))))


def test_a_column_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(SchemaError, match="column c: there is no column 'c'; there are: a, b"):
        schema_of(Node(Column("c"), (source(a=[1], b=[2]),)))


def test_a_run_checks_before_data_moves_and_reads_each_schema_once() -> None:
    flow, records, sink = Flow(), Counting([{"a": 1}]), MemorySink()
    first = Node(records)
    flow.add_stream(Node(Column("a"), (first,), (sink,)))
    flow.run(engine="local")
    assert (records.asked, sink.records()) == (1, [{"a": 1}])
    flow.add_stream(Node(Column("far"), (Node(Column("a"), (first,)),), (MemorySink(),)))
    with pytest.raises(SchemaError, match="column far: there is no column 'far'; there are: a"):
        flow.run(engine="local")


@dataclass
class Loose:
    zone: int
    value: object = None


def loose(record: dict) -> Loose:  # type: ignore[type-arg]
    return Loose(1, "text")


def test_an_annotation_that_leaves_a_type_open_decides_nothing() -> None:
    stream = Flow().read(MemorySource([{"zone": 1}])).map(loose)
    assert stream.schema() is None
    assert stream.filter(pc.starts_with(pc.field("value"), "t")).count(engine="local") == 1


@dataclass
class Day:
    day: date


def year_of(record: Day) -> dict:  # type: ignore[type-arg]
    return {"year": record.day.year}


def test_a_record_that_the_columns_cannot_be_is_an_error_before_the_run() -> None:
    stream = Flow().read(MemorySource([{"zone": 1, "day": "x"}])).select("zone").map(year_of)
    with pytest.raises(SchemaError, match="year_of: there is no column 'day'.*The columns are: zone"):
        stream.schema()


def test_records_decide_the_types_of_texts(tmp_path: Path) -> None:
    (tmp_path / "days.csv").write_text("day\n2026-01-02\n")
    days = Flow().read(CsvFiles(str(tmp_path / "days.csv")))
    assert days.map(year_of).schema() is None
    assert days.map(year_of).collect(engine="local") == [{"year": 2026}]


@dataclass
class Opened:
    at: datetime
    by: str


@dataclass
class Closed:
    at: datetime
    why: str | None = None


@dataclass
class OfOpened:
    it: Opened


@dataclass
class OfClosed:
    it: Closed


def by(record: OfOpened) -> dict:  # type: ignore[type-arg]
    return {"by": record.it.by, "at": record.it.at}


def why(record: OfClosed) -> dict:  # type: ignore[type-arg]
    return {"why": record.it.why, "at": record.it.at}


def test_two_record_types_of_one_source_get_what_each_wants(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"it": {"at": "2026-01-02T03:04:05Z", "by": "me", "why": "done"}}\n')
    flow, sinks = Flow(), [MemorySink(), MemorySink()]
    records = flow.read(JsonLinesFiles(tmp_path))
    records.map(by).write(sinks[0])
    records.map(why).write(sinks[1])
    flow.run(engine="local")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert [sink.records() for sink in sinks] == [[{"by": "me", "at": at}], [{"why": "done", "at": at}]]


@dataclass
class Moment:
    at: datetime


def moment(record: Moment) -> Moment:
    return record


@pytest.mark.parametrize(
    ("texts", "good"),
    [
        (["2026-01-02T03:04:05Z", "soon", "2026-01-02T03:04:05.5+01:00", "2026-01-02"], 2),
        (["2026-01-02T03:04:05", "soon", "2026-01-02", "2026-01-02T03:04:05Z"], 2),
        (["soon", "2026-01-02T03:04:05Z"], 1),
    ],
)
@pytest.mark.parametrize("kind", [CsvFiles, JsonLinesFiles])
def test_most_timestamps_decide_whether_they_have_a_zone(
    tmp_path: Path, kind: Any, texts: list[str], good: int
) -> None:
    is_csv = kind is CsvFiles
    lines = ["at", *texts] if is_csv else [json.dumps({"at": text}) for text in texts]
    (tmp_path / "a").write_text("\n".join(lines))
    found = Flow().read(kind(tmp_path)).map(moment, on_error="skip").collect(engine="local")
    assert len(found) == good
    has_zone = "Z" in texts[0] or texts[0] == "soon"
    assert all((row["at"].tzinfo is not None) is has_zone for row in found)
