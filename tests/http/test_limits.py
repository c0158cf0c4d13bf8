from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest

from raflow import Flow, dependency
from raflow.http import Request, StreamingResponse
from tests.http.hosts import address, serving
from tests.runtime.serving.conftest import until


class Gate:
    """What an endpoint waits at, and what tells that it does."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.open = threading.Event()

    def wait(self) -> None:
        self.reached.release()
        assert self.open.wait(30)


def raw(client: httpx.Client, text: bytes) -> bytes:
    """What the server answers to a request as bytes, until it closes or has answered."""
    with socket.create_connection(address(client), timeout=30) as connection:
        connection.sendall(text)
        reply = b""
        while b"\r\n\r\n" not in reply:
            got = connection.recv(65536)
            if not got:
                break
            reply += got
        return reply


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


def slow(gate: Gate, cancelled: threading.Event) -> Flow:
    app = Flow()
    service = app.service(request_timeout_s=0.05)

    @service.endpoint("/thread")
    def thread() -> int:
        gate.wait()
        return 1

    @service.endpoint("/loop")
    async def loop() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return 1

    @service.endpoint("/body", "POST")
    async def body(request: Request) -> int:
        return len(await request.body())

    @service.endpoint("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> Any:
            yield b"begun "
            await asyncio.to_thread(gate.wait)
            yield b"ended"

        return StreamingResponse(parts())

    return app


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def test_a_synchronous_function_that_does_not_return_is_504_and_its_result_is_dropped(gate: Gate) -> None:
    asgi = slow(gate, threading.Event()).asgi()
    with serving(asgi) as client:
        reply = client.get("/thread")
        assert (reply.status_code, reply.json()) == (504, {"detail": "there was no reply within 0.05 s"})
        assert client.get("/loop").status_code == 504
        assert asgi.state.counts.abandoned == 1, "a coroutine holds no thread"
        gate.open.set()
        assert client.get("/thread").json() == 1
        until(lambda: asgi.state.counts.abandoned == 0)


GATES: list[Gate] = []


@dependency(scope="PROCESS")
def kept() -> int:
    GATES[-1].wait()
    return 1


@dependency(scope="PROCESS")
def opened() -> Iterator[int]:
    yield 1


def held(gate: Gate) -> Flow:
    app = Flow()
    GATES.append(gate)

    @app.collector("/one", request_timeout_s=0.05)
    def one(record: dict[str, Any]) -> None:
        gate.wait()

    @app.collector("/whole", request_timeout_s=0.05)
    def whole(records: list[dict[str, Any]]) -> None:
        gate.wait()

    @app.service("/needs", request_timeout_s=0.05).endpoint("/")
    async def needs(number: Annotated[int, kept]) -> int:
        return number

    @app.service("/opens", request_timeout_s=0.05).endpoint("/")
    def opens(number: Annotated[int, opened]) -> None:
        gate.wait()

    class Slow:
        def process(self) -> None:
            gate.wait()

    app.service("/class", request_timeout_s=0.05).endpoint("/")(Slow)
    return app


@pytest.mark.parametrize(
    ("path", "body"),
    [("/one", {"n": 1}), ("/whole", {"n": 1}), ("/needs/", None), ("/class/", None), ("/opens/", None)],
)
def test_threads_that_do_not_return_are_counted_wherever_they_are_held(gate: Gate, path: str, body: Any) -> None:
    asgi = held(gate).asgi()
    with serving(asgi) as client:
        assert client.request("POST" if body else "GET", path, json=body).status_code == 504
        until(lambda: asgi.state.counts.abandoned == 1)  # teardowns come before it
        gate.open.set()
        until(lambda: asgi.state.counts.abandoned == 0)


def test_a_coroutine_that_is_late_is_cancelled_and_504(gate: Gate) -> None:
    cancelled = threading.Event()
    with serving(slow(gate, cancelled)) as client:
        reply = client.get("/loop", headers={"X-Request-Id": "mine"})
        assert (reply.status_code, reply.headers["x-request-id"]) == (504, "mine")
        assert cancelled.wait(30)


def test_a_body_that_does_not_come_is_408(gate: Gate) -> None:
    with serving(slow(gate, threading.Event())) as client:
        reply = raw(client, b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12")
        assert reply.startswith(b"HTTP/1.1 408")


def test_a_stream_that_has_begun_may_take_longer(gate: Gate) -> None:
    with serving(slow(gate, threading.Event())) as client, client.stream("GET", "/stream") as reply:
        parts = reply.iter_bytes()
        assert next(parts) == b"begun "
        assert client.get("/loop").status_code == 504  # so that the time is up
        gate.open.set()
        assert b"".join(parts) == b"ended"
