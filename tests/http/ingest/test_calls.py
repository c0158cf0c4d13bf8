"""What a collector's function raises, and how its calls share the event loop with others."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from raflow import Flow, FlowOptions
from raflow.connectors.memory import MemorySink
from raflow.http import BearerCredentials, HTTPException
from raflow.http.declared import HttpApp
from raflow.http.ingest import calls as module
from raflow.http.ingest.calls import OF_REQUEST, Calls
from tests.http.hosts import serving

sink, letters = MemorySink(), MemorySink()
app = Flow()


@app.collector("/guarded", sink=sink, on_error=letters)
def guarded(record: dict[str, Any], who: BearerCredentials) -> dict[str, Any]:
    if record["n"] > 1:
        who.check("right")
    return record


def refuse(record: dict[str, Any]) -> dict[str, Any]:
    if "status" in record:
        raise HTTPException(record["status"], {"code": "slow", "n": record["n"]}, {"Retry-After": "7"})
    if record["n"] == 13:
        sys.exit(3)
    return record


@app.collector("/plain", sink=sink, on_error=letters)
def plain(record: dict[str, Any]) -> dict[str, Any]:
    return refuse(record)


@app.collector("/awaited", sink=sink, on_error=letters)
async def awaited(record: dict[str, Any]) -> dict[str, Any]:
    return refuse(record)


@app.collector("/yielded", sink=sink, on_error=letters)
async def yielded(record: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield refuse(record)


@app.collector("/batch", sink=sink, on_error=letters)
def batch(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [refuse(record) for record in records]


@app.service().endpoint("/leaves")
def leaves() -> None:
    sys.exit(3)


@pytest.fixture(scope="module")
def host() -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture
def client(host: httpx.Client) -> httpx.Client:
    for one in (sink, letters):
        one.__init__()  # type: ignore[misc]
    return host


WAYS = pytest.mark.parametrize("path", ["/plain", "/awaited", "/yielded", "/batch"])


@pytest.mark.parametrize("body", [{"n": 2}, [{"n": 1}, {"n": 2}, {"n": 3}]], ids=["one", "bulk"])
def test_a_token_that_is_refused_in_the_function_is_told_as_such_and_nothing_is_kept(
    client: httpx.Client, body: Any
) -> None:
    reply = client.post("/guarded", json=body, headers={"Authorization": "Bearer wrong"})
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    assert reply.json() == {"detail": "not authenticated"}
    assert sink.records() == letters.records() == []


@WAYS
@pytest.mark.parametrize("status", OF_REQUEST)
def test_what_is_of_the_request_ends_it_as_it_was_raised(client: httpx.Client, path: str, status: int) -> None:
    for body in ({"n": 1, "status": status}, [{"n": 2}, {"n": 1, "status": status}]):
        reply = client.post(path, json=body)
        assert (reply.status_code, reply.headers["retry-after"]) == (status, "7")
        assert reply.json() == {"detail": {"code": "slow", "n": 1}}
    assert sink.records() == letters.records() == []


@WAYS
def test_what_is_of_a_record_keeps_its_status_headers_and_detail(client: httpx.Client, path: str) -> None:
    reply = client.post(path, json={"n": 1, "status": 409})
    assert (reply.status_code, reply.headers["retry-after"]) == (409, "7")
    assert reply.json() == {"success": False, "detail": {"code": "slow", "n": 1}, "kept": True}
    several = client.post(path, json=[{"n": 1, "status": 409}])
    assert several.json()["errors"] == [
        {"index": 0, "status": 409, "message": '{"code": "slow", "n": 1}', "kept": True}
    ]
    assert [one["error_type"] for one in letters.records()] == ["HTTPException"] * 2


@WAYS
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}], ids=["plain", "key"])
def test_user_code_that_exits_is_an_error_of_its_record_and_ends_nothing_else(
    client: httpx.Client, path: str, key: dict[str, str]
) -> None:
    reply = client.post(path, json={"n": 13}, headers=key)
    assert (reply.status_code, reply.json()["detail"], len(reply.json()["error_id"])) == (500, "internal error", 16)
    several = client.post(path, json=[{"n": 13}, {"n": 1}])
    assert several.status_code == (500 if path == "/batch" else 207)
    assert {one["error_type"] for one in letters.records()} == {"SystemExit"}
    assert client.post(path, json={"n": 1}).status_code == 200


def test_so_is_an_endpoint_that_exits(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "raflow.http"):
        reply = client.get("/leaves")
    assert (reply.status_code, reply.json()["detail"]) == (500, "internal error")
    assert [reply.json()["error_id"] in record.getMessage() for record in caplog.records] == [True]


@WAYS
def test_of_many_errors_of_a_request_a_few_are_logged_and_the_others_counted(
    client: httpx.Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "raflow.http"):
        reply = client.post(path, json=[{}] * 1_203)
    ids = [one["error_id"] for one in reply.json()["errors"]]
    if path == "/batch":
        assert (len(set(ids)), len(caplog.records)) == (1, 1)
        return
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, True, False]
    assert "and 1,200 more of the request" in caplog.records[-1].getMessage()
    assert all(one in record.getMessage() for one, record in zip(ids, caplog.records, strict=False))
    assert set(ids[3:]) == {ids[3]}


async def several(function: Any, count: int, concurrency: int = 64) -> list[Any]:
    return await Calls(function, "several", concurrency).each(range(count), {})


def test_many_records_are_worked_on_by_a_bounded_number_of_tasks_and_keep_their_order() -> None:
    most = 0

    async def double(n: int) -> int:
        nonlocal most
        most = max(most, len(asyncio.all_tasks()))
        if n % 7 == 0:
            await asyncio.sleep(0)
        return 2 * n

    assert asyncio.run(several(double, 1_000, concurrency=5)) == [2 * n for n in range(1_000)]
    assert most == 1 + 5


def test_functions_that_never_wait_leave_the_event_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TURN_S", 0.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def same(n: int) -> int:
        return n

    async def run() -> None:
        counting = asyncio.ensure_future(count())
        await several(same, 1_000)
        counting.cancel()

    asyncio.run(run())
    assert turns >= 1_000 // 64


def test_calls_under_way_have_ended_when_one_of_them_ends_the_request() -> None:
    ended = []

    async def one(n: int) -> None:
        if n == 2:
            raise HTTPException(401)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(n)

    with pytest.raises(HTTPException):
        asyncio.run(several(one, 1_000, concurrency=3))
    assert ended == [0, 1]


def test_how_many_calls_overlap_is_an_option_of_the_collector_or_of_the_flow() -> None:
    flow = Flow(flow_options=FlowOptions(concurrency=7))
    flow.collector("/a")(plain.code)
    flow.collector("/b", concurrency=1)(awaited.code)
    found = HttpApp.of(flow).all_options()
    assert {name: one.concurrency for name, one in found.items()} == {"plain": 7, "awaited": 1}  # type: ignore[attr-defined]
