"""Each format gives back what was written, and Parquet is laid out for fast writing."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from raflow import Flow
from raflow.connectors.files import CsvFiles, formats
from raflow.connectors.files.formats import ArrowFormat, CsvFormat, Format, JsonLinesFormat, ParquetFormat
from raflow.connectors.files.json_text import json_lines
from raflow.connectors.memory import MemorySource
from raflow.errors import InvalidOption, SinkError

Rows = Callable[..., list[dict[str, Any]]]

PLAIN = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int64()),
        "rate": [0.1, 1e300, 3.0],
        "text": ['quoted "x", and\nmore', "ünï", ""],
        "flag": [True, False, None],
        "day": pa.array([dt.date(2026, 1, 2), None, dt.date(1970, 1, 1)]),
    }
)
TEXT_COMPRESSIONS = [None, "gzip", "bz2", "zstd"]


def encoded(kind: Format, table: pa.Table, batch_rows: int = 1000) -> bytes:
    class Kept(io.BytesIO):
        """Encoders may close their file."""

        def close(self) -> None:
            pass

    file = Kept()
    writer = kind.open(file, table.schema)
    for batch in table.to_batches(batch_rows):
        writer.write(batch)
    writer.close()
    return file.getvalue()


def unpacked(data: bytes, compression: str | None) -> Any:
    return pa.CompressedInputStream(io.BytesIO(data), compression) if compression else io.BytesIO(data)


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "lz4", "brotli", "none", None])
def test_parquet_reads_back(compression: str | None) -> None:
    data = encoded(ParquetFormat(compression), PLAIN)

    assert pq.read_table(io.BytesIO(data)).equals(PLAIN)
    stored = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(1).compression
    assert stored == (compression or "none").upper().replace("NONE", "UNCOMPRESSED")


@pytest.mark.parametrize("compression", TEXT_COMPRESSIONS)
def test_csv_reads_back(compression: str | None) -> None:
    kind = CsvFormat(delimiter=";", compression=compression)
    reading = pyarrow.csv.read_csv(
        unpacked(encoded(kind, PLAIN), compression),
        parse_options=pyarrow.csv.ParseOptions(delimiter=";", newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=PLAIN.schema),
    )
    assert reading.equals(PLAIN)


@pytest.mark.parametrize("compression", TEXT_COMPRESSIONS)
def test_json_lines_read_back(compression: str | None) -> None:
    data = unpacked(encoded(JsonLinesFormat(compression), PLAIN, batch_rows=2), compression).read()

    lines = [json.loads(line) for line in data.splitlines()]
    assert lines == json.loads(json.dumps(PLAIN.to_pylist(), default=str))


@pytest.mark.parametrize("compression", ["lz4", "zstd", None])
def test_arrow_reads_back(compression: str | None) -> None:
    data = encoded(ArrowFormat(compression), PLAIN, batch_rows=2)

    assert pa.ipc.open_file(data).read_all().equals(PLAIN)


def test_suffixes_name_format_and_compression() -> None:
    assert [CsvFormat(compression=each).suffix for each in TEXT_COMPRESSIONS] == [
        ".csv",
        ".csv.gz",
        ".csv.bz2",
        ".csv.zst",
    ]
    assert JsonLinesFormat("zstd").suffix == ".jsonl.zst"
    assert (ParquetFormat("zstd").suffix, ArrowFormat().suffix) == (".parquet", ".arrow")


@pytest.mark.parametrize("kind", [ParquetFormat, CsvFormat, JsonLinesFormat, ArrowFormat])
def test_an_unknown_compression_is_refused_with_the_known_ones(kind: Any) -> None:
    with pytest.raises(InvalidOption, match=r"compression is 'rar'; it can be .*'zstd'"):
        kind(compression="rar")


def test_csv_refuses_a_nested_column_by_name() -> None:
    with pytest.raises(SinkError, match=r"column 'tags' is list<.*>, which CSV cannot hold"):
        encoded(CsvFormat(), pa.table({"tags": [["a"]]}))


def test_csv_without_header_has_records_only() -> None:
    data = encoded(CsvFormat(header=False, compression="gzip"), pa.table({"a": [1, 2]}))

    assert gzip.decompress(data) == b"1\n2\n"


def test_arrow_takes_dictionaries_that_differ_between_batches() -> None:
    column = pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()])
    data = encoded(ArrowFormat(), pa.table({"c": column}))

    assert pa.ipc.open_file(data).read_all()["c"].to_pylist() == ["a", "b", "c"]


def test_dictionaries_go_to_columns_that_repeat_and_never_to_floats() -> None:
    rows = 20_000
    table = pa.table(
        {
            "fare": np.full(rows, 2.5),
            "id": np.arange(rows),
            "zone": np.arange(rows) % 265,
            "vendor": pa.array(["a", "b"] * (rows // 2)),
            "key": pa.array([f"key-{n}" for n in range(rows)]),
            "when": pa.array(np.arange(rows)).cast(pa.timestamp("us")),
            "flag": pa.array([True] * rows),
            "tags": pa.array([["x"]] * rows),
            "place": pa.array([{"lat": 1.0, "name": "q"}] * rows),
        }
    )
    metadata = pq.ParquetFile(io.BytesIO(encoded(ParquetFormat(), table))).metadata

    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    dictionaries = {c.path_in_schema for c in columns if c.has_dictionary_page}
    assert dictionaries == {"zone", "vendor", "tags.list.element", "place.name"}
    assert "RLE_DICTIONARY" not in columns[0].encodings


def test_row_groups_stay_under_a_million_rows() -> None:
    table = pa.table({"n": np.arange(2_300_000, dtype=np.int32)})
    metadata = pq.ParquetFile(io.BytesIO(encoded(ParquetFormat(), table, batch_rows=300_000))).metadata

    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    assert sum(groups) == 2_300_000
    assert max(groups) <= 1_000_000
    assert len(groups) == 3


def test_large_records_end_a_row_group_by_bytes() -> None:
    row = b"x" * 100_000
    writer = ParquetFormat().open(io.BytesIO(), pa.schema([("body", pa.binary())]))
    most = 0
    for _ in range(40):
        writer.write(pa.record_batch({"body": [row] * 100}))
        most = max(most, writer.held)

    assert most <= formats.ROW_GROUP_BYTES
    writer.flush()
    assert writer.held == 0


def test_one_large_batch_is_cut_into_row_groups() -> None:
    table = pa.table({"body": pa.array([b"x" * 100_000] * 2000)})
    metadata = pq.ParquetFile(io.BytesIO(encoded(ParquetFormat(), table, batch_rows=2000))).metadata

    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 1342


def test_json_holds_every_arrow_type() -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 6000)
    zoned = pa.array([moment.replace(tzinfo=dt.timezone.utc)]).cast(pa.timestamp("ms", "Europe/Berlin"))
    columns: dict[str, tuple[pa.Array, Any]] = {
        "whole": (pa.array([3.0]), 3.0),
        "large": (pa.array([2**63 - 1]), 2**63 - 1),
        "nan": (pa.array([float("nan")]), None),
        "infinity": (pa.array([float("-inf")]), None),
        "half": (pa.array([np.float16(1.5)]), 1.5),
        "moment": (pa.array([moment]), "2026-01-02T03:04:05.006000"),
        "zoned": (zoned, "2026-01-02T03:04:05.006Z"),
        "time": (pa.array([dt.time(1, 2, 3)]), "01:02:03.000000"),
        "span": (pa.array([dt.timedelta(milliseconds=1500)]), 1.5),
        "price": (pa.array([Decimal("12345678901234567890.10")]), "12345678901234567890.10"),
        "body": (pa.array([b"\x00\xff"]), "AP8="),
        "control": (pa.array(["\x00\t\\\u2028🎈"]), "\x00\t\\\u2028🎈"),
        "view": (pa.array(["v"], pa.string_view()), "v"),
        "word": (pa.array(["a"]).dictionary_encode(), "a"),
        "nothing": (pa.nulls(1), None),
        "list": (pa.array([[1, None, 3]]), [1, None, 3]),
        "pair": (pa.array([[1, 2]], pa.list_(pa.int8(), 2)), [1, 2]),
        "empty": (pa.array([[]], pa.list_(pa.string())), []),
        "deep": (pa.array([[{"a": [1.5, None]}, None]]), [{"a": [1.5, None]}, None]),
        "map": (pa.array([[("k", 1), ("j", None)]], pa.map_(pa.string(), pa.int8())), {"k": 1, "j": None}),
        "struct": (pa.array([{"x": None, "y": 'q"'}]), {"x": None, "y": 'q"'}),
    }
    batch = pa.record_batch({name: array for name, (array, _) in columns.items()})

    assert json.loads(bytes(json_lines(batch))) == {name: value for name, (_, value) in columns.items()}


def test_few_rows_are_the_same_text_as_many() -> None:
    simple = pa.record_batch(
        {
            "whole": pa.array([1, -5, None, 2**62]),
            "large": pa.array([2**64 - 1, 0, None, 7], pa.uint64()),
            "real": [0.1, 1e300, None, -0.0],
            "odd": [float("nan"), float("inf"), 5.0, 1e16],
            "text": ['a"\\\n\x00\x1f\u2028é🎈', None, "", "x" * 100],
            "flag": [True, False, None, True],
            "nothing": pa.nulls(4),
        }
    )
    many = pa.Table.from_batches([simple] * 50).combine_chunks().to_batches()[0]

    assert bytes(json_lines(many)) == bytes(json_lines(simple)) * 50


def test_json_of_a_slice_with_nulls_is_right() -> None:
    struct = pa.struct([("x", pa.list_(pa.int8()))])
    records = [{"s": {"x": [index]}, "m": [("k", index)], "l": [[index], None]} for index in range(5)]
    records[3] = {"s": None, "m": None, "l": None}  # type: ignore[dict-item]
    types = pa.schema([("s", struct), ("m", pa.map_(pa.string(), pa.int8())), ("l", pa.list_(pa.list_(pa.int8())))])
    batch = pa.RecordBatch.from_pylist(records, types).slice(2, 2)

    assert [json.loads(line) for line in bytes(json_lines(batch)).splitlines()] == [
        {"s": {"x": [2]}, "m": {"k": 2}, "l": [[2], None]},
        {"s": None, "m": None, "l": None},
    ]


@pytest.mark.parametrize("start", range(4))
def test_json_of_a_slice_escapes_what_is_in_it(start: int) -> None:
    words = pa.record_batch({"s": ["plain", 'qu"ote', "back\\slash", None] * 50}).slice(start)

    for some in (words.slice(0, 1), words, words.slice(0, 0)):
        assert [json.loads(line) for line in bytes(json_lines(some)).splitlines()] == some.to_pylist()


def test_json_lines_are_read_by_arrow_with_the_same_types(tmp_path: Path) -> None:
    table = pa.table({"n": [1, 2], "f": [1.0, 2.0], "s": ["a", None], "l": [[1], []]})
    (tmp_path / "x.jsonl").write_bytes(encoded(JsonLinesFormat(), table))

    assert pyarrow.json.read_json(tmp_path / "x.jsonl").equals(table)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, None, 3, None]),
        pa.array([None, "", "NULL", "x"]),
        pa.array([None, True]),
        pa.array([dt.date(2026, 1, 2), None]),
    ],
    ids=lambda values: str(values.type),
)
def test_nulls_of_a_csv_file_with_one_column_read_back(tmp_path: Path, rows: Rows, values: pa.Array) -> None:
    (tmp_path / "one.csv").write_bytes(encoded(CsvFormat(), pa.table({"v": values}), batch_rows=2))

    assert [row["v"] for row in rows(CsvFiles(tmp_path))] == values.to_pylist()


def test_nulls_of_the_one_column_that_is_not_in_folders_read_back(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [{"k": "a", "v": 1}, {"k": "a", "v": None}, {"k": "b", "v": None}]
    Flow().read(MemorySource(records)).write(CsvFiles(tmp_path / "out", partition_by="k")).run(engine="local")

    found = Flow().read(CsvFiles(tmp_path / "out")).collect(engine="local")
    assert sorted(found, key=lambda row: (row["k"], row["v"] is None)) == [{"v": r["v"], "k": r["k"]} for r in records]


def test_nulls_of_a_csv_file_with_one_column_are_refused_where_pyarrow_cannot_name_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(formats, "_named_null", lambda options: False)
    assert encoded(CsvFormat(), pa.table({"v": [1, 2]})) == b'"v"\n1\n2\n'
    with pytest.raises(SinkError, match="column 'v' is alone in a CSV file, .*; update pyarrow"):
        encoded(CsvFormat(), pa.table({"v": [1, None]}))
