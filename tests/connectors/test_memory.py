from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySink, MemorySource, PrintSink
from raflow.errors import SourceError
from raflow.testing import check_sink, check_source

TABLE = pa.table({"n": [1, 2, 3], "text": ["a", "b", None]})


@dataclass
class Row:
    n: int
    text: str | None


@pytest.mark.parametrize(
    "data",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_pylist(),
        [Row(1, "a"), Row(2, "b"), Row(3, None)],
        pl.from_arrow(TABLE),
    ],
)
def test_any_table_or_list_of_records_is_a_source(data: object) -> None:
    source = MemorySource(data, rows_per_split=2)
    assert source.schema().names == ["n", "text"]
    assert [split.rows for split in source.splits()] == [2, 1]
    check_source(source, TABLE.cast(source.schema()))


def test_a_pandas_frame_is_a_source_without_its_index() -> None:
    frame = pd.DataFrame({"n": [1, 2]}, index=[7, 8])
    assert MemorySource(frame).schema().names == ["n"]


class Trips(pd.DataFrame):
    """A frame of a user's own class."""


class Fares(pl.DataFrame):
    """Another one."""


@pytest.mark.parametrize("kind", [Trips, Fares])
def test_a_frame_of_a_subclass_is_a_frame(kind: type) -> None:
    assert MemorySource(kind({"n": [1, 2], "m": [3, 4]})).table().to_pydict() == {"n": [1, 2], "m": [3, 4]}


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ({"n": [1, 2, 3]}, r"cannot hold {'n': \[1, 2, 3\]}.*pa\.table\(\.\.\.\) makes a table of columns"),
        ("data.csv", "cannot hold 'data.csv'.*files are read by CsvFiles, JsonlFiles or ParquetFiles"),
        (b"data", "cannot hold b'data'; give a table, a data frame or a list of records$"),
        (7, "cannot hold 7; give a table, a data frame or a list of records$"),
    ],
    ids=["dict", "text", "bytes", "number"],
)
def test_what_holds_no_records_is_refused_with_what_to_give(data: object, hint: str) -> None:
    with pytest.raises(SourceError, match=hint):
        MemorySource(data)


def test_records_that_do_not_fit_one_schema_are_refused() -> None:
    with pytest.raises(SourceError, match="record 1.*'n'"):
        MemorySource([{"n": 1}, {"n": "x"}])


def test_an_empty_list_is_an_empty_source(engine: str) -> None:
    flow, sink = Flow(), MemorySink()
    flow.consumer(source=MemorySource([]), sink=sink, name="p")(lambda record: record)
    flow.run(engine=engine)
    assert sink.records() == []


def test_a_memory_sink_keeps_the_contract() -> None:
    sink = MemorySink()
    check_sink(sink, lambda: sink.table().num_rows)


def test_a_print_sink_prints_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    flow = Flow()
    flow.consumer(source=MemorySource(TABLE), sink=PrintSink(), name="p")(lambda record: record)
    flow.run(engine="local")
    assert capsys.readouterr().out.splitlines() == [
        '{"n": 1, "text": "a"}',
        '{"n": 2, "text": "b"}',
        '{"n": 3, "text": null}',
    ]
