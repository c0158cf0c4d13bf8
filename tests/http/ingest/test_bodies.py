"""Whatever a body is, it is records, or a reply that says what is wrong."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from raflow.batch import to_ipc
from raflow.convert import shape_of
from raflow.http.ingest.arrow_bounds import claim_of
from raflow.http.ingest.bodies import ARROW, JSON, LINES, Brought, Reader
from tests.arrow_months import STREAM


@dataclass
class Event:
    name: str
    at: datetime
    value: float | None = None


class Model(BaseModel):
    n: int
    tags: list[str] = []


@dataclass
class Text:
    a: str


MOST, RECORDS = 1 << 20, 1 << 18
KINDS: list[Any] = [dict, Event, Model, list[Event], list[dict[str, Any]], pa.RecordBatch, pa.Table, str, bytes]
READERS = [Reader(shape_of(kind), MOST, RECORDS) for kind in KINDS]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def read(reader: Reader, body: bytes, media_type: str, path: dict[str, str] | None = None) -> Brought | None:
    """What was brought, each record of it in its place once; None if the whole was refused."""
    refused = None
    try:
        brought = reader.body(body, media_type, path or {})
    except HTTPException as error:
        refused = error
    if refused:
        assert (refused.status_code in (400, 413, 415, 422), bool(refused.detail)) == (True, True)
        return None
    places = [*brought.rows, *brought.problems]
    assert sorted(places) == list(range(brought.total))
    assert all(problem.message and problem.status in (400, 422) for problem in brought.problems.values())
    return brought


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([JSON, LINES, ARROW, "", "text/plain"]))
def test_any_bytes_are_answered(body: bytes, media_type: str) -> None:
    for reader in READERS:
        read(reader, body, media_type)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans())
def test_any_json_is_answered(value: Any, has_path: bool) -> None:
    text = json.dumps(value).encode("utf-8", "replace")
    for reader in READERS:
        read(reader, text, JSON, {"n": "1"} if has_path else None)
        read(reader, text + b"\n" + text, LINES, {"n": "1"} if has_path else None)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_any_changed_byte_of_an_arrow_stream_is_answered(place: int, byte: int) -> None:
    table = pa.table({"name": ["a", "b"], "n": [1, 2], "at": [datetime(2026, 1, 1)] * 2, "tags": [["x"], []]})
    body = bytearray(to_ipc(table.to_batches(), table.schema).to_pybytes())
    body[place % len(body)] = byte
    for reader in READERS:
        read(reader, bytes(body), ARROW)


@pytest.mark.parametrize("kind", [dict, Model, pa.Table])
def test_columns_of_which_arrow_has_no_python_values_are_refused(kind: Any) -> None:
    with pytest.raises(HTTPException, match="not read: 'm' .month_interval.") as raised:
        Reader(shape_of(kind), MOST, RECORDS).body(STREAM, ARROW, {})
    assert raised.value.status_code == 422


@pytest.mark.parametrize("kind", [dict, Model, pa.Table])
def test_names_that_come_several_times_are_lists(kind: Any) -> None:
    brought = Reader(shape_of(kind), MOST, RECORDS).fields({"n": "1"}, [("tags", "x"), ("tags", "y"), ("n", "lost")])
    assert (brought.total, list(brought.rows), brought.is_bulk) == (1, [0], False)
    found = brought.values.to_pylist() if kind is pa.Table else brought.values
    assert found in ([{"n": "1", "tags": ["x", "y"]}], [Model(n=1, tags=["x", "y"])])


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch, list[dict[str, Any]]])
@pytest.mark.parametrize("line", [b"null", b"{}null", b'{"a": 1} 2', b"[]", b"7", b'"x"', b'{"a": [null, 1]}'])
def test_lines_that_arrows_parser_is_not_made_for_are_read_or_refused(kind: Any, line: bytes) -> None:
    brought = read(Reader(shape_of(kind), MOST, RECORDS), line + b'\n{"n": 1}', LINES)
    assert brought
    assert brought.total == 2
    assert brought.rows == ([0, 1] if b"[null" in line else [1])


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch, list[dict[str, Any]]])
def test_lines_that_are_nested_very_deep_are_refused(kind: Any) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b'\n{"n": 1}'
    brought = read(Reader(shape_of(kind), MOST, RECORDS), deep, LINES)
    assert brought
    assert (brought.rows, list(brought.problems)) == ([1], [0])


def test_blank_lines_are_no_records() -> None:
    brought = read(READERS[0], b'\r\n{"n": 1}\r\n\n{"n": 2}', LINES)
    assert brought
    assert brought.values == [{"n": 1}, {"n": 2}]


def test_every_wrong_field_is_named() -> None:
    brought = read(READERS[2], b'{"n": "x", "tags": [1]}', JSON)
    assert brought
    assert [one["loc"] for one in brought.problems[0].detail] == [["body", "n"], ["body", "tags", 0]]
    assert "field 'n'" in brought.problems[0].message
    assert "field 'tags.0'" in brought.problems[0].message


@pytest.mark.parametrize("kind", [dict, Text, list[Text], pd.DataFrame, pl.DataFrame])
def test_runs_are_read_as_the_values_that_they_stand_for(kind: Any) -> None:
    brought = Reader(shape_of(kind), MOST, RECORDS).body(stream(pa.table({"a": runs(2, pa.array(["x"]))})), ARROW, {})
    found = brought.values
    if not isinstance(found, list):
        found = found.to_dict("records") if kind is pd.DataFrame else found.to_dicts()
    assert [one.a if isinstance(one, Text) else one["a"] for one in found] == ["x", "x"]


@pytest.mark.parametrize("kind", [dict, Text, list[Text], pd.DataFrame, pl.DataFrame])
def test_columns_of_which_there_are_no_records_are_refused(kind: Any) -> None:
    texts = pa.array(["x"])
    union, few_runs = unions(1, texts), runs(1, texts.dictionary_encode())
    for column in (union, lists(union), lists(runs(1, texts)), few_runs):
        with pytest.raises(HTTPException, match=r"no records can be made of these columns: 'a' \(") as raised:
            Reader(shape_of(kind), MOST, RECORDS).body(stream(pa.table({"a": column})), ARROW, {})
        assert raised.value.status_code == 422


def test_a_column_for_which_the_record_type_does_not_ask_may_be_of_any_type() -> None:
    body = stream(pa.table({"a": ["x"], "b": unions(1, pa.array([1]))}))
    assert Reader(shape_of(Text), MOST, RECORDS).body(body, ARROW, {}).values == [Text("x")]


def test_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    body = to_ipc(table.to_batches(), table.schema).to_pybytes()
    assert [read(reader, body, ARROW) for reader in READERS] == [None] * len(READERS)


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("more", [stream(pa.table({"n": [2]})), b"\0" * 8, b"x"], ids=["stream", "zeros", "byte"])
def test_bytes_after_the_end_of_a_stream_are_not_acknowledged(more: bytes) -> None:
    first = stream(pa.table({"n": [1]}))
    assert READERS[0].body(first, ARROW, {}).total == READERS[0].body(first[:-8], ARROW, {}).total == 1
    assert refusal(first + more) == (400, "malformed Arrow stream: bytes follow the end of the stream")


def refusal(body: bytes, path: dict[str, str] | None = None) -> tuple[int, str]:
    with pytest.raises(HTTPException) as refused:
        READERS[0].body(body, ARROW, path or {})
    return refused.value.status_code, refused.value.detail


def test_records_that_take_no_bytes_are_bounded() -> None:
    body = stream(pa.table({"n": pa.nulls(10**9)}))
    assert len(body) < 300
    assert refusal(body) == (
        413, "the body holds 1,000,000,000 records; at most 262,144 are taken at once; send it in several requests",
    )  # fmt: skip
    two = pa.Table.from_batches([pa.record_batch({"n": pa.nulls(RECORDS)}), pa.record_batch({"n": pa.nulls(1)})])
    assert refusal(stream(two))[0] == 413


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("is_dictionary", [False, True])
def test_what_is_larger_than_it_looks_is_refused_before_it_is_unpacked(compression: str, is_dictionary: bool) -> None:
    values = pa.array(["x" * 5_000_000])
    body = stream(pa.table({"text": values.dictionary_encode() if is_dictionary else values}), compression)
    assert len(body) < 100_000
    status, detail = refusal(body)
    assert (status, "when it is not compressed; at most 4,194,304 are taken" in detail) == (413, True)


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_streams_within_the_bounds_are_read(compression: str | None) -> None:
    table = pa.table(
        {"n": [1, None, 3], "text": ["a", "b", "x" * 10_000], "few": pa.array(["a", "b", "a"]).dictionary_encode()}
    )
    brought = read(READERS[0], stream(table, compression), ARROW)
    assert brought
    assert brought.values == table.to_pylist()
    assert claim_of(stream(table, compression)).rows == 3


def test_parameters_of_the_path_are_not_repeated_without_bounds() -> None:
    body = stream(pa.table({"n": pa.nulls(RECORDS)}))
    status, detail = refusal(body, {"name": "x" * 17})
    assert (status, "17 characters, are too long for 262,144 records" in detail) == (413, True)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_as_many_as_records_may_be(kind: Any) -> None:
    reader = Reader(shape_of(kind), MOST, 3)
    line = b'{"name": "a", "at": "2026-01-01T00:00:00", "n": 1}\n'
    brought = read(reader, b"\n\r\n" + line * 3 + b"\n \n", LINES)
    assert brought
    assert brought.total == 3
    with pytest.raises(HTTPException, match="the body holds 4 records; at most 3 are taken at once") as raised:
        reader.body(line * 4, LINES, {})
    assert raised.value.status_code == 413


@pytest.mark.parametrize("media_type", [JSON, LINES])
def test_records_of_a_byte_each_are_bounded_before_they_are_refused_one_by_one(media_type: str) -> None:
    reader = Reader(shape_of(dict), MOST, 1_000)
    most, more = ([b"1"] * count for count in (1_000, 1_001))
    made = (lambda some: b"[" + b",".join(some) + b"]") if media_type == JSON else b"\n".join
    brought = read(reader, made(most), media_type)
    assert brought
    assert len(brought.problems) == 1_000
    assert not any(problem.detail for problem in brought.problems.values())
    with pytest.raises(HTTPException, match="the body holds 1,001 records; at most 1,000 are taken at once") as raised:
        reader.body(made(more), media_type, {})
    assert raised.value.status_code == 413


def repeated(count: int, text: str, kind: pa.DataType | None = None) -> pa.Array:
    """Views of one and the same text, so many times."""
    view = struct.pack("<i4sii", len(text), text[:4].encode(), 0, 0)
    return pa.Array.from_buffers(
        kind or pa.string_view(), count, [None, pa.py_buffer(view * count), pa.py_buffer(text.encode())]
    )


def few(count: int, values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int8()), values)


def runs(count: int, values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), values)


def views(count: int, values: pa.Array) -> pa.Array:
    sizes = pa.array([len(values)] * count, pa.int32())
    return pa.ListViewArray.from_arrays(pa.array([0] * count, pa.int32()), sizes, values)


def unions(count: int, values: pa.Array) -> pa.Array:
    return pa.UnionArray.from_dense(pa.array([0] * count, pa.int8()), pa.array([0] * count, pa.int32()), [values])


def lists(values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


LONG, NULLS = pa.array(["x" * 10_000]), pa.nulls(2**31 - 1)


@pytest.mark.parametrize(
    "column",
    [
        few(1_000, LONG),
        runs(1_000, LONG),
        views(1_000, LONG),
        views(1_000, pa.array([1] * 10_000, pa.int8())),
        views(1_000, lists(pa.nulls(10_000))),
        views(1_000, views(1_000, pa.array([1] * 1_000, pa.int8()))),
        unions(1_000, LONG),
        repeated(1_000, "x" * 10_000),
        repeated(1_000, "x" * 10_000, pa.binary_view()),
        few(1_000, lists(pa.array(["x"] * 10_000))),
        few(1_000, pa.StructArray.from_arrays([LONG], ["a"])),
        few(1_000, pa.array([[("x" * 10_000, 1)]], pa.map_(pa.string(), pa.int8()))),
        pa.StructArray.from_arrays([few(1_000, LONG)], ["a"]),
        lists(few(1_000, LONG)),
        lists(NULLS),
        lists(lists(NULLS)),
        lists(pa.nulls(2_000_000)),
        lists(runs(2**31 - 1, pa.array([1]))),
        pa.FixedSizeListArray.from_arrays(pa.nulls(2_000_000), 2_000_000),
    ],
    ids=lambda column: str(column.type),
)
def test_what_stands_for_far_more_than_its_bytes_is_refused(column: pa.Array) -> None:
    body = stream(pa.table({"a": column}))
    assert len(body) < 200_000
    status, detail = refusal(body)
    assert (status, "4,194,304" in detail) == (413, True)


def test_nested_records_that_take_no_bytes_are_bounded() -> None:
    column = pa.nulls(RECORDS)
    for _ in range(8):
        column = pa.StructArray.from_arrays([column], ["a"])
    assert "when each value is written out" in refusal(stream(pa.table({"a": column})))[1]


def test_buffers_that_overlap_count_each() -> None:
    size = 800_000
    for count, is_read in ((2, True), (6, False)):
        body = stream(pa.table({str(column): pa.array([0] * (size // 8)) for column in range(count)}))
        for column in range(1, count):
            for length in (0, size):
                body = body.replace(struct.pack("<qq", column * size, length), struct.pack("<qq", 0, length), 1)
        body = body.replace(struct.pack("<q", count * size), struct.pack("<q", size), 1)
        body = body[: -8 - (count - 1) * size] + body[-8:]
        assert len(body) < MOST
        assert pa.ipc.open_stream(body).read_all().num_columns == count
        if is_read:
            assert READERS[5].body(body, ARROW, {}).total == size // 8
        else:
            assert "4,800,000 bytes" in refusal(body)[1]


@pytest.mark.parametrize(
    "column",
    [
        few(1_000, pa.array(["x" * 1_000])),
        pa.array(["a", None, "b"] * 1_000).dictionary_encode(),
        runs(1_000, pa.array(["x" * 1_000])),
        repeated(1_000, "x" * 1_000),
        pa.array(["a", None, "a long text that is not in its view"], pa.string_view()),
        views(1_000, pa.array([1] * 1_000, pa.int8())),
        unions(1_000, pa.array([1, 2])),
        pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, 2])]),
        lists(pa.array(np.ones(7 << 20, bool))),
        pa.array([[1], [], None] * 1_000, pa.list_view(pa.int64())),
        pa.array([{"a": [{"b": None}]}] * 1_000),
        pa.array([[("k", 1)], []] * 1_000, pa.map_(pa.string(), pa.int8())),
        pa.array([], pa.dictionary(pa.int8(), pa.string())),
        pa.nulls(RECORDS),
    ],
    ids=lambda column: str(column.type),
)
def test_honest_columns_of_all_kinds_are_read(column: pa.Array) -> None:
    table = pa.table({"a": column})
    brought = READERS[6].body(stream(table), ARROW, {})
    assert brought.values.equals(table)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.sampled_from([0, 1, 127, 255]), st.booleans())
def test_any_changed_byte_of_columns_that_repeat_values_is_answered(place: float, byte: int, has_runs: bool) -> None:
    values = pa.array(["a", "b"])
    columns = {"d": few(2, values), "l": views(2, values), "v": repeated(2, "x" * 20)}
    body = bytearray(stream(pa.table({**columns, "r": runs(2, values[:1])} if has_runs else columns)))
    body[int(place * len(body))] = byte
    for reader in READERS:
        read(reader, bytes(body), ARROW)
