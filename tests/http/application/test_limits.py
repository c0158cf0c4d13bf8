from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from raflow import Flow
from raflow.http import CORSMiddleware, Request
from tests.http.hosts import Gate, raw, serving


def test_requests_beyond_the_limit_get_503_and_when_to_come_back() -> None:
    app, gate = Flow(), Gate()
    service = app.service(max_concurrent_queries=1)

    @service.endpoint("/wait")
    def wait() -> int:
        gate.wait()
        return 1

    @app.service("/other").endpoint("/free")
    def free() -> int:
        return 2

    with serving(app) as client:
        found: list[httpx.Response] = []
        first = threading.Thread(target=lambda: found.append(client.get("/wait")))
        first.start()
        assert gate.reached.acquire(timeout=30)
        refused = client.get("/wait")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "service '/'" in refused.json()["detail"]
        assert client.get("/other/free").json() == 2
        gate.open.set()
        first.join()
        assert found[0].json() == 1
        assert client.get("/wait").json() == 1


def sized() -> Flow:
    app = Flow()

    @app.service(max_body_bytes=10).endpoint("/size", "POST")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.collector("/collect", max_body_bytes=10)
    def collect(record: dict[str, Any]) -> None:
        del record

    return app


@pytest.fixture(scope="module")
def small() -> Iterator[httpx.Client]:
    with serving(sized()) as client:
        yield client


@pytest.mark.parametrize("path", ["/size", "/collect"])
def test_a_body_that_says_it_is_too_large_is_413(small: httpx.Client, path: str) -> None:
    reply = small.post(path, content=b"x" * 11, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["detail"]) == (413, "the body is larger than 10 bytes")


@pytest.mark.parametrize("path", ["/size", "/collect"])
def test_a_chunked_body_is_413_once_it_is_too_large(small: httpx.Client, path: str) -> None:
    reply = small.post(path, content=iter([b"x" * 6, b"x" * 6]), headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["detail"]) == (413, "the body is larger than 10 bytes")


def test_a_body_of_just_that_size_is_taken(small: httpx.Client) -> None:
    assert small.post("/size", content=b"x" * 10).json() == 10
    assert small.post("/size", content=iter([b"x" * 5, b"x" * 5])).json() == 10


def test_an_endless_chunked_body_is_refused_before_it_ends(small: httpx.Client) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(small, head + b"8\r\n12345678\r\n" * 2).startswith(b"HTTP/1.1 413")


def test_broken_chunks_are_400_and_the_replica_lives(small: httpx.Client) -> None:
    head = b"POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(small, head + b"nonsense\r\n").startswith(b"HTTP/1.1 400")
    assert small.get("/healthz").status_code == 200


def test_middleware_sees_what_is_refused_so_that_a_browser_may_read_it() -> None:
    app, gate = Flow(), Gate()
    service = app.service("/one", max_concurrent_requests=1, max_body_bytes=10)
    service.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])

    @service.endpoint("/wait")
    def wait() -> None:
        gate.wait()

    @service.endpoint("/size", "POST")
    async def size(request: Request) -> int:
        return len(await request.body())

    with serving(app) as client:
        client.headers["Origin"] = "https://shop.example"
        first = threading.Thread(target=client.get, args=("/one/wait",))
        first.start()
        assert gate.reached.acquire(timeout=30)
        busy = client.get("/one/wait")
        gate.open.set()
        first.join()
        large, chunked = (
            client.post("/one/size", content=b"x" * 11),
            client.post("/one/size", content=iter([b"x" * 11])),
        )
    found = [(reply.status_code, reply.headers["access-control-allow-origin"]) for reply in (busy, large, chunked)]
    assert found == [(status, "https://shop.example") for status in (503, 413, 413)]
