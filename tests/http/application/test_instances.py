from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySink
from tests.http.hosts import serving

told: list[str] = []


class Counter:
    def setup(self) -> None:
        told.append(f"setup in a thread: {threading.current_thread() is not threading.main_thread()}")
        self.number = 10

    def process(self, step: int = 1) -> int:
        self.number += step
        return self.number

    def teardown(self) -> None:
        told.append(f"teardown at {self.number}")


class AsyncCounter:
    def __init__(self) -> None:
        self.seen = 0

    async def setup(self) -> None:
        told.append("async setup")

    async def process(self, record: dict[str, Any]) -> dict[str, Any]:
        self.seen += 1
        return {**record, "seen": self.seen}

    async def teardown(self) -> None:
        told.append("async teardown")


class Broken:
    def setup(self) -> None:
        msg = "no model"
        raise RuntimeError(msg)

    def process(self) -> None: ...


@pytest.fixture(autouse=True)
def _forget() -> None:
    told.clear()


def test_one_instance_serves_all_requests_and_is_torn_down() -> None:
    app, sink = Flow(), MemorySink()
    endpoint = app.service().endpoint("/count")(Counter)
    app.collector("/collect", sink=sink)(AsyncCounter)
    with serving(app) as client:
        assert client.get("/count").json() == 11
        assert client.get("/count", params={"step": 5}).json() == 16
        assert client.get("/count", params={"step": "x"}).status_code == 422
        client.post("/collect", json={"n": 1})
        client.post("/collect", json={"n": 2})
        assert told == ["setup in a thread: True", "async setup"]
    assert told[2:] == ["async teardown", "teardown at 16"]
    assert sink.records() == [{"n": 1, "seen": 1}, {"n": 2, "seen": 2}]
    assert isinstance(endpoint(), Counter)


def test_what_was_set_up_before_a_failure_is_torn_down_and_nothing_is_served() -> None:
    app = Flow()
    service = app.service()
    service.endpoint("/count")(Counter)
    service.endpoint("/broken")(Broken)
    asgi = app.asgi()

    async def start() -> None:
        async with asgi.router.lifespan_context(asgi):
            pytest.fail("it has started")

    with pytest.raises(RuntimeError, match="no model"):
        asyncio.run(start())
    assert told[-1] == "teardown at 10"
