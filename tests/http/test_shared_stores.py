"""Two replicas of a Flow that share a store: each has an application and a copy of the store of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import pytest

from raflow import Flow
from raflow.errors import InvalidOption
from raflow.http import RateLimit, Signature
from raflow.stores import SqlAllowances, SqlReplies
from tests.http.hosts import serving
from tests.http.sinks import HeldSink

KEY = {"Idempotency-Key": "7"}


def orders(database: str, sink: HeldSink, **options: Any) -> Flow:
    app = Flow("orders")

    @app.collector("/orders", sink=sink, idempotency_store=SqlReplies(database), **options)
    def take(order: dict[str, Any]) -> dict[str, Any]:
        return order

    return app


@contextmanager
def replicas(one: Flow, other: Flow) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    with serving(one) as first, serving(other) as second:
        yield first, second


def test_a_repeated_key_gets_the_same_reply_from_another_replica_and_one_row(database: str) -> None:
    sink = HeldSink()
    with replicas(orders(database, sink), orders(database, sink)) as (first, second):
        one = first.post("/orders", json={"n": 1}, headers=KEY)
        other = second.post("/orders", json={"n": 1}, headers=KEY)
        assert one.json() == other.json() == {"success": True, "records": 1}
        assert (one.status_code, other.status_code) == (200, 200)
        assert "idempotent-replayed" not in one.headers
        assert other.headers["idempotent-replayed"] == "true"
        assert other.headers["content-type"] == one.headers["content-type"]
        assert second.post("/orders", json={"n": 2}, headers=KEY).status_code == 422
    assert sink.ns() == [1]


def test_another_replica_waits_while_the_first_one_works(database: str) -> None:
    sink, found = HeldSink(), list[httpx.Response]()
    sink.go.clear()
    with replicas(orders(database, sink), orders(database, sink)) as clients:
        asking = [
            threading.Thread(target=lambda to=to: found.append(to.post("/orders", json={"n": 1}, headers=KEY)))
            for to in clients
        ]
        asking[0].start()
        assert sink.reached.acquire(timeout=30)
        asking[1].start()
        assert not sink.reached.acquire(timeout=0.3)
        sink.go.set()
        for thread in asking:
            thread.join()
    assert [reply.json() for reply in found] == [{"success": True, "records": 1}] * 2
    assert sink.ns() == [1]


def test_what_failed_in_one_replica_is_done_by_the_next(database: str) -> None:
    sink = HeldSink()
    sink.breaks = 1
    with replicas(orders(database, sink), orders(database, sink)) as (first, second):
        assert first.post("/orders", json={"n": 1}, headers=KEY).status_code == 503
        assert second.post("/orders", json={"n": 1}, headers=KEY).status_code == 200
    assert sink.ns() == [1]


def test_a_key_means_something_in_its_collector_alone(database: str) -> None:
    app, store, sink = Flow("orders"), SqlReplies(database), HeldSink()
    for name in ("one", "two"):
        app.collector(f"/{name}", sink=sink, name=name, idempotency_store=store)(lambda record: record)
    with serving(app) as client:
        assert [client.post(f"/{name}", json={"n": 1}, headers=KEY).status_code for name in ("one", "two")] == [200] * 2
    assert sink.ns() == [1, 1]


GONE = "postgresql://ada:hush@127.0.0.1:1/shop"


def test_without_its_store_a_keyed_request_is_told_to_come_again_and_nothing_is_done() -> None:
    sink = HeldSink()
    app = orders(GONE, sink)
    with serving(app) as client:
        refused = client.post("/orders", json={"n": 1}, headers=KEY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert set(refused.json()) == {"detail", "error_id"}
        assert client.post("/orders", json={"n": 2}).status_code == 200
    assert sink.ns() == [2]


def limited(url: str) -> Flow:
    app = Flow("limited")
    service = app.service()
    service.add_middleware(RateLimit, requests=3, per_s=1000, store=SqlAllowances(url))

    @service.endpoint("/")
    def root() -> str:
        return "ok"

    return app


def test_replicas_share_an_allowance(database: str) -> None:
    with replicas(limited(database), limited(database)) as (first, second):
        found = [to.get("/").status_code for to in (first, second, first, second, first)]
    assert found == [200, 200, 200, 429, 429]


def test_without_its_store_a_limited_request_is_told_to_come_again() -> None:
    with serving(limited(GONE)) as client:
        assert client.get("/").status_code == 503


def test_a_signed_request_that_came_to_one_replica_is_refused_by_the_other(database: str) -> None:
    signer = Signature("hush")

    def hooks() -> Flow:
        app, signed = Flow("hooks"), Signature("hush", store=SqlReplies(database))

        @app.service().endpoint("/hook", "POST")
        async def hook(body: Annotated[bytes, signed]) -> int:
            return len(body)

        return app

    with replicas(hooks(), hooks()) as (first, second):
        headers = {"X-Signature": signer.sign(b"abc")}
        assert first.post("/hook", content=b"abc", headers=headers).json() == 3
        assert second.post("/hook", content=b"abc", headers=headers).status_code == 401
        assert first.post("/hook", content=b"abc", headers=headers).status_code == 401
        assert second.post("/hook", content=b"d", headers={"X-Signature": signer.sign(b"d")}).json() == 1


def test_what_is_no_store_is_refused_at_once() -> None:
    app = Flow("limited")
    app.service().add_middleware(RateLimit, requests=3, per_s=1, store="sqlite:////tmp/a.db")
    with pytest.raises(InvalidOption, match="idempotency_store"):
        app.collector("/a", idempotency_store="sqlite:////tmp/a.db")
    with pytest.raises(InvalidOption, match="must be a ReplyStore"):
        Signature("hush", store="sqlite:////tmp/a.db")  # type: ignore[arg-type]
    app.services[0].endpoint("/")(lambda: None)
    with pytest.raises(InvalidOption, match="must be one of Allowances"):
        app.asgi()
