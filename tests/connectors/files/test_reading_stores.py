"""Reading from object stores and memory, over their real protocols."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from pydantic import SecretStr

from raflow.connectors.files import ArrowFiles, CsvFiles, JsonLinesFiles, ParquetFiles
from raflow.connectors.files.listing import list_files
from raflow.credentials import Credentials
from raflow.errors import SourceError
from tests.stores import Bucket

Rows = Callable[..., list[dict[str, Any]]]

RECORDS = [{"n": n, "s": f"text {n}"} for n in range(1000)]


@pytest.fixture(params=["memory", "s3", "gs"])
def folder(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The URL of an empty folder, with the options to reach it."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}", {}
    bucket = request.getfixturevalue("s3" if request.param == "s3" else "gcs")
    return f"{request.param}://{bucket.name}/in", bucket.storage_options


def put(url: str, options: dict[str, Any], data: bytes) -> None:
    with fsspec.open(url, "wb", **options) as file:
        file.write(data)


def encoded() -> dict[str, bytes]:
    table = pa.Table.from_pylist(RECORDS)
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, row_group_size=100)
    with pa.ipc.new_file(arrow, table.schema) as file:
        file.write_table(table, max_chunksize=100)
    return {
        "parquet": parquet.getvalue(),
        "arrow": arrow.getvalue(),
        "csv": b"n,s\n" + b"".join(f"{r['n']},{r['s']}\n".encode() for r in RECORDS),
        "jsonl": b"".join(json.dumps(r).encode() + b"\n" for r in RECORDS),
    }


def test_every_format_reads_from_every_store(folder: tuple[str, dict[str, Any]], rows: Rows) -> None:
    url, options = folder
    kinds: dict[str, Any] = {
        "parquet": ParquetFiles,
        "arrow": ArrowFiles,
        "csv": CsvFiles,
        "jsonl": JsonLinesFiles,
    }
    for name, data in encoded().items():
        put(f"{url}/{name}/k=1/a", options, data)
        put(f"{url}/{name}/_SUCCESS", options, b"")
        expected = [{**record, "k": 1} for record in RECORDS]

        assert rows(kinds[name](f"{url}/{name}", storage_options=options)) == expected
        source = pickle.loads(pickle.dumps(kinds[name](f"{url}/{name}/*/*", storage_options=options)))
        assert rows(source, ranges=3 if name in ("csv", "jsonl") else 0) == expected


def test_inputs_tell_a_rewritten_object(folder: tuple[str, dict[str, Any]]) -> None:
    url, options = folder
    put(f"{url}/a.csv", options, b"a\n1\n")
    source = CsvFiles(url, storage_options=options)
    before = source.inputs()
    assert source.inputs() == before == list(source.splits()[0].inputs)
    assert before[0].version

    put(f"{url}/a.csv", options, b"a\n2\n")
    assert source.inputs() != before


def test_a_missing_object_an_empty_glob_and_an_unknown_bucket_are_told_apart(
    folder: tuple[str, dict[str, Any]],
) -> None:
    url, options = folder
    put(f"{url}/a.csv", options, b"a\n1\n")

    with pytest.raises(SourceError, match=r"no\.csv: it does not exist"):
        CsvFiles(f"{url}/no.csv", storage_options=options).splits()
    with pytest.raises(SourceError, match=r"no file matches .*/no/\*"):
        CsvFiles(f"{url}/no/*", storage_options=options).splits()
    if not url.startswith("memory"):
        for name in ("x.csv", "*.csv"):
            with pytest.raises(SourceError, match="the bucket 'no-such-bucket' does not exist"):
                CsvFiles(f"{url[:2]}://no-such-bucket/{name}", storage_options=options).splits()


@pytest.mark.parametrize("raised", [PermissionError("Access Denied"), OSError("SlowDown")])
def test_a_folder_that_a_store_does_not_list_is_named_unless_no_pattern_leads_to_it(
    s3: Bucket, rows: Rows, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    for name in ("a/1.csv", "b/1.csv", "c/1.csv"):
        put(f"{s3.url}/raw/{name}", s3.storage_options, b"v\n1\n")
    listing = s3fs.S3FileSystem._iterdir

    def refusing(self: Any, bucket: str, *rest: Any, prefix: str, **options: Any) -> Any:
        if prefix.startswith("raw/b"):
            raise raised
        return listing(self, bucket, *rest, prefix=prefix, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_iterdir", refusing)
    for pattern in ("*/1.csv", "*/*", "[b-c]/*.csv", "b/*", "*"):
        with pytest.raises(SourceError, match=f"^listing {s3.url}/raw/b: .*{raised}"):
            CsvFiles(f"{s3.url}/raw/{pattern}", storage_options=s3.storage_options).splits()
    assert len(rows(CsvFiles(f"{s3.url}/raw/[ac]/*", storage_options=s3.storage_options))) == 2


def test_a_store_is_asked_only_for_names_that_begin_as_the_pattern_does(
    s3: Bucket, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    for day in ("2023-12-31", "2024-01-01", "2024-01-02"):
        put(f"{s3.url}/raw/{day}.csv", s3.storage_options, b"v\n1\n")
    with caplog.at_level("DEBUG", "s3fs"):
        assert len(rows(CsvFiles(f"{s3.url}/raw/2024-*.csv", storage_options=s3.storage_options))) == 2
    asked = [record.getMessage() for record in caplog.records if "list_objects" in record.getMessage()]
    assert asked
    assert all("'Prefix': 'raw/2024-'" in text for text in asked)


def test_the_flow_s_keys_serve_where_there_are_no_storage_options(
    s3: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    put(f"s3://{s3.name}/a.csv", s3.storage_options, b"a\n1\n")
    keys = Credentials(aws_access_key_id="AKIATEST", aws_secret_access_key=SecretStr("hidden"))

    source = CsvFiles(f"s3://{s3.name}/a.csv").with_credentials(keys)

    assert rows(pickle.loads(pickle.dumps(source))) == [{"a": 1}]
    assert "hidden" not in repr(source) + repr(vars(source))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed_text_is_read_in_few_requests_and_a_look_at_its_beginning_reads_little(
    s3: Bucket, rows: Rows, monkeypatch: pytest.MonkeyPatch, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    data = pack(b"s\n" + b"".join(os.urandom(30).hex().encode() + b"\n" for _ in range(60_000)))
    put(f"{s3.url}/a.csv{suffix}", s3.storage_options, data)
    asked: list[int] = []
    fetch = s3fs.core._inner_fetch

    def counted(fs: Any, bucket: str, key: str, version: str | None, start: int, end: int, *rest: Any) -> Any:
        asked.append(end - start)
        return fetch(fs, bucket, key, version, start, end, *rest)

    monkeypatch.setattr(s3fs.core, "_inner_fetch", counted)
    source = CsvFiles(s3.url, schema={"s": "string"}, storage_options=s3.storage_options)
    assert source._named(list_files(source._locations)[0]) == ["s"]
    assert sum(asked) < 1 << 20

    asked.clear()
    assert len(rows(source, pa.schema([("s", pa.string())]))) == 60_000
    assert len(data) > 1500 << 10
    assert len(asked) <= 8
