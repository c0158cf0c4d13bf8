"""The Flow that `tests.benchmarks.http` loads, and the same application without raflow beside it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from raflow import Flow
from raflow.connectors.files import JsonLinesFiles, ParquetFiles
from raflow.http import WebSocket

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


async def pid() -> int:
    return os.getpid()


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


def made(**options: Any) -> Flow:
    """The Flow, with options of all that it serves."""
    flow = Flow("bench")
    service = flow.service("/", **options)
    service.endpoint("/echo", "POST")(echo)
    service.endpoint("/slow")(slow)
    service.endpoint("/pid")(pid)
    service.endpoint("/talk", "WEBSOCKET")(talk)
    accepted = JsonLinesFiles(OUT / "accepted")
    flow.collector("/accepted", sink=accepted, ack="accepted", buffer_records=1_000_000, **options)(same)
    flow.collector("/written", sink=JsonLinesFiles(OUT / "written"), name="written", **options)(same)
    for name, bulk in (("bulk", JsonLinesFiles(OUT / "bulk")), ("bulk_parquet", ParquetFiles(OUT / "bulk_parquet"))):
        flow.collector(f"/{name}", sink=bulk, name=name, max_body_bytes=1 << 30, **options)(batch)
    flow.collector("/parquet", sink=ParquetFiles(OUT / "parquet"), name="parquet", linger_ms=50, **options)(same)
    return flow


def ready(url: str) -> None:
    """Wait until it answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(url, timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            assert time.monotonic() < deadline
        time.sleep(0.05)


def plain(port: int) -> None:
    """Serve the endpoint with FastAPI and uvicorn alone."""
    import fastapi
    import uvicorn

    app = fastapi.FastAPI()
    app.post("/echo")(echo)
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    plain(int(sys.argv[1]))
