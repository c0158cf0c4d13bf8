"""Inputs, outputs and descriptions that are wrong: one clear error of ours, and nothing half-written.

What goes wrong in user code and on full disks is in `test_bad_runs.py`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raflow import Flow, FlowOptions, RunFailed, consumer
from raflow.connectors.files import CsvFiles, JsonLinesFiles, ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import (
    FlowError,
    InvalidOption,
    InvalidProcessor,
    MissingExtra,
    RaflowError,
    SchemaError,
    SinkError,
    SourceError,
)
from raflow.options import Retry
from tests.stores import Bucket

TABLE = pa.table({"n": range(1000), "price": [n / 2 for n in range(1000)], "name": [f"x{n}" for n in range(1000)]})
RECORDS = MemorySource([{"n": n, "text": os.urandom(60).hex()} for n in range(40_000)], rows_per_split=5_000)
SECRET = "a-secret-that-nobody-may-see"


@dataclass
class Row:
    n: int
    price: float


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def of_row(row: Row) -> Row:
    return row


def run(code: Any, source: Any, sink: Any = None, engine: str = "local", **options: Any) -> Any:
    flow = Flow("bad")
    flow.add_consumer(consumer(source=source, sink=sink, name="p", **{"num_replicas": 1, **options})(code))
    return flow.run(engine=engine)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of good and bad files."""
    folder = tmp_path / "data"
    for name in ("empty", "mixed"):
        (folder / name).mkdir(parents=True)
    pq.write_table(TABLE, folder / "good.parquet")
    good = (folder / "good.parquet").read_bytes()
    (folder / "truncated.parquet").write_bytes(good[: len(good) // 2])
    (folder / "corrupt.parquet").write_bytes(good[:30] + bytes(2970) + good[3000:])
    (folder / "really.csv.parquet").write_text("n,price\n1,2\n")
    for suffix in ("parquet", "csv"):
        (folder / f"zero.{suffix}").touch()
    (folder / "mixed" / "a.parquet").write_bytes(good)
    pq.write_table(pa.table({"n": ["a"], "price": [1.0]}), folder / "mixed" / "b.parquet")
    text = "".join(f"{n},{n / 2},x\n" if n != 700 else f"700,1,{'z,' * 300}\n" for n in range(1000))
    (folder / "bad.csv").write_text("n,price,name\n" + text)
    text = "".join(f'{{"n":{n}}}\n' if n != 700 else f'{{"n": oops {"z" * 500}\n' for n in range(1000))
    (folder / "bad.jsonl").write_text(text)
    return folder


# -- input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code", "kind", "pattern"),
    [
        ("nope/trips.parquet", same, SourceError, r"nope/trips\.parquet: it does not exist; check the path"),
        ("nope*.parquet", same, SourceError, r"no file matches .*/nope\*\.parquet; check the path"),
        ("empty", same, SourceError, r"no file in .*/empty; check the path"),
        ("truncated.parquet", same, SourceError, r"truncated\.parquet: .*corrupted or this is not a parquet file"),
        ("really.csv.parquet", same, SourceError, r"really\.csv\.parquet: .*corrupted or this is not a parquet file"),
        ("zero.parquet", same, SourceError, r"zero\.parquet: Parquet file size is 0 bytes"),
        ("mixed", same, SchemaError, r"field 'n' is string here but int64 in the files before .*/b\.parquet"),
    ],
)
def test_input_that_cannot_be_read_is_told_by_name_before_anything_is_written(
    data: Path, name: str, code: Any, kind: type[RaflowError], pattern: str
) -> None:
    with pytest.raises(kind, match=pattern) as caught:
        run(code, ParquetFiles(data / name), ParquetFiles(data / "out"))
    assert not isinstance(caught.value, RunFailed)
    assert not (data / "out").exists()


def test_a_missing_column_is_told_with_processor_file_and_the_likely_name(data: Path) -> None:
    @dataclass
    class Misspelt:
        n: int
        prize: float
        name: int

    def code(row: Misspelt) -> None: ...

    code.__annotations__["row"] = Misspelt
    with pytest.raises(SchemaError) as caught:
        run(code, ParquetFiles(data / "good.parquet"), ParquetFiles(data / "out"))
    told = str(caught.value)
    assert "processor 'p'" in told
    assert "good.parquet" in told
    assert "no column 'prize' (did you mean 'price'?)" in told
    assert "field 'name' must be int64 but the column is string" in told
    assert not (data / "out").exists()


def test_an_empty_csv_has_no_records_and_lacks_every_column(data: Path) -> None:
    assert run(same, CsvFiles(data / "zero.csv")).stats().stages[0].counts.rows_in == 0
    with pytest.raises(SchemaError, match=r"'p' cannot read CsvFiles\(.*zero\.csv'\): there is no column 'n'"):
        run(of_row, CsvFiles(data / "zero.csv"))


def test_corrupt_data_behind_a_good_footer_leaves_nothing_behind(data: Path) -> None:
    with pytest.raises(RunFailed, match=r"reading .*/corrupt\.parquet: ") as caught:
        run(same, ParquetFiles(data / "corrupt.parquet"), ParquetFiles(data / "out"))
    assert isinstance(caught.value.__cause__, SourceError)
    assert list((data / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [(CsvFiles, 702, r"Expected 3 columns, got 303: 700,1,z"), (JsonLinesFiles, 701, r'Invalid value: \{"n": oops z')],
)
def test_a_malformed_line_is_told_with_its_file_number_and_text(
    data: Path, source: Callable[..., Any], line: int, text: str
) -> None:
    name = "bad.csv" if source is CsvFiles else "bad.jsonl"
    with pytest.raises(RunFailed, match=rf"{name} line {line}: .*{text}") as caught:
        run(same, source(data / name), ParquetFiles(data / "out"))
    assert "z" * 250 not in str(caught.value)
    assert list((data / "out").iterdir()) == []
    letters, kept = MemorySink(), MemorySink()
    run(same, source(data / name), kept, on_error=letters)
    (letter,) = letters.records()
    assert len(letter["record"]) == 200
    assert letter["position"] == f"{data / name} line {line}"
    assert [record["n"] for record in kept.records()] == [n for n in range(1000) if n != 700]


def test_lines_are_numbered_from_the_start_of_the_file_in_every_byte_range(data: Path) -> None:
    lines = (f"{n},{'y' * 40}\n" if n != 390_000 else "390000,a,b\n" for n in range(400_000))
    (data / "big.csv").write_text("n,text\n" + "".join(lines))
    with pytest.raises(RunFailed, match=r"big\.csv line 390002: ") as caught:
        run(arrow, CsvFiles(data / "big.csv"))
    assert "bytes 0-" not in str(caught.value.split)


def arrow(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def test_five_bad_lines_among_many_are_skipped_counted_and_nothing_else(data: Path) -> None:
    bad = {50: "50,1,2\n", 70: "seventy,1\n", 100_000: '"x,1,2\n', 150_000: "1.5,1\n", 199_999: "199999\n"}
    lines = (bad.get(n, f"{n},{n / 2}\n") for n in range(200_000))
    (data / "many.csv").write_text("n,price\n" + "".join(lines))
    finished = run(of_row, CsvFiles(data / "many.csv"), ParquetFiles(data / "out"), on_error="skip", num_replicas=2)
    assert finished.stats().stages[0].counts.skipped == 5
    found = ds.dataset(data / "out").to_table().sort_by("n")
    assert found["n"].to_pylist() == [n for n in range(200_000) if n not in bad]


# -- output ---------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written_is_told_before_data_moves(data: Path) -> None:
    good, file = ParquetFiles(data / "good.parquet"), data / "bad.csv"
    with pytest.raises(SinkError, match=r"bad\.csv is a file; a sink writes into a folder"):
        run(same, good, ParquetFiles(file))
    with pytest.raises(SinkError, match=r"writing to .*/bad\.csv/below: .*Not a directory"):
        run(same, good, ParquetFiles(file / "below"))
    with pytest.raises(SinkError, match=r"mixed already holds 2 file\(s\), such as a\.parquet; set if_exists="):
        run(same, good, ParquetFiles(data / "mixed"))
    assert sorted(path.name for path in (data / "mixed").iterdir()) == ["a.parquet", "b.parquet"]


def test_a_partition_column_that_is_missing_is_told_with_those_there_are(data: Path) -> None:
    sink = ParquetFiles(data / "out", partition_by="zone")
    with pytest.raises(RunFailed, match="partition_by names 'zone', but the records have: n, price, name"):
        run(same, ParquetFiles(data / "good.parquet"), sink)
    assert list((data / "out").iterdir()) == []


# -- the description ------------------------------------------------------------------------------


def two(first: dict, second: dict) -> None: ...  # type: ignore[type-arg]
def none() -> None: ...
def of_lock(record: threading.Lock) -> None: ...
def of_int(record: int) -> None: ...
def unknown(record: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("code", "options", "kind", "pattern"),
    [
        (two, {}, InvalidProcessor, "'p' must take one record or batch; its parameters are: first: 'dict', second"),
        (none, {}, InvalidProcessor, "'p' must take one record or batch; its parameters are: none"),
        (of_lock, {}, InvalidProcessor, "processor 'p': a function cannot get .*lock.*; annotate .* with dict, a data"),
        (of_int, {}, InvalidProcessor, "processor 'p': a function cannot get int; annotate"),
        (unknown, {}, InvalidProcessor, "processor 'p': its annotations use 'Nowhere', which its module does not"),
        (same, {"num_replicsa": 2}, InvalidOption, "no option 'num_replicsa'; options are: .*num_replicas"),
        (same, {"num_replicas": "many"}, InvalidOption, "num_replicas is 'many': .*integer"),
        (same, {"num_replicas": 0}, InvalidOption, "num_replicas is 0: .*greater than or equal to 1"),
        (same, {"on_error": "ignore"}, InvalidOption, 'on_error is \'ignore\'; it can be "fail", "skip" or a sink'),
        (same, {"retry": Retry(times=1), "batch_rows": -1}, InvalidOption, "batch_rows is -1"),
    ],
)
def test_a_wrong_description_is_refused_before_anything_runs(
    code: Any, options: dict[str, Any], kind: type[FlowError], pattern: str
) -> None:
    with pytest.raises(kind, match=pattern):
        run(code, RECORDS, **options)


def test_a_url_without_its_driver_says_what_to_install() -> None:
    with pytest.raises(MissingExtra, match=r"abfs://c/x\.parquet needs .* not installed: pip install adlfs"):
        run(same, ParquetFiles("abfs://c/x.parquet"))
    with pytest.raises(InvalidOption, match=r"nonsense://c/x\.parquet .*Protocol not known"):
        run(same, ParquetFiles("nonsense://c/x.parquet"))


# -- stores and secrets ---------------------------------------------------------------------------


def test_an_unknown_bucket_is_told_by_name(s3: Bucket) -> None:
    with pytest.raises(SourceError, match="the bucket 'nonesuch' does not exist; check its name"):
        run(same, ParquetFiles("s3://nonesuch/x.parquet", storage_options=s3.storage_options))
    with pytest.raises(SinkError, match="s3://nonesuch/out: the bucket 'nonesuch' does not exist; check its name"):
        run(same, RECORDS, ParquetFiles("s3://nonesuch/out", storage_options=s3.storage_options))


def test_a_ledger_that_cannot_be_read_is_told_by_name(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    keys = {"aws_access_key_id": "AKIA", "aws_secret_access_key": SECRET}
    flow = Flow("bad", FlowOptions(ledger_url="s3://nonesuch/ledgers", **keys))
    flow.add_consumer(consumer(source=RECORDS, name="p")(same))
    told = "the ledger of run last at s3://nonesuch/ledgers cannot be read .*: the bucket 'nonesuch' does not exist"
    with pytest.raises(SourceError, match=told) as caught:
        flow.run(engine="local", resume="last")
    assert SECRET not in str(caught.value)


UNREACHABLE = {
    "key": "AKIA",
    "secret": SECRET,
    "client_kwargs": {"endpoint_url": "http://127.0.0.1:9"},
    "config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 2},
}


def chain(error: BaseException | None) -> str:
    """All texts of an error and of those that led to it."""
    return "" if error is None else f"{error!r} {error} {chain(error.__cause__ or error.__context__)}"


@pytest.mark.parametrize(
    ("source", "sink", "pattern"),
    [
        (ParquetFiles("s3://b/x.parquet", storage_options=UNREACHABLE), None, "reading s3://b/x.parquet: Could not"),
        (RECORDS, ParquetFiles("s3://b/out", storage_options=UNREACHABLE), "writing to s3://b/out: Could not connect"),
        (ParquetFiles(f"https://me:{SECRET}@127.0.0.1:9/x.parquet?token={SECRET}"), None, r"https://\*\*\*@127"),
        (ParquetFiles("s3://b/x", storage_options={"secrett": SECRET}), None, "unexpected keyword argument 'secrett'"),
    ],
)
def test_a_store_that_cannot_be_reached_is_told_without_secrets(
    source: Any, sink: Any, pattern: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "raflow")
    with pytest.raises(RaflowError, match=pattern) as caught:
        run(same, source, sink)
    assert SECRET not in str(caught.value) + caplog.text
    assert SECRET not in repr(source) + repr(sink)


def test_wrong_google_keys_are_told_without_them() -> None:
    options = FlowOptions(gcp_service_account_info=f"/path/{SECRET}.json")
    flow = Flow("keys", options)
    flow.add_consumer(consumer(source=ParquetFiles("gs://b/x.parquet"), name="p")(same))
    with pytest.raises(InvalidOption, match="gcp_service_account_info is no JSON text; give the text") as caught:
        flow.run(engine="local")
    assert SECRET not in chain(caught.value) + repr(options) + repr(flow)


# -- permissions ----------------------------------------------------------------------------------

CLOSED = """
import os
from pathlib import Path
from raflow import Flow, FlowOptions, RaflowError
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySource

def attempt(source, sink=None, ledger="ledger"):
    flow = Flow("closed", FlowOptions(ledger_url=str(Path(ledger).absolute())))
    flow.consumer(source=source, sink=sink, name="p")(lambda record: record)
    try:
        flow.run(engine="local")
    except RaflowError as error:
        print(error)

attempt(ParquetFiles("open.parquet"), ParquetFiles("out"), "first-ledger")  # imports what is imported late
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
attempt(ParquetFiles("closed/file.parquet"))
attempt(ParquetFiles("closed/folder"))
attempt(ParquetFiles("closed/folder/*.parquet"))
attempt(ParquetFiles("c*/*/one.parquet"))
attempt(ParquetFiles("closed/**/one.parquet"))
attempt(ParquetFiles("closed/f*r"))
attempt(ParquetFiles("closed/x*/one.parquet"))
attempt(ParquetFiles("closed"))
attempt(MemorySource([{"n": 1}]), ParquetFiles("closed/out"))
attempt(MemorySource([{"n": 1}]), ledger="closed/ledger")
"""


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder with data that this user, or nobody where this user is root, may not read or change."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = work / "closed" / "folder"
        folder.mkdir(parents=True)
        for path in (folder.parent / "file.parquet", folder / "one.parquet", work / "open.parquet"):
            pq.write_table(TABLE, path)
        (folder.parent / "file.parquet").chmod(0o000)
        folder.chmod(0o000)
        folder.parent.chmod(0o555)
        work.chmod(0o777)
        yield work
        folder.parent.chmod(0o755)
        folder.chmod(0o755)


def test_what_this_user_may_not_do_is_told_by_name(closed: Path) -> None:
    (closed / "program.py").write_text(CLOSED)
    ended = subprocess.run(
        [sys.executable, "program.py"], check=False, cwd=closed, capture_output=True, text=True, timeout=60
    )
    told = ended.stdout.splitlines()
    expected = [
        "closed/file.parquet: no permission; check the rights of this user",
        *[f"listing {closed}/closed/folder: no permission"] * 5,
        "no file matches",
        f"listing {closed}/closed/folder: no permission",
        "closed/out: no permission",
        "closed/ledger cannot be written (see RAFLOW_LEDGER and FlowOptions.ledger_url): no permission",
    ]
    assert len(told) == len(expected), ended.stderr
    assert [line for want, line in zip(expected, told, strict=True) if want not in line] == []
