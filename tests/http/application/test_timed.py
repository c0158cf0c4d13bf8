"""What becomes of requests whose time is up, over a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware

from raflow import Flow, dependency
from raflow.http import CORSMiddleware, Depends, Request, Response, StreamingResponse
from tests.http.hosts import Gate, raw, serving
from tests.runtime.serving.conftest import until


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
        is_held = False
        while not is_held:
            assert client.request("POST" if body else "GET", path, json=body).status_code == 504
            is_held = gate.is_reached()
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


class Seen(BaseHTTPMiddleware):
    """Starlette's own kind: it runs the application in a task of its own, and waits for that."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        reply: Response = await call_next(request)
        reply.headers["x-seen"] = "yes"
        return reply


def hangs() -> None:
    GATES[-1].wait()


def hangs_at_its_end() -> Iterator[None]:
    try:
        yield
    except asyncio.CancelledError:
        GATES[-1].wait()
        raise
    GATES[-1].wait()


def depends(called: Annotated[None, Depends(hangs)]) -> None: ...


def tears_down(ended: Annotated[None, Depends(hangs_at_its_end, scope="function")]) -> None: ...


async def is_cancelled_and_tears_down(ended: Annotated[None, Depends(hangs_at_its_end)]) -> None:
    await asyncio.Event().wait()


def streams() -> StreamingResponse:
    def parts() -> Iterator[bytes]:
        yield b"begun"
        hangs()

    return StreamingResponse(parts())


def narrow(gate: Gate, middleware: Any, *endpoints: Any) -> Flow:
    """A service of two requests at a time: one whose client has its reply may take another moment to end."""
    GATES.append(gate)
    app = Flow()
    service = app.service(request_timeout_s=0.1, max_concurrent_requests=2)
    for one in middleware:
        service.add_middleware(one)
    service.endpoint("/free")(lambda: 1)
    for each in endpoints:
        service.endpoint("/hang")(each)
    return app


def is_late(client: httpx.Client) -> bool:
    """Whether a request that was let in was late."""
    status = client.get("/hang").status_code
    assert status in (503, 504)
    return status == 504


@pytest.mark.parametrize("middleware", [(), (Seen,)])
@pytest.mark.parametrize("hanging", [hangs, depends, tears_down, is_cancelled_and_tears_down])
def test_what_hangs_is_counted_and_gives_its_place_back(gate: Gate, hanging: Any, middleware: Any) -> None:
    asgi = narrow(gate, middleware, hanging).asgi()
    with serving(asgi) as client:
        hanging_calls = 0
        while hanging_calls < 3:
            until(lambda: is_late(client))
            hanging_calls += gate.is_reached()
        until(lambda: client.get("/free").status_code == 200)
        until(lambda: asgi.state.counts.abandoned == 3)
        gate.open.set()
        until(lambda: asgi.state.counts.abandoned == 0)


@pytest.mark.parametrize("middleware", [(), (Seen,)])
def test_a_stream_that_hangs_when_its_client_is_gone_is_counted_and_gives_its_place_back(
    gate: Gate, middleware: Any
) -> None:
    asgi = narrow(gate, middleware, streams).asgi()
    with serving(asgi) as client:
        for number in range(3):
            with client.stream("GET", "/hang") as reply:
                assert next(reply.iter_bytes()) == b"begun"
                assert gate.reached.acquire(timeout=30)
            until(lambda: client.get("/free").status_code == 200)
            until(lambda: asgi.state.counts.abandoned == number + 1)  # noqa: B023 - asked at once
        gate.open.set()
        until(lambda: asgi.state.counts.abandoned == 0)


def test_middleware_sees_what_is_late() -> None:
    app = Flow()
    service = app.service(request_timeout_s=0.3)
    service.add_middleware(CORSMiddleware, allow_origins=["*"])
    service.add_middleware(Seen)

    @service.endpoint("/loop")
    async def loop() -> None:
        await asyncio.Event().wait()

    with serving(app) as client:
        reply = client.get("/loop", headers={"Origin": "https://shop.example"})
        assert (reply.status_code, reply.json()["detail"]) == (504, "there was no reply within 0.3 s")
        assert (reply.headers["access-control-allow-origin"], reply.headers["x-seen"]) == ("*", "yes")


def test_middleware_that_hangs_itself_is_late_too() -> None:
    class Hangs:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/hang":
                await asyncio.Event().wait()
            await self.app(scope, receive, send)

    app = Flow()
    service = app.service(request_timeout_s=0.05, max_concurrent_requests=1)
    service.add_middleware(Hangs)
    for path in ("/hang", "/free"):
        service.endpoint(path)(lambda: 1)
    with serving(app) as client:
        assert [client.get(path).status_code for path in ("/hang", "/free")] == [504, 200]


def test_what_a_request_has_left_to_itself_goes_on_when_the_request_is_given_up(gate: Gate) -> None:
    app, left = Flow(), list[asyncio.Task[int]]()
    service = app.service(request_timeout_s=0.05)

    @service.endpoint("/leaves")
    async def leaves() -> None:
        def work() -> int:
            gate.wait()
            return 7

        left.append(asyncio.create_task(to_thread.run_sync(work)))
        await asyncio.Event().wait()

    with serving(app) as client:
        assert client.get("/leaves").status_code == 504
        gate.open.set()
        until(left[0].done)
        assert left[0].result() == 7


def test_what_a_whole_reply_leaves_to_do_in_the_background_may_take_longer(gate: Gate) -> None:
    app, cancelled = Flow(), list[bool]()
    service = app.service(request_timeout_s=0.05)

    @service.endpoint("/later")
    async def later() -> StreamingResponse:
        async def background() -> None:
            try:
                await asyncio.to_thread(gate.wait)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            cancelled.append(False)

        return StreamingResponse(iter([b"all"]), background=BackgroundTask(background))

    @service.endpoint("/loop")
    async def loop() -> None:
        await asyncio.Event().wait()

    with serving(app) as client:
        assert client.get("/later").text == "all"
        assert client.get("/loop").status_code == 504  # so that the time is up
        gate.open.set()
        until(lambda: cancelled == [False])
