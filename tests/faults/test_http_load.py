"""Load while an HTTP replica is killed, another one joins and one leaves: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from raflow import Flow, FlowOptions
from raflow.connectors.files import JsonLinesFiles
from raflow.runtime.run import Run

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

CLIENTS = 16
WAIT_S = 90.0


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def who() -> int:
    return os.getpid()


class Load:
    """Clients that post numbered records, one after the other, and note what became of each."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.acked: set[str] = set()
        self.failed: dict[str, str] = {}
        self.over = asyncio.Event()

    async def client(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self.url, timeout=WAIT_S) as client:
            count = 0
            while not self.over.is_set():
                name, count = f"{number}.{count}", count + 1
                try:
                    reply = await client.post("/records", json={"name": name})
                except httpx.TransportError as error:
                    self.failed[name] = repr(error)
                    continue
                if reply.status_code == 200:
                    self.acked.add(name)
                else:
                    self.failed[name] = f"{reply.status_code} {reply.text}"

    async def more(self) -> None:
        """Wait until each client has been answered some more times."""
        least = len(self.acked) + 20 * CLIENTS
        while len(self.acked) < least:
            await asyncio.sleep(0.01)


async def serving(run: Run, replicas: int) -> None:
    while (http := run.stats().http) is None or (http.replicas, http.leaving, http.starting) != (replicas, 0, 0):
        await asyncio.sleep(0.02)


async def loaded(run: Run) -> tuple[Load, int]:
    """Kill, join and leave under load; returns the load, and how many had failed just after the kill."""
    load = Load(run.url or "")
    await serving(run, 2)
    clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
    await load.more()
    async with httpx.AsyncClient(timeout=WAIT_S) as client:
        os.kill((await client.get(f"{run.url}/who")).json(), signal.SIGKILL)
    await load.more()
    await serving(run, 2)
    killed = len(load.failed)
    run.scale(3)
    await serving(run, 3)
    await load.more()
    run.scale(2)
    await serving(run, 2)
    await load.more()
    load.over.set()
    await asyncio.gather(*clients)
    return load, killed


def test_acknowledged_records_are_there_once_while_replicas_die_join_and_leave(tmp_path: Path) -> None:
    flow = Flow("loaded", FlowOptions(num_cpus=0.5))
    options: dict[str, Any] = {"min_replicas": 2, "max_replicas": 3, "target_ongoing_requests": 100.0}
    flow.collector("/records", sink=JsonLinesFiles(tmp_path / "out"), name="records", **options)(same)
    flow.service(**options).endpoint("/who")(who)
    run = flow.start(engine="ray", port=0)
    try:
        load, killed = asyncio.run(asyncio.wait_for(loaded(run), 2 * WAIT_S - 30))
    finally:
        run.drain()
        assert run.wait(WAIT_S)
    files = [path.read_text() for path in (tmp_path / "out").glob("[!.]*.jsonl")]
    rows = Counter(json.loads(line)["name"] for text in files for line in text.splitlines())
    assert len(load.failed) == killed <= CLIENTS, load.failed
    assert load.acked <= set(rows) <= load.acked | set(load.failed)
    assert set(rows.values()) == {1}
    http = run.stats().http
    assert http is not None
    assert (http.replicas_lost, http.cut) == (1, 0)
