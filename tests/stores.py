"""Real object stores on free ports, a bucket for each test, and how the tests read a whole source."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pytest

from raflow.connectors.files.files import Files
from raflow.sources import Rejected

# gcsfs asks over gRPC for the kind of each bucket, which no emulator answers: it would wait a minute.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


class Bucket(NamedTuple):
    """A bucket of a store that runs for the session."""

    endpoint: str
    name: str
    storage_options: dict[str, Any]
    protocol: str

    @property
    def url(self) -> str:
        """The bucket's URL."""
        return f"{self.protocol}://{self.name}"


def _missing(service: str, reason: Exception) -> None:
    message = f"{service} is not installed: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as missing:
        _missing("moto", missing)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    try:
        from gcp_storage_emulator.server import create_server
    except ImportError as missing:
        _missing("gcp-storage-emulator", missing)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint: str) -> Bucket:
    """A fresh bucket of an S3 server, with the options to reach it."""
    # The server's answer for an upload that is gone is an error of its own, which a client would try again for 10 s.
    few = {"retries": {"total_max_attempts": 2}}
    options = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": s3_endpoint}, "config_kwargs": few}
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", **options).mkdir(name)
    return Bucket(s3_endpoint, name, options, "s3")


@pytest.fixture
def gcs(gcs_endpoint: str) -> Bucket:
    """A fresh bucket of a Google Cloud Storage server, with the options to reach it."""
    options = {"token": "anon", "endpoint_url": gcs_endpoint, "project": "test"}
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("gs", **options).mkdir(name)
    return Bucket(gcs_endpoint, name, options, "gs")


@pytest.fixture
def read() -> Callable[..., tuple[pa.Table, list[Rejected]]]:
    """Reads all splits: `read(source, columns=None, ranges=0)` returns records and what was rejected."""
    return _read


@pytest.fixture
def rows() -> Callable[..., list[dict[str, Any]]]:
    """Like `read`, for a source without bad records: returns its records as dictionaries."""

    def good_rows(source: Files, columns: pa.Schema | None = None, ranges: int = 0) -> list[dict[str, Any]]:
        table, rejected = _read(source, columns, ranges)
        assert rejected == []
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    return good_rows


def _read(source: Files, columns: pa.Schema | None = None, ranges: int = 0) -> tuple[pa.Table, list[Rejected]]:
    rejected: list[Rejected] = []
    wanted = source.schema() if columns is None else columns
    splits = [replace(split, payload=_cut(split.payload, ranges)) for split in source.splits()]
    batches = [batch for split in splits for batch in source.read(split, wanted, rejected.append)]
    assert all(batch.schema.equals(wanted) for batch in batches)
    return pa.Table.from_batches(batches, wanted), rejected


def _cut(payload: list[list[Any]], ranges: int) -> list[list[Any]]:
    """Return byte ranges each cut into so many; 0 leaves them as they are."""
    pieces = []
    for root, path, start, stop, *rest in payload:
        if not ranges:
            pieces.append([root, path, start, stop, *rest])
        for n in range(ranges):
            bounds = (start + (stop - start) * n // ranges, start + (stop - start) * (n + 1) // ranges)
            pieces.append([root, path, *bounds, *rest])
    return pieces
