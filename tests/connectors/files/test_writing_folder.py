"""The folder sink: names, partitions, limits, and what it refuses."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raflow import Flow, consumer
from raflow.connectors.files import ParquetFiles, folder_writer, partitioning
from raflow.connectors.files.folder_writer import FolderWriter
from raflow.connectors.files.formats import CsvFormat, JsonLinesFormat, ParquetFormat
from raflow.connectors.files.writing import FolderSink
from raflow.connectors.memory import MemorySource
from raflow.errors import InvalidOption, OutputExists, SinkError
from raflow.places import Location
from raflow.sinks import Part, SinkContext

RUN = SinkContext("20260101-120000-ab")


def folder_sink(folder: Path, **options: Any) -> FolderSink:
    return FolderSink(Location.of(folder), options.pop("format", ParquetFormat()), **options)


def opened(sink: FolderSink, unit: str = "0") -> FolderWriter:
    writer = sink.open(RUN)
    assert isinstance(writer, FolderWriter)
    writer.begin(unit, 0)
    return writer


def write(sink: FolderSink, *batches: pa.RecordBatch, unit: str = "0") -> list[Part]:
    started = sink.start(RUN)
    writer = opened(sink, unit)
    for batch in batches:
        writer.write(batch)
    parts = writer.prepare()
    sink.commit(parts)
    sink.finish(RUN, started)
    return parts


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_unit_becomes_one_file_named_by_run_and_unit(tmp_path: Path) -> None:
    parts = write(folder_sink(tmp_path), pa.record_batch({"a": [1]}), pa.record_batch({"a": [2]}), unit="0042")

    assert files(tmp_path) == ["part-20260101-120000-ab-0042-0-0.parquet"]
    assert parts[0].target == str(tmp_path / files(tmp_path)[0])
    assert (parts[0].rows, parts[0].size_bytes) == (2, os.path.getsize(parts[0].target))


def test_a_unit_without_records_has_no_parts(tmp_path: Path) -> None:
    nothing = pa.record_batch({"a": pa.array([], pa.int64()), "z": pa.array([], pa.string())})

    assert write(folder_sink(tmp_path / "plain"), nothing) == []
    assert write(folder_sink(tmp_path / "parts", partition_by=["z"]), nothing) == []
    assert files(tmp_path) == []


def test_units_with_any_characters_have_safe_names(tmp_path: Path) -> None:
    write(folder_sink(tmp_path), pa.record_batch({"a": [1]}), unit="trips/a-b c")

    assert files(tmp_path) == ["part-20260101-120000-ab-trips%2Fa%2Db%20c-0-0.parquet"]


def test_partition_values_of_every_kind_read_back(tmp_path: Path) -> None:
    values = ["x", "a/b", "ü ñ", "", None, "k=v", "%41", "..", "x"]
    records = pa.record_batch({"n": range(9), "who": pa.array(values)})

    parts = write(folder_sink(tmp_path, partition_by=["who"]), records)

    table = ds.dataset(tmp_path, partitioning="hive").to_table().sort_by("n")
    assert table["who"].to_pylist() == values
    assert {part.rows for part in parts} == {1, 2}
    assert (tmp_path / "who=__HIVE_DEFAULT_PARTITION__").is_dir()
    assert pq.ParquetFile(parts[0].target).schema_arrow.names == ["n"]
    # DuckDB reads an empty value as null.
    query = f"select who from read_parquet('{tmp_path}/**/*.parquet', hive_partitioning=true) order by n"
    assert [row[0] or None for row in duckdb.sql(query).fetchall()] == [value or None for value in values]


def test_partitions_nest_and_keep_the_order_of_records(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    days, zones = rng.integers(0, 3, 10_000), rng.integers(0, 5, 10_000)
    numbers = np.arange(10_000)
    batch = pa.record_batch({"day": days, "n": numbers, "zone": pa.array(zones).cast(pa.string())})

    write(folder_sink(tmp_path, partition_by=["zone", "day"]), batch.slice(0, 4000), batch.slice(4000))

    assert len(files(tmp_path)) == 15
    for name in files(tmp_path):
        zone, day = (int(step.partition("=")[2]) for step in name.split("/")[:2])
        expected = numbers[(zones == zone) & (days == day)]
        assert pq.ParquetFile(tmp_path / name).read()["n"].to_numpy().tolist() == expected.tolist()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False, None]),
        pa.array([1.5, None, 1.5]),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array([0, 86_400_000_000, None], pa.timestamp("us", "UTC")),
        pa.nulls(3),
    ],
    ids=lambda column: str(column.type),
)
def test_plain_columns_of_any_type_partition(tmp_path: Path, column: pa.Array) -> None:
    parts = write(folder_sink(tmp_path, partition_by=["p"]), pa.record_batch({"n": range(3), "p": column}))

    assert len(parts) == len({str(value) for value in column})
    assert sum(part.rows for part in parts) == 3


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["nope"], "partition_by names 'nope', but the records have: a, tags"),
        (["tags"], "partition_by names 'tags', which is list"),
        (["a", "tags"], "names every column"),
    ],
)
def test_partition_columns_that_cannot_be_are_refused(tmp_path: Path, columns: list[str], message: str) -> None:
    with pytest.raises(SinkError, match=message):
        opened(folder_sink(tmp_path, partition_by=columns)).write(pa.record_batch({"a": [1], "tags": [["x"]]}))


def test_a_thousand_partitions_stay_under_the_cap_of_open_files(tmp_path: Path) -> None:
    sink = folder_sink(tmp_path, partition_by=["p"], format=JsonLinesFormat())
    started = sink.start(RUN)
    writer = opened(sink)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (folder_writer.MAX_OPEN_FILES + 100, soft[1]))
    try:
        writer.write(pa.record_batch({"p": np.arange(20_000) % 1000, "n": np.arange(20_000)}))
        parts = writer.prepare()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, soft)
    sink.commit(parts)
    sink.finish(RUN, started)

    assert len(parts) == 1000
    assert ds.dataset(tmp_path, format="json", partitioning="hive").count_rows() == 20_000


FEW_FILES = """
import resource, sys
import pyarrow as pa
from raflow import Flow
from raflow.connectors.files import JsonLinesFiles
from raflow.connectors.memory import MemorySource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
rows = MemorySource([{"p": n % 100, "n": n} for n in range(16_000)], rows_per_split=500)
flow = Flow()
@flow.consumer(source=rows, sink=JsonLinesFiles(sys.argv[1], partition_by="p"), num_replicas=8, num_cpus=0.1)
def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
flow.run(engine="local")
"""


def test_the_writers_of_a_process_open_together_no_more_files_than_it_may(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stderr
    assert ds.dataset(tmp_path / "out", format="json", partitioning="hive").count_rows() == 16_000


def test_a_partition_that_comes_back_after_its_file_was_finished_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_writer, "MAX_OPEN_FILES", 2)
    monkeypatch.setattr("raflow.connectors.files.partitioning.SPLIT_BYTES", 1)
    one, two, three = (pa.record_batch({"p": [p], "n": [1]}) for p in (1, 2, 3))

    parts = write(folder_sink(tmp_path, partition_by=["p"]), one, two, one, three, one, two)

    folders = [part.target.split("/")[-2] for part in parts]
    assert sorted(folders) == ["p=1", "p=2", "p=2", "p=3"]


def test_memory_is_bounded_over_many_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_writer, "MAX_HELD_BYTES", folder_writer.MAX_HELD_BYTES // 8)
    monkeypatch.setattr(partitioning, "SPLIT_BYTES", partitioning.SPLIT_BYTES // 8)
    writer = opened(folder_sink(tmp_path, partition_by=["p"]))
    bodies = pa.array([os.urandom(100_000 // 8)] * 320)
    most = 0
    for _ in range(20):
        writer.write(pa.record_batch({"p": pa.array(range(320)) if _ % 2 else [1] * 320, "body": bodies}))
        most = max(most, writer.held)

    assert most <= folder_writer.MAX_HELD_BYTES
    writer.abort()
    assert files(tmp_path) == []


def test_files_roll_over_at_the_row_limit(tmp_path: Path) -> None:
    batches = [pa.record_batch({"n": range(start, start + 7)}) for start in range(0, 28, 7)]

    parts = write(folder_sink(tmp_path, max_rows_per_file=10), *batches)

    assert [part.rows for part in parts] == [10, 10, 8]
    assert ds.dataset([part.target for part in parts]).to_table()["n"].to_pylist() == list(range(28))


def test_existing_output_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden").touch()
    folder_sink(tmp_path).start(RUN)

    (tmp_path / "old.csv").touch()
    with pytest.raises(OutputExists, match=r'holds 1 file\(s\), such as old.csv.*if_exists="append"'):
        folder_sink(tmp_path).start(RUN)


def test_a_run_begun_while_another_one_is_about_to_write_there_is_refused(tmp_path: Path) -> None:
    goes_on = threading.Event()

    def waits(record: dict[str, Any]) -> dict[str, Any]:
        goes_on.wait(10)
        return record

    def flow(*folders: str) -> Flow:
        made, sinks = Flow(), [ParquetFiles(tmp_path / folder) for folder in folders]
        made.add_consumer(consumer(source=MemorySource([{"n": 1}, {"n": 2}]), sink=sinks, name="p")(waits))
        return made

    first = flow("out").start(engine="local")
    with pytest.raises(OutputExists, match=rf"run {first.id} is writing into .*/out"):
        flow("own", "out").run(engine="local")
    assert list((tmp_path / "own").iterdir()) == []
    goes_on.set()
    first.wait()
    first.raise_error()

    assert ds.dataset(tmp_path / "out").count_rows() == 2
    assert [name for name in os.listdir(tmp_path / "out") if name.startswith(".")] == []


def test_partitions_by_a_column_with_an_underscore_are_seen(tmp_path: Path) -> None:
    sink = folder_sink(tmp_path, partition_by=["_day"])
    write(sink, pa.record_batch({"a": [1], "_day": [3]}))

    assert ParquetFiles(tmp_path).schema().names == ["a", "_day"]
    with pytest.raises(OutputExists, match=r"holds 1 file\(s\)"):
        write(sink, pa.record_batch({"a": [2], "_day": [3]}))


def test_append_keeps_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("a\n1\n")

    write(folder_sink(tmp_path, if_exists="append", format=CsvFormat()), pa.record_batch({"a": [2]}))

    assert ds.dataset(tmp_path, format="csv").count_rows() == 2


def test_overwrite_removes_old_files_and_the_folders_they_leave_empty(tmp_path: Path) -> None:
    for name in ("p=1/q=1/old.parquet", "p=2/old.parquet", "_keep/me"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()

    write(
        folder_sink(tmp_path, if_exists="overwrite", partition_by=["p"]),
        pa.record_batch({"p": [2], "n": [1]}),
    )

    assert files(tmp_path) == ["_keep/me", "p=2/part-20260101-120000-ab-0-0-0.parquet"]
    assert sorted(os.listdir(tmp_path)) == ["_keep", "p=2"]


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    with pytest.raises(SinkError, match="out is a file; a sink writes into a folder"):
        folder_sink(tmp_path / "out").start(RUN)


def test_a_folder_that_cannot_be_made_is_refused_before_data_moves(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SinkError, match=f"writing to {tmp_path}/file/out"):
        folder_sink(tmp_path / "file" / "out").start(RUN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_data_moves(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(SinkError, match="no permission"):
        folder_sink(tmp_path).start(RUN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"if_exists": "replace"}, "if_exists is 'replace'; it can be"),
        ({"partition_by": "zone"}, r"give a list: \['zone'\]"),
        ({"max_rows_per_file": 0}, "max_rows_per_file is 0; it must be at least 1"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        folder_sink(tmp_path, **options)


FULL_DISK = """
import os, pickle, resource, signal, sys
import pyarrow as pa
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from raflow.errors import SinkError
from raflow.sinks import SinkContext
sink = pickle.load(sys.stdin.buffer)
writer = sink.open(SinkContext("run"))
writer.begin("0", 0)
try:
    for _ in range(100):
        writer.write(pa.record_batch({"body": [os.urandom(100_000)]}))
    writer.prepare()
except SinkError as error:
    writer.abort()
    writer.close()
    print(error)
"""


@pytest.mark.parametrize("kind", [ParquetFormat(), JsonLinesFormat("gzip")], ids=lambda kind: kind.suffix)
def test_a_write_that_the_disk_refuses_is_one_error_and_leaves_nothing(tmp_path: Path, kind: Any) -> None:
    sink = folder_sink(tmp_path, format=kind)
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK],
        input=pickle.dumps(sink),
        capture_output=True,
        check=False,
    )

    assert child.stdout.decode().startswith(f"writing to {tmp_path}: "), child.stderr.decode()
    assert "File too large" in child.stdout.decode()
    assert child.stderr.decode() == ""
    assert files(tmp_path) == []


def test_publishing_where_the_folder_was_taken_away_is_a_sink_error(tmp_path: Path) -> None:
    sink = folder_sink(tmp_path / "out")
    sink.start(RUN)
    writer = opened(sink)
    writer.write(pa.record_batch({"a": [1]}))
    parts = writer.prepare()
    (tmp_path / "out").rename(tmp_path / "moved")

    with pytest.raises(SinkError, match=f"publishing {parts[0].target}: it does not exist"):
        sink.commit(parts)


def test_two_attempts_of_a_unit_never_share_a_file(tmp_path: Path) -> None:
    sink = folder_sink(tmp_path)
    sink.start(RUN)
    zombie, again = opened(sink), opened(sink)
    zombie.write(pa.record_batch({"a": [1, 1]}))
    again.write(pa.record_batch({"a": [2]}))

    parts = again.prepare()
    zombie.prepare()
    sink.commit(parts)

    assert pq.read_table(parts[0].target)["a"].to_pylist() == [2]


def test_the_sink_says_where_it_can_run_and_hides_its_keys(tmp_path: Path) -> None:
    secret = FolderSink(Location.of("s3://bucket/out", {"key": "k", "secret": "hush"}), ParquetFormat())

    assert folder_sink(tmp_path).one_node
    assert FolderSink(Location.of("memory://x"), ParquetFormat()).local_only
    assert (secret.one_node, secret.local_only) == (False, False)
    assert "hush" not in repr(secret)
    assert pickle.loads(pickle.dumps(secret)) == secret
