"""Each store stages invisibly and publishes whole files, from another process than the writer's."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from raflow.connectors.files.formats import ParquetFormat
from raflow.connectors.files.writing import FolderSink, visible_files
from raflow.errors import OutputExists, SinkError
from raflow.places import Location
from raflow.sinks import Part, SinkContext

# The emulator does not speak gRPC, over which gcsfs otherwise asks for a minute what kind a bucket is.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

RUN = SinkContext("20260101-120000-ab")

WRITE_AND_DIE = """
import os, pickle, signal, sys
from raflow.sinks import SinkContext
sink, run_id, batches = pickle.load(sys.stdin.buffer)
writer = sink.open(SinkContext(run_id))
writer.begin("7", 0)
for batch in batches[:-1] if "unfinished" in sys.argv else batches:
    writer.write(batch)
if "unfinished" not in sys.argv:
    sys.stdout.buffer.write(pickle.dumps(writer.prepare()))
    sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Store:
    """One empty folder in a store."""

    kind: str
    location: Location

    def sink(self, **options: Any) -> FolderSink:
        return FolderSink(self.location, ParquetFormat(), **options)

    def visible(self) -> list[str]:
        return visible_files(self.location)

    def rows(self) -> int:
        fs, path = self.location.fs, self.location.path
        return int(ds.dataset(path, filesystem=fs, format="parquet", partitioning="hive").count_rows())

    def leftovers(self) -> list[str]:
        """Names of everything in the store that no reader sees."""
        fs, path = self.location.fs, self.location.path
        if self.kind == "s3":
            bucket = path.partition("/")[0]
            return [upload["Key"] for upload in fs.list_multipart_uploads(bucket)]
        return [name for name in fs.find(path, withdirs=True) if "/." in name]


@pytest.fixture(params=["local", "s3", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that several processes reach."""
    kind: str = request.param
    if kind == "local":
        return Store(kind, Location.of(tmp_path / "out"))
    bucket = request.getfixturevalue(kind)
    protocol = {"s3": "s3", "gcs": "gs"}[kind]
    return Store(kind, Location.of(f"{protocol}://{bucket.name}/folder/out", bucket.storage_options))


@pytest.fixture
def memory() -> Iterator[Store]:
    """The memory store, which this process alone reaches."""
    yield Store("memory", Location.of("memory://out"))
    fsspec.filesystem("memory").rm("/out", recursive=True)


def batch(rows: int, zone: int = 0) -> pa.RecordBatch:
    numbers = pa.array(range(rows), pa.int64())
    return pa.record_batch({"n": numbers, "f": numbers.cast(pa.float64()), "zone": [zone] * rows})


def die_writing(sink: FolderSink, batches: list[pa.RecordBatch], *options: str) -> list[Part]:
    """Write a unit in another process, which is killed before it ends."""
    child = subprocess.run(
        [sys.executable, "-c", WRITE_AND_DIE, *options],
        input=pickle.dumps((sink, RUN.run_id, batches)),
        capture_output=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    return pickle.loads(child.stdout) if child.stdout else []


def staged(sink: FolderSink, *batches: pa.RecordBatch, unit: str = "7", attempt: int = 0) -> list[Part]:
    writer = sink.open(RUN)
    writer.begin(unit, attempt)
    for one in batches:
        writer.write(one)
    return writer.prepare()


def test_parts_of_a_killed_writer_are_invisible_until_another_process_publishes_them(store: Store) -> None:
    # Given a writer that prepared two files, and was killed
    sink = store.sink(partition_by=["zone"])
    started = sink.start(RUN)
    parts = die_writing(sink, [batch(30_000, zone=1), batch(5, zone=2)])
    assert [part.rows for part in parts] == [30_000, 5]
    assert store.visible() == []

    # When this process publishes them, twice as after a crash between commit and its note in the ledger
    sink.commit(parts)
    sink.commit(parts)
    sink.finish(RUN, started)

    # Then they are whole, and nothing is left over
    assert store.rows() == 30_005
    assert len(store.visible()) == 2
    assert store.leftovers() == []
    assert all(part.target.endswith(tuple(store.visible())) for part in parts)


def test_resume_removes_what_a_killed_writer_left(store: Store) -> None:
    sink = store.sink(partition_by=["zone"])
    sink.start(RUN)
    claim = store.leftovers()
    die_writing(sink, [batch(10, zone=1)])
    die_writing(sink, [batch(10, zone=1), batch(1)], "unfinished")

    sink.resume(RUN)
    assert store.visible() == []
    assert len(store.leftovers()) == len(claim)

    sink.give_up(RUN)
    assert store.leftovers() == []


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
@pytest.mark.parametrize("begin", ["start", "resume"])
def test_a_run_is_refused_while_another_one_is_known_to_write_into_the_folder(store: Store, begin: str) -> None:
    sink = store.sink()
    sink.start(RUN)
    other = SinkContext("20260102-b", is_alive=lambda run_id: run_id == RUN.run_id)

    with pytest.raises(OutputExists, match=f"run {RUN.run_id} is writing into .*/out; wait for its end or stop it"):
        getattr(sink, begin)(other)
    sink.give_up(other)
    getattr(replace(sink, if_exists="append"), begin)(other)
    sink.give_up(RUN)
    getattr(sink, begin)(other)
    sink.give_up(other)

    assert store.leftovers() == []


@pytest.mark.parametrize("store", ["local", "s3"], indirect=True)
def test_what_a_run_has_left_of_which_nothing_is_known_keeps_no_other_from_starting(store: Store) -> None:
    sink = store.sink()
    sink.start(RUN)
    staged(sink, batch(10))

    sink.start(SinkContext("20260102-b"))
    sink.start(SinkContext("20260103-c", is_dead=lambda run_id: True))
    sink.give_up(SinkContext("20260103-c"))

    assert store.leftovers() == []


def test_the_next_run_sweeps_dead_runs_and_no_other(store: Store) -> None:
    sink = store.sink()
    sink.start(RUN)
    parts = staged(sink, batch(10))

    sink.start(SinkContext("20260102-alive", is_dead=lambda run_id: run_id == "20260101-120000"))
    sink.commit(parts)  # it was not swept, though its id begins as a dead one's does
    assert store.rows() == 10

    staged(sink, batch(10), attempt=1)
    append = replace(sink, if_exists="append")
    append.start(SinkContext("20260102-b", is_dead=lambda run_id: run_id == RUN.run_id))
    append.finish(SinkContext("20260102-b"), [])
    append.finish(SinkContext("20260102-alive"), [])

    assert store.leftovers() == []
    assert store.rows() == 10


def test_discard_removes_staged_and_published_files_and_forgives_repetition(store: Store) -> None:
    sink = store.sink()
    started = sink.start(RUN)
    published, dropped = staged(sink, batch(10)), staged(sink, batch(10), unit="8")
    sink.commit(published)

    for _ in range(2):
        sink.discard([*published, *dropped])

    sink.finish(RUN, started)
    assert store.visible() == []
    assert store.leftovers() == []


def test_a_unit_repeated_with_other_partitions_replaces_the_first_attempt(store: Store) -> None:
    sink = store.sink(partition_by=["zone"])
    sink.start(RUN)
    first = staged(sink, batch(10, zone=1))
    sink.commit(first)

    sink.discard(first)
    second = staged(sink, batch(10, zone=2), attempt=1)
    sink.commit(second)
    sink.discard(first)

    assert store.rows() == 10
    assert [name.partition("/")[0] for name in store.visible()] == ["zone=2"]


def test_a_dropped_upload_cannot_be_published(store: Store) -> None:
    sink = store.sink()
    sink.start(RUN)
    parts = staged(sink, batch(10))
    sink.discard(parts)

    if store.kind == "gcs":
        # The emulator cancels no sessions; a ledger without the remainder comes to the same.
        parts = [replace(part, payload=None) for part in parts]
    with pytest.raises(SinkError, match=f"publishing {parts[0].target}") as caught:
        sink.commit(parts)
    assert "upload_id" not in "".join(map(str, (caught.value, caught.value.__cause__)))
    assert store.visible() == []


# gcsfs hands whole chunks to aiohttp, which would rather stream them.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_files_of_several_chunks_are_published_whole(store: Store) -> None:
    sink = store.sink()
    sink.start(RUN)
    noise = pa.array([os.urandom(1 << 20) for _ in range(20)])

    parts = staged(sink, pa.record_batch({"noise": noise}))
    assert parts[0].size_bytes > 20 << 20
    assert len(parts[0].payload or b"") < 256 << 10
    sink.commit(parts)

    fs, path = store.location.fs, store.location.path
    assert ds.dataset(path, filesystem=fs, format="parquet").to_table()["noise"].combine_chunks() == noise


def test_an_empty_file_is_published(store: Store) -> None:
    store.sink().start(RUN)
    sink = store.sink()
    token, payload = sink._staging.open(RUN.run_id, "part-empty").finish()

    sink._staging.commit(token, payload)

    assert store.visible() == ["part-empty"]
    assert store.location.fs.info(f"{store.location.path}/part-empty")["size"] == 0


def test_abort_leaves_nothing(store: Store) -> None:
    sink = store.sink(partition_by=["zone"], max_rows_per_file=5)
    started = sink.start(RUN)
    writer = sink.open(RUN)
    writer.begin("0", 0)
    writer.write(batch(12))
    writer.prepare()
    writer.abort()

    writer.begin("0", 1)
    writer.write(batch(12))
    writer.abort()
    writer.close()
    writer.abort()

    sink.finish(RUN, started)
    assert store.visible() == store.leftovers() == []


def test_overwrite_deletes_old_files_at_the_end(store: Store) -> None:
    before = store.sink(partition_by=["zone"])
    before.start(RUN)
    before.commit(staged(before, batch(3, zone=1)))
    before.finish(RUN, [])
    sink, run = store.sink(if_exists="overwrite"), SinkContext("20260102-new")
    old = sink.start(run)
    writer = sink.open(run)
    writer.begin("0", 0)
    writer.write(batch(4))
    sink.commit(writer.prepare())
    assert len(store.visible()) == 2

    sink.finish(run, old)
    sink.finish(run, old)

    assert store.visible() == ["part-20260102-new-0-0-0.parquet"]
    assert store.rows() == 4
    if store.kind == "local":
        assert os.listdir(store.location.path) == store.visible()


@pytest.mark.parametrize("store", ["s3", "gcs"], indirect=True)
def test_an_unknown_bucket_is_one_error_before_data_moves(store: Store) -> None:
    gone = Location.of(f"{store.location.protocol}://no-such-bucket/out", store.location.storage_options)

    with pytest.raises(SinkError, match="the bucket 'no-such-bucket' does not exist"):
        FolderSink(gone, ParquetFormat()).start(RUN)


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_the_sweep_reads_all_pages_of_uploads(store: Store) -> None:
    sink = store.sink(max_rows_per_file=1)
    sink.start(RUN)
    staged(sink, batch(40))
    pages = sink._staging._uploads  # type: ignore[attr-defined]
    bucket, _, prefix = store.location.path.partition("/")
    assert len(list(pages(bucket, prefix))) == 40 + 1

    sink.give_up(RUN)

    assert store.leftovers() == []


def test_memory_stages_and_publishes_in_this_process(memory: Store) -> None:
    sink = memory.sink()
    started = sink.start(RUN)
    parts = staged(sink, batch(10))
    assert memory.visible() == []

    sink.commit(parts)
    sink.commit(parts)
    sink.finish(RUN, started)
    assert memory.rows() == 10
    assert memory.leftovers() == []

    sink.discard(parts)
    sink.discard(parts)
    assert memory.visible() == []


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_readers_of_a_local_folder_ignore_what_is_staged(store: Store) -> None:
    sink = store.sink()
    sink.start(RUN)
    sink.commit(staged(sink, batch(10)))
    staged(sink, batch(10), unit="8")

    pattern = f"{store.location.path}/**/*.parquet"
    assert duckdb.sql(f"select count(*) from read_parquet('{pattern}')").fetchall() == [(10,)]
    assert store.rows() == 10
