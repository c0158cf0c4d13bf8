"""Real object stores on free ports: a bucket of its own for each test."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import fsspec
import pytest

# gcsfs asks over gRPC for the kind of each bucket, which no emulator answers: it would wait a minute.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


class Bucket(NamedTuple):
    """A bucket of a store that runs for the session."""

    endpoint: str
    name: str
    storage_options: dict[str, Any]


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
    options = {"key": "test", "secret": "test", "client_kwargs": {"endpoint_url": s3_endpoint}}
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", **options).mkdir(name)
    return Bucket(s3_endpoint, name, options)


@pytest.fixture
def gcs(gcs_endpoint: str) -> Bucket:
    """A fresh bucket of a Google Cloud Storage server, with the options to reach it."""
    options = {"token": "anon", "endpoint_url": gcs_endpoint, "project": "test"}
    name = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("gs", **options).mkdir(name)
    return Bucket(gcs_endpoint, name, options)
