"""JSON Lines: ranges, inference, types of the record, bad lines."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from raflow import Flow, consumer
from raflow.connectors.files import JsonLinesFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import RecordError, RunFailed, SchemaError, SourceError
from raflow.schema import SchemaWidened, fix
from raflow.sources import Rejected

Read = Callable[..., tuple[pa.Table, list[Rejected]]]
Rows = Callable[..., list[dict[str, Any]]]

# No digits: text that looks like a date is one.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Nd"]), max_size=5)
PLAIN = st.sampled_from([TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, width=32)])
SHAPES = st.recursive(
    PLAIN.map(lambda values: st.none() | values),
    lambda inner: (
        inner.map(lambda values: st.none() | st.lists(values, max_size=4))
        | st.dictionaries(TEXT, inner, max_size=3).map(lambda fields: st.none() | _objects(fields))
    ),
    max_leaves=6,
)
"""Strategies, each for the values of one field."""


@dataclass
class Part:
    sizes: dict[str, float]


@dataclass
class Tagged:
    id: int
    tags: dict[str, int] | None
    parts: list[Part]


NO_RECORDS = [
    b"null",
    b" null ",
    b"nullx",
    b"7",
    b'"x"',
    b"[]",
    b'[{"a": 1}]',
    b"{}null",
    b"{} {}",
    b'{"a":',
    b"}",
    b"x",
]
BLANK = [b"", b"  ", b"\t"]


def _objects(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def as_typed(value: Any, kind: pa.DataType) -> Any:
    """The value as a column of the type has it: absent fields are null, whole numbers may be floats."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: as_typed(value.get(field.name), field.type) for field in kind}
    if pa.types.is_list(kind):
        return [as_typed(one, kind.value_type) for one in value]
    return float(value) if pa.types.is_floating(kind) else value


@pytest.mark.parametrize("ranges", [0, 1, 4, 9])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n  \n\n"])
def test_every_range_gives_the_same_records(tmp_path: Path, rows: Rows, ranges: int, end: bytes) -> None:
    records = [{"id": n, "name": f"ünï {n}", "tags": ["a"] * n, "at": {"x": n / 2}} for n in range(9)]
    text = end.join(json.dumps(record, ensure_ascii=False).encode() for record in records)
    (tmp_path / "1.jsonl").write_bytes(b"\xef\xbb\xbf" + text)

    assert rows(JsonLinesFiles(tmp_path), ranges=ranges) == records


def test_compressed_files_are_read(tmp_path: Path, rows: Rows) -> None:
    (tmp_path / "1.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}'))

    assert rows(JsonLinesFiles(tmp_path)) == [{"a": 1}, {"a": 2}]


def test_fields_may_be_absent_and_unwanted_ones_are_ignored(tmp_path: Path, rows: Rows, read: Read) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a": 1, "b": [1]}\n{"c": "x"}\n{}\n')

    found = rows(JsonLinesFiles(tmp_path), pa.schema({"a": pa.int64(), "z": pa.string()}))
    assert found == [{"a": 1, "z": None}, {"a": None, "z": None}, {"a": None, "z": None}]
    assert read(JsonLinesFiles(tmp_path), pa.schema([]))[0].num_rows == 3


def test_text_becomes_what_the_record_type_wants(tmp_path: Path, rows: Rows) -> None:
    line = {
        "day": "2024-02-29",
        "at": "2024-02-29T10:00:00",
        "raw": "aGk=",
        "in": {"day": "2024-03-01"},
        "d": "1.5",
    }
    (tmp_path / "1.jsonl").write_text(json.dumps(line))
    columns = {
        "day": pa.date32(),
        "at": pa.timestamp("us"),
        "raw": pa.binary(),
        "in": pa.struct({"day": pa.date32()}),
        "d": pa.decimal128(5, 2),
    }

    (found,) = rows(JsonLinesFiles(tmp_path), pa.schema([fix(pa.field(*item)) for item in columns.items()]))
    assert found["day"] == datetime.date(2024, 2, 29)
    assert found["at"] == datetime.datetime(2024, 2, 29, 10)
    assert found["raw"] == b"hi"
    assert found["in"] == {"day": datetime.date(2024, 3, 1)}
    assert str(found["d"]) == "1.50"


def _made(record: dict[str, Any]) -> Tagged:
    made = json.loads(record["text"])
    return Tagged(made["id"], made["tags"], [Part(**part) for part in made["parts"]])


def _kept(record: Tagged) -> Tagged:
    return record


def test_maps_of_a_record_type_are_read_as_they_were_written(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"id": 1, "tags": {"a": 2**60, "ü": -1}, "parts": [{"sizes": {"x": 1.5}}, {"sizes": {}}]},
        {"id": 2, "tags": {}, "parts": []},
        {"id": 3, "tags": None, "parts": [{"sizes": {"y": 0.5, "x": 2.0}}]},
    ]
    sink = MemorySink()
    texts = MemorySource([{"text": json.dumps(record)} for record in records])
    flow = Flow("written")
    flow.add_consumer(consumer(source=texts, sink=JsonLinesFiles(tmp_path), name="p")(_made))
    flow.run(engine="local")
    flow = Flow("read")
    flow.add_consumer(consumer(source=JsonLinesFiles(tmp_path), sink=sink, name="p")(_kept))
    flow.run(engine="local")

    assert '"tags":{"a":1152921504606846976,"ü":-1}' in next(tmp_path.glob("*.jsonl")).read_text()
    found = sorted(sink.records(), key=lambda row: row["id"])
    assert [dict(row["tags"]) if row["tags"] is not None else None for row in found] == [
        record["tags"] for record in records
    ]
    assert [[dict(part["sizes"]) for part in row["parts"]] for row in found] == [
        [part["sizes"] for part in record["parts"]] for record in records
    ]


def test_maps_may_be_within_maps_and_lists_and_hold_dates_and_nulls(tmp_path: Path, rows: Rows) -> None:
    lines = [{"m": {"a": {"d": "2024-02-29", "e": None}}, "n": 1}, {"m": None}, {"n": 2}, {"m": {"b": None, "c": {}}}]
    (tmp_path / "1.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))
    inner = pa.map_(pa.string(), pa.date32())

    found = rows(JsonLinesFiles(tmp_path), pa.schema({"m": pa.map_(pa.string(), inner), "n": pa.int64()}))
    day = datetime.date(2024, 2, 29)
    assert [row["m"] for row in found] == [[("a", [("d", day), ("e", None)])], None, None, [("b", None), ("c", [])]]
    assert [row["n"] for row in found] == [1, None, 2, None]
    nulls = {"m": {"x": None, "y": None}}
    (tmp_path / "1.jsonl").write_text(json.dumps(nulls))
    assert rows(JsonLinesFiles(tmp_path), pa.schema({"m": inner})) == [{"m": [("x", None), ("y", None)]}]


def test_a_line_whose_map_does_not_fit_is_bad(tmp_path: Path, read: Read) -> None:
    texts = ['{"m": {"a": 1}}', '{"m": [1]}', '{"m": {"a": "x"}}', '{"m": ', '{"m": {"b": 2}}']
    (tmp_path / "1.jsonl").write_text("\n".join(texts))

    kind = pa.map_(pa.string(), pa.int64())
    table, rejected = read(JsonLinesFiles(tmp_path), pa.schema([fix(pa.field("m", kind))]))
    assert table.to_pylist() == [{"m": [("a", 1)]}, {"m": [("b", 2)]}]
    assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == ["2", "3", "4"]
    assert "column 'm' is [1], not map<string, int64" in str(rejected[0].error)


@dataclass
class Timed:
    id: int
    at: datetime.datetime
    clock: datetime.time
    span: datetime.timedelta
    raw: Raw
    seen: dict[str, datetime.datetime]
    back: datetime.datetime | None = None


@dataclass
class Raw:
    raw: bytes
    days: list[datetime.date]


ZONED = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.timezone.utc)


def timed(record: dict) -> Timed:  # type: ignore[type-arg]
    span, raw = datetime.timedelta(days=1, microseconds=5), Raw(b"\xff", [ZONED.date()])
    seen = {f"k{record['id']}": ZONED, "none": None}
    clock = ZONED.replace(tzinfo=None).time()
    return Timed(record["id"], ZONED, clock, span, raw, seen, ZONED if record["id"] else None)  # type: ignore[arg-type]


def test_records_that_were_written_are_read_back_with_their_type(tmp_path: Path) -> None:
    flow, found = Flow(), []

    def taken(record: Timed) -> None:
        found.append(record)

    flow.read(MemorySource([{"id": 0}, {"id": 1}])).map(timed).write(JsonLinesFiles(tmp_path))
    flow.run(engine="local")
    Flow().read(JsonLinesFiles(tmp_path)).map(taken).collect(engine="local")
    assert sorted(found, key=lambda record: record.id) == [timed({"id": 0}), timed({"id": 1})]


def test_records_without_a_type_keep_instants_and_zones(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jsonl").write_text(
        '{"a": "2026-01-02T10:00:00+02:00", "b": "2026-01-02T10:00:00.5Z", "c": "2026-01-02T10:00:00"}\n'
        '{"a": "2026-01-02T10:00:00Z", "b": "2026-01-02T10:00:00Z", "c": "2026-01-02T10:00:00Z"}\n'
    )
    flow = Flow()
    flow.read(JsonLinesFiles(tmp_path / "in")).map(lambda record: record).write(JsonLinesFiles(tmp_path / "out"))
    flow.run(engine="local")
    (text,) = (path.read_text() for path in (tmp_path / "out").glob("*.jsonl"))
    assert [json.loads(line) for line in text.splitlines()] == [
        {"a": "2026-01-02T08:00:00.000000Z", "b": "2026-01-02T10:00:00.500000Z", "c": "2026-01-02T10:00:00"},
        {"a": "2026-01-02T10:00:00.000000Z", "b": "2026-01-02T10:00:00.000000Z", "c": "2026-01-02T10:00:00Z"},
    ]


@dataclass
class Clock:
    clock: datetime.time
    span: datetime.timedelta


def of_clock(record: Clock) -> dict:  # type: ignore[type-arg]
    return vars(record)


def test_times_that_are_none_are_bad_records(tmp_path: Path) -> None:
    lines = [("10:00", 90.5), ("noon", 1), ("25:00", 1)]
    (tmp_path / "1.jsonl").write_text("".join(json.dumps({"clock": a, "span": b}) + "\n" for a, b in lines))

    found = Flow().read(JsonLinesFiles(tmp_path)).map(of_clock, on_error="skip").collect(engine="local")
    assert found == [{"clock": datetime.time(10), "span": datetime.timedelta(seconds=90.5)}]
    with pytest.raises(RunFailed, match=r"line 2: column 'clock' is \"noon\", not time64\[us\]"):
        Flow().read(JsonLinesFiles(tmp_path)).map(of_clock).collect(engine="local")


def test_files_with_and_without_zones_are_text_also_inside_of_records(tmp_path: Path, rows: Rows) -> None:
    for name, text in [("1", "2026-01-02T10:00:00"), ("2", "2026-01-02T10:00:00Z")]:
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"in": [{"at": text}]}))

    at = [row["in"][0]["at"] for row in rows(JsonLinesFiles(tmp_path))]
    assert at == ["2026-01-02T10:00:00", "2026-01-02T10:00:00Z"]


@dataclass
class Visit:
    day: datetime.date
    left: datetime.datetime | None
    pages: dict[str, datetime.datetime] | None = None


@dataclass
class Visited:
    id: int
    visit: Visit


def of_visited(record: Visited) -> dict:  # type: ignore[type-arg]
    return {"id": record.id, "left": record.visit.left, "pages": ",".join(record.visit.pages or ())}


def test_what_a_record_type_leaves_open_is_found_after_the_sample(tmp_path: Path) -> None:
    visits = [{"id": n, "visit": {"day": "2026-01-02", "left": None, "x": "x" * 280}} for n in range(10_000)]
    visits[9_000]["visit"] |= {"left": "2026-01-02T03:04:05Z", "pages": {"home": "2026-01-02T03:04:05.5"}}  # type: ignore[operator]
    visits[9_001]["visit"] |= {"pages": {"end": "2026-01-02T03:04:05.5"}}  # type: ignore[operator]
    (tmp_path / "1.jsonl").write_text("".join(json.dumps(visit) + "\n" for visit in visits))

    found = Flow().read(JsonLinesFiles(tmp_path)).map(of_visited).collect(engine="local")
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    late = [row for row in found if row["left"] or row["pages"]]
    assert late == [{"id": 9_000, "left": at, "pages": "home"}, {"id": 9_001, "left": None, "pages": "end"}]
    assert len(found) == len(visits)


def test_types_are_agreed_upon_and_a_mix_names_field_and_file(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a": 1, "b": null, "d": "2024-01-01"}\n')
    (tmp_path / "2.jsonl").write_bytes(b'{"a": 1.5, "b": "x", "d": "soon"}\n')
    assert JsonLinesFiles(tmp_path).schema() == pa.schema({"a": pa.float64(), "b": pa.string(), "d": pa.string()})

    (tmp_path / "3.jsonl").write_bytes(b'{"a": "many"}\n')
    with pytest.raises(SchemaError, match=r"field 'a' is double .* but string in .*3\.jsonl"):
        JsonLinesFiles(tmp_path).schema()
    assert JsonLinesFiles(tmp_path / "3.jsonl", schema={"a": "int64"}).schema().field("a").type == pa.int64()


def test_types_are_also_read_of_a_last_line_without_a_newline(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 2.5, "b": "x"}')
    assert JsonLinesFiles(tmp_path).schema() == pa.schema({"a": pa.float64(), "b": pa.string()})


@pytest.mark.parametrize("ranges", [0, 1, 5])
def test_bad_lines_are_rejected_with_their_absolute_number(tmp_path: Path, read: Read, ranges: int) -> None:
    lines = [json.dumps({"id": n, "name": "x"}).encode() for n in range(300)]
    lines[10] = b'{"id": "ten", "name": "x"}'
    lines[20] = b'{"id": 20, "name": '
    lines[30] = b"[30]"
    lines[299] = b'{"id": 299, "name": "\xff"}'
    (tmp_path / "1.jsonl").write_bytes(b"\n".join(lines))

    columns = pa.schema({"id": pa.int64(), "name": pa.string()})
    table, rejected = read(JsonLinesFiles(tmp_path), columns, ranges=ranges)

    assert table.column("id").to_pylist() == [n for n in range(300) if n not in (10, 20, 30, 299)]
    assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == ["11", "21", "31", "300"]
    assert isinstance(rejected[0].error, RecordError)
    assert "column 'id' is \"ten\", not int64" in str(rejected[0].error)
    assert all(isinstance(bad.error, SourceError) for bad in rejected[1:])


def test_later_values_widen_the_run(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a": 1, "b": [], "c": null}\n{"a": 1.5, "b": [1], "c": "x"}\n')

    columns = pa.schema({"a": pa.int64(), "b": pa.list_(pa.null()), "c": pa.null()})
    with pytest.raises(SchemaWidened) as first:
        read(JsonLinesFiles(tmp_path), columns)
    assert first.value.schema == pa.schema({"a": pa.int64(), "b": pa.list_(pa.int64()), "c": pa.string()})
    with pytest.raises(SchemaWidened) as second:
        read(JsonLinesFiles(tmp_path), first.value.schema)
    assert second.value.schema.field("a").type == pa.float64()
    assert read(JsonLinesFiles(tmp_path), second.value.schema)[0].num_rows == 2


def test_a_value_that_is_no_number_fails_in_a_fixed_column(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a": 1}\n{"a": 1.5}\n')

    _, rejected = read(JsonLinesFiles(tmp_path), pa.schema([fix(pa.field("a", pa.int64()))]))
    assert "column 'a' is 1.5, not int64" in str(rejected[0].error)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], print_blob=True)
@given(st.data(), st.sampled_from([b"\n", b"\r\n", b" \n"]), st.sampled_from([0, 1, 3]))
def test_records_are_what_json_says_and_other_lines_are_rejected(
    tmp_path: Path, read: Read, data: st.DataObject, end: bytes, ranges: int
) -> None:
    objects = _objects(data.draw(st.dictionaries(TEXT, SHAPES, max_size=3)))
    dumped = objects.map(lambda record: json.dumps(record, ensure_ascii=len(record) % 2 == 0).encode())
    lines = data.draw(st.lists(dumped | dumped | st.sampled_from(NO_RECORDS + BLANK), max_size=8))
    (tmp_path / "1.jsonl").write_bytes(b"".join(line + end for line in lines))

    table, rejected = read(JsonLinesFiles(tmp_path), ranges=ranges)

    record = pa.struct(list(table.schema))
    wanted = [line for line in lines if line not in NO_RECORDS + BLANK]
    assert [as_typed(json.loads(line), record) for line in wanted] == table.to_pylist()
    assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == [
        str(number) for number, line in enumerate(lines, 1) if line in NO_RECORDS
    ]
    table.validate(full=True)


@pytest.mark.parametrize("columns", [None, {"a": "int64"}, {}])
@pytest.mark.parametrize("line", NO_RECORDS)
def test_a_line_that_is_no_record_is_named_wherever_it_stands(
    tmp_path: Path, read: Read, line: bytes, columns: dict[str, str] | None
) -> None:
    file = tmp_path / "1.jsonl"
    declared = None if columns is None else {name: pa.type_for_alias(kind) for name, kind in columns.items()}
    for lines in ([line], [line, b'{"a": 1}'], [b"", line, b'{"a": 1}'], [b'{"a": 1}', line, b'{"a": 2}', line]):
        file.write_bytes(b"\n".join(lines))
        source = JsonLinesFiles(file, schema=declared)
        _, rejected = read(source, None if declared is None else pa.schema(declared))

        bad = [number for number, one in enumerate(lines, 1) if one == line]
        assert [one.position for one in rejected] == [f"{file} line {number}" for number in bad]
        assert all(isinstance(one.error, SourceError) for one in rejected)
        assert all(str(one.error).endswith(f": {line.decode()}") for one in rejected)


def test_a_range_may_begin_at_null(tmp_path: Path, read: Read) -> None:
    lines = [b'{"a": 1}', b"null", b'{"a": 2}', b"null"]
    (tmp_path / "1.jsonl").write_bytes(b"\n".join(lines))

    for ranges in range(1, 28):
        table, rejected = read(JsonLinesFiles(tmp_path), ranges=ranges)
        assert table.to_pylist() == [{"a": 1}, {"a": 2}]
        assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == ["2", "4"]


def test_the_text_of_a_long_line_is_cut(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'null "' + b"x" * 999 + b'"\n{"a": 1}')

    ((bad,),) = read(JsonLinesFiles(tmp_path))[1:]
    assert str(bad.error).endswith('line 1: a line has to be one JSON object: null "' + "x" * 194)


@pytest.mark.parametrize("value", ["[null, null]", "[[null, null], null, []]", '[null, {"b": [null, null]}]', "null"])
def test_lists_of_nothing_but_nulls_are_whole(tmp_path: Path, rows: Rows, value: str) -> None:
    (tmp_path / "1.jsonl").write_text('{"a": null}\n{}\n' + f'{{"a": {value}}}\n' * 3)

    assert rows(JsonLinesFiles(tmp_path)) == [{"a": None}] * 2 + [{"a": json.loads(value)}] * 3


def test_objects_over_several_lines_are_no_records(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a":\n{"a": 1}}\n{"a": {}}{}\n{"a": {"a": 2}}')

    table, rejected = read(JsonLinesFiles(tmp_path), pa.schema({"a": pa.struct({"a": pa.int64()})}))
    assert table.to_pylist() == [{"a": {"a": 2}}]
    assert [bad.position.rsplit(" ", 1)[1] for bad in rejected] == ["1", "2", "3"]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_values_that_are_nested_very_deep_have_no_type(tmp_path: Path, read: Read, opening: str, closing: str) -> None:
    deep = opening * 100_000 + "null" + closing * 100_000
    (tmp_path / "1.jsonl").write_text(f'{{"id": 1}}\n{{"id": 2, "a": {deep}}}\n')

    table, rejected = read(JsonLinesFiles(tmp_path))
    assert (table.to_pylist(), rejected) == ([{"id": 1}, {"id": 2}], [])


def test_brackets_in_strings_are_not_nested(tmp_path: Path, rows: Rows) -> None:
    record = {"a": '["\\' * 99, "b": [[{}]] * 99}
    (tmp_path / "1.jsonl").write_text(json.dumps(record))

    assert rows(JsonLinesFiles(tmp_path)) == [record]


def test_another_order_of_untyped_fields_widens_nothing(tmp_path: Path, read: Read) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a": {"x": null, "y": null}}\n{"a": {"y": null, "x": null}}\nnull\n')

    for names in ("xy", "yx"):
        columns = pa.schema({"a": pa.struct({name: pa.null() for name in names})})
        table, rejected = read(JsonLinesFiles(tmp_path), columns)
        assert (table.to_pylist(), len(rejected)) == ([{"a": {"x": None, "y": None}}] * 2, 1)


@dataclass
class Order:
    id: int
    refund: float | None = None
    back: datetime.datetime | None = None
    count: int = 1


class OrderModel(BaseModel):
    id: int
    refund: float | None = None
    back: datetime.datetime | None = None
    count: int = 1


def of_order(order: Order) -> dict:  # type: ignore[type-arg]
    return dict(vars(order))


def of_model(order: OrderModel) -> dict:  # type: ignore[type-arg]
    return dict(vars(order))


@pytest.mark.parametrize("function", [of_order, of_model])
def test_optional_fields_that_occur_only_after_the_sample_are_read(tmp_path: Path, function: Any) -> None:
    orders = [{"id": n, "note": "x" * 280} for n in range(10_000)]
    orders[9_000] |= {"refund": 2.5, "back": "2026-01-02T03:04:05", "count": 3}
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps(order) + "\n" for order in orders))
    assert "refund" not in JsonLinesFiles(tmp_path).schema().names

    stream = Flow().read(JsonLinesFiles(tmp_path)).map(function)
    found = {row["id"]: row for row in stream.collect(engine="local")}
    late = {"refund": 2.5, "back": datetime.datetime(2026, 1, 2, 3, 4, 5), "count": 3}
    assert found == {n: {"id": n, "refund": None, "back": None, "count": 1} for n in range(10_000)} | {
        9_000: {"id": 9_000, **late}
    }


@dataclass
class Misspelt:
    idd: int


def of_misspelt(order: Misspelt) -> dict:  # type: ignore[type-arg]
    return {}


def test_a_field_without_default_that_no_sample_has_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(SchemaError, match=r"no column 'idd' \(did you mean 'id'"):
        Flow().read(JsonLinesFiles(tmp_path)).map(of_misspelt).collect(engine="local")
