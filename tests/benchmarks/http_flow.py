"""The Flow that `tests.benchmarks.http` loads, and the same application without raflow beside it."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raflow import Flow
from raflow.connectors.files import JsonLinesFiles, ParquetFiles

OUT = Path(os.environ.get("OUT", "demo-output/http"))


@dataclass
class Event:
    id: int
    name: str
    value: float


async def echo(event: Event) -> dict[str, object]:
    return {"id": event.id, "ok": True}


async def same(event: Event) -> Event:
    return event


def batch(events: pa.RecordBatch) -> pa.RecordBatch:
    return events


async def slow() -> str:
    await asyncio.sleep(0.5)
    return "slow"


def made(**options: Any) -> Flow:
    """The Flow, with options of its service."""
    flow = Flow("bench")
    service = flow.service("/", **options)
    service.endpoint("/echo", "POST")(echo)
    service.endpoint("/slow")(slow)
    flow.collector("/accepted", sink=JsonLinesFiles(OUT / "accepted"), ack="accepted", buffer_records=1_000_000)(same)
    flow.collector("/written", sink=JsonLinesFiles(OUT / "written"), name="written")(same)
    bulk = JsonLinesFiles(OUT / "bulk")
    flow.collector("/bulk", sink=bulk, name="bulk", max_body_bytes=1 << 30)(batch)
    flow.collector("/parquet", sink=ParquetFiles(OUT / "parquet"), name="parquet", linger_ms=50)(same)
    return flow


def plain(port: int) -> None:
    """Serve the endpoint with FastAPI and uvicorn alone."""
    import fastapi
    import uvicorn

    app = fastapi.FastAPI()
    app.post("/echo")(echo)
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    plain(int(sys.argv[1]))
