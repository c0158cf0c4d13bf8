"""JSON Lines: ranges, inference, types of the record, bad lines."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raflow.connectors.files import JsonLinesFiles
from raflow.errors import RecordError, SchemaError, SourceError
from raflow.schema import SchemaWidened, fix
from raflow.sources import Rejected

Read = Callable[..., tuple[pa.Table, list[Rejected]]]
Rows = Callable[..., list[dict[str, Any]]]


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


def test_types_are_agreed_upon_and_a_mix_names_field_and_file(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(b'{"a": 1, "b": null, "d": "2024-01-01"}\n')
    (tmp_path / "2.jsonl").write_bytes(b'{"a": 1.5, "b": "x", "d": "soon"}\n')
    assert JsonLinesFiles(tmp_path).schema() == pa.schema({"a": pa.float64(), "b": pa.string(), "d": pa.string()})

    (tmp_path / "3.jsonl").write_bytes(b'{"a": "many"}\n')
    with pytest.raises(SchemaError, match=r"field 'a' is double .* but string in .*3\.jsonl"):
        JsonLinesFiles(tmp_path).schema()
    assert JsonLinesFiles(tmp_path / "3.jsonl", schema={"a": "int64"}).schema().field("a").type == pa.int64()


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
