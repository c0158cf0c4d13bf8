"""Parquet and Arrow files: row groups as splits, schemas from footers, corrupt files, memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from raflow.batch import MAX_BATCH_BYTES
from raflow.connectors.files import ArrowFiles, ParquetFiles
from raflow.connectors.files.files import Files
from raflow.errors import SchemaError, SourceError
from raflow.sources import Rejected
from tests.arrow_months import STREAM

Read = Callable[..., tuple[pa.Table, list[Rejected]]]
Rows = Callable[..., list[dict[str, Any]]]


def fail(bad: Rejected) -> None:
    raise bad.error


def numbers(rows: int) -> pa.Table:
    schema = pa.schema({"n": pa.int64(), "half": pa.float64(), "text": pa.string()})
    return pa.Table.from_pylist([{"n": n, "half": n / 2, "text": str(n)} for n in range(rows)], schema)


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=100)


def write_arrow(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=100)


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as file:
        file.write_table(table, max_chunksize=100)


FORMATS = pytest.mark.parametrize(
    ("kind", "write"),
    [(ParquetFiles, write_parquet), (ArrowFiles, write_arrow), (ArrowFiles, write_stream)],
    ids=["parquet", "arrow", "stream"],
)
Write = Callable[[pa.Table, Path], None]


@FORMATS
def test_all_records_come_in_order_with_only_the_wanted_columns(
    tmp_path: Path, read: Read, kind: type[Files], write: Write
) -> None:
    write(numbers(950), tmp_path / "1")
    write(numbers(3), tmp_path / "2")
    source = kind(tmp_path)  # type: ignore[call-arg]

    assert read(source)[0] == pa.concat_tables([numbers(950), numbers(3)])
    columns = pa.schema({"text": pa.string(), "n": pa.float64(), "absent": pa.int8()})
    table, _ = read(source, columns)
    assert table.slice(949).to_pylist()[:2] == [
        {"text": "949", "n": 949.0, "absent": None},
        {"text": "0", "n": 0.0, "absent": None},
    ]


@FORMATS
def test_rows_are_counted_without_any_column(tmp_path: Path, read: Read, kind: type[Files], write: Write) -> None:
    write(numbers(950), tmp_path / "1")
    source = kind(tmp_path)  # type: ignore[call-arg]

    assert read(source, pa.schema([]))[0].num_rows == 950
    assert read(source, pa.schema({"absent": pa.int8()}))[0].num_rows == 950


@FORMATS
def test_a_source_reads_after_pickling(tmp_path: Path, kind: type[Files], write: Write) -> None:
    write(numbers(250), tmp_path / "1")
    source = kind(tmp_path)  # type: ignore[call-arg]
    splits = source.splits()

    copy = pickle.loads(pickle.dumps(source))
    batches = [batch for split in splits for batch in copy.read(split, source.schema(), fail)]
    assert sum(batch.num_rows for batch in batches) == 250
    assert len(pickle.dumps(source)) < 2000


@FORMATS
def test_a_corrupt_or_truncated_file_is_named(tmp_path: Path, read: Read, kind: type[Files], write: Write) -> None:
    write(numbers(5000), tmp_path / "good")
    text = (tmp_path / "good").read_bytes()
    (tmp_path / "truncated").write_bytes(text[: len(text) // 2])

    with pytest.raises(SourceError, match="truncated"):
        read(kind(tmp_path))  # type: ignore[call-arg]

    (tmp_path / "truncated").write_bytes(b"this is no such file, not at all")
    with pytest.raises(SourceError, match="truncated"):
        kind(tmp_path).schema()  # type: ignore[call-arg]


def test_damage_inside_of_a_parquet_file_is_an_error_when_it_is_read(tmp_path: Path, read: Read) -> None:
    pq.write_table(numbers(5000), tmp_path / "1.parquet", compression="zstd")
    text = bytearray((tmp_path / "1.parquet").read_bytes())
    text[4:60] = b"\xff" * 56
    (tmp_path / "1.parquet").write_bytes(text)

    with pytest.raises(SourceError, match=r"reading .*1\.parquet"):
        read(ParquetFiles(tmp_path))


def test_schemas_of_files_are_merged_and_a_mismatch_names_field_and_file(tmp_path: Path, rows: Rows) -> None:
    pq.write_table(pa.table({"a": [1], "c": pa.array(["x"]).dictionary_encode()}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [1.5], "b": ["y"]}), tmp_path / "2.parquet")

    source = ParquetFiles(tmp_path)
    assert source.schema() == pa.schema({"a": pa.float64(), "c": pa.string(), "b": pa.string()})
    assert rows(source) == [{"a": 1.0, "c": "x", "b": None}, {"a": 1.5, "c": None, "b": "y"}]

    pq.write_table(pa.table({"a": ["z"]}), tmp_path / "3.parquet")
    with pytest.raises(SchemaError, match=r"field 'a' is string here but double in the files before .*3\.parquet"):
        source.schema()


def test_one_large_file_is_at_least_sixteen_splits_and_records_are_located_by_their_row(
    tmp_path: Path, read: Read
) -> None:
    rows = 9_000_000
    table = pa.table({"n": pa.array(range(rows), pa.int64())})
    pq.write_table(table, tmp_path / "1.parquet", row_group_size=rows // 60, compression="none", use_dictionary=False)
    source = ParquetFiles(tmp_path)

    splits = source.splits()
    assert 16 <= len(splits) <= 20
    assert sum(split.rows or 0 for split in splits) == rows
    columns = source.schema()
    first = next(source.read(splits[3], columns, fail)).column(0)[5].as_py()
    assert source.locate(splits[3], 5) == f"{tmp_path / '1.parquet'} row {first}"


def test_batches_stay_small_and_memory_bounded_with_rows_of_100_kb(tmp_path: Path) -> None:
    values = [f"{n}" * 50_000 for n in range(10, 13)]
    texts = pa.DictionaryArray.from_arrays(pa.array([n % 3 for n in range(20_000)], pa.int32()), values)
    pq.write_table(pa.table({"text": texts}), tmp_path / "1.parquet", store_schema=False)
    assert (tmp_path / "1.parquet").stat().st_size < 1 << 20

    program = f"""
from raflow.connectors.files import ParquetFiles
source = ParquetFiles({str(tmp_path)!r})
rows = 0
for batch in source.read(source.splits()[0], source.schema(), print):
    assert batch.nbytes <= {MAX_BATCH_BYTES}
    rows += batch.num_rows
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(rows, int(peak) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    rows, peak_mib = map(int, done.stdout.split())
    assert rows == 20_000
    assert peak_mib < 600


def test_batches_of_wide_rows_are_cut(tmp_path: Path, read: Read) -> None:
    table = pa.table({"n": pa.array(range(6_000_000), pa.int64())})
    pyarrow.feather.write_feather(table, tmp_path / "1.arrow", chunksize=6_000_000)
    source = ArrowFiles(tmp_path)

    (split,) = source.splits()
    batches = list(source.read(split, source.schema(), fail))
    assert max(batch.nbytes for batch in batches) <= MAX_BATCH_BYTES
    assert pa.Table.from_batches(batches).combine_chunks() == table


@FORMATS
def test_a_file_without_records_is_part_of_the_input(
    tmp_path: Path, read: Read, kind: type[Files], write: Write
) -> None:
    write(numbers(0), tmp_path / "1")
    source = kind(tmp_path)  # type: ignore[call-arg]

    assert read(source)[0] == numbers(0)
    assert [entry for split in source.splits() for entry in split.inputs] == source.inputs()


def test_text_that_is_stored_as_views_comes_as_text(tmp_path: Path, read: Read) -> None:
    table = pa.table(
        {"text": pa.array(["x", None], pa.string_view()), "data": pa.array([b"x", None], pa.binary_view())}
    )
    pq.write_table(table, tmp_path / "views.parquet")
    source = ParquetFiles(tmp_path / "views.parquet")
    assert source.schema().types == [pa.string(), pa.binary()]
    assert read(source)[0].to_pylist() == table.to_pylist()


def test_a_column_of_which_arrow_has_no_python_values_is_named(tmp_path: Path) -> None:
    (tmp_path / "months.arrow").write_bytes(STREAM)
    with pytest.raises(SourceError, match=r"months.arrow has columns .* not read: 'm' \(month_interval\)"):
        ArrowFiles(tmp_path).schema()


def test_runs_in_arrow_files_are_read_as_the_values_that_they_stand_for(tmp_path: Path, read: Read) -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None]))
    write_stream(pa.table({"text": runs}), tmp_path / "runs.arrow")
    source = ArrowFiles(tmp_path)
    assert source.schema().types == [pa.string()]
    assert read(source)[0].to_pylist() == [{"text": "a"}, {"text": "a"}, {"text": None}]


def test_a_union_in_an_arrow_file_is_named(tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, 2])])
    write_stream(pa.table({"u": union}), tmp_path / "union.arrow")
    with pytest.raises(SourceError, match=r"union.arrow has columns .* not read: 'u' \(sparse_union"):
        ArrowFiles(tmp_path).schema()


@FORMATS
def test_two_columns_of_one_name_are_told_with_the_file(tmp_path: Path, kind: type[Files], write: Write) -> None:
    write(pa.table({"n": [1], "m": [2]}), tmp_path / "1")
    write(pa.table([[1], [2], [3]], names=["n", "m", "m"]), tmp_path / "2")
    with pytest.raises(SourceError, match=rf"{tmp_path}/2 has two columns named 'm'; rename one"):
        kind(tmp_path).schema()  # type: ignore[call-arg]
