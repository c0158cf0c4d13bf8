"""Middleware of a Flow and of services, and which replies it sees, over a real server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from websockets.sync.client import connect

from raflow import Flow
from raflow.errors import InvalidOption
from raflow.http import CORSMiddleware, HTTPException, JSONResponse, RateLimit, Request, Response, WebSocket
from tests.http.hosts import address, serving

SHOP = "https://shop.example"


class Named:
    """Adds its name to a header."""

    def __init__(self, app: Any, name: str) -> None:
        self.app, self.name = app, name.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-passed", self.name)]
            await send(message)

        await self.app(scope, receive, named)


class Broken:
    """Fails on its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if b"x-fail" in dict(scope.get("headers", ())):
            msg = "password=hush"
            raise ValueError(msg)
        await self.app(scope, receive, send)


class Told(BaseHTTPMiddleware):
    """Starlette's own kind, which answers for one sort of error itself."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        try:
            reply: Response = await call_next(request)
        except LookupError as error:
            return JSONResponse({"missing": str(error)}, 404)
        return reply


def add_routes(app: Flow) -> None:
    service = app.service("/api", request_timeout_s=0.3)

    @service.endpoint("/raises")
    async def raises() -> None:
        msg = "a secret"
        raise ValueError(msg)

    @service.endpoint("/late")
    async def late() -> None:
        await asyncio.Event().wait()

    @service.endpoint("/refuses")
    async def refuses() -> None:
        raise HTTPException(403)

    @service.endpoint("/talk", "WEBSOCKET")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    @app.collector("/events")
    def take(record: dict[str, Any]) -> None:
        if "n" not in record:
            raise KeyError


@pytest.fixture(scope="module", params=[False, True], ids=["", "with Starlette's own kind"])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    app = Flow("shop")
    add_routes(app)
    app.add_middleware(Broken)
    if request.param:
        app.add_middleware(Told)
    app.add_middleware(Named, name="inner")
    app.add_middleware(Named, name="outer")
    app.add_middleware(CORSMiddleware, allow_origins=[SHOP], allow_methods=["GET", "POST"])
    with serving(app) as client:
        client.headers["Origin"] = SHOP
        yield client


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/raises", 500),
        ("/api/late", 504),
        ("/api/refuses", 403),
        ("/api/nonesuch", 404),
        ("/events", 405),
        ("/docs", 200),
    ],
)
def test_a_flows_middleware_sees_all_replies_the_one_added_last_last(
    client: httpx.Client, path: str, status: int
) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, SHOP)
    assert reply.headers.get_list("x-passed") == ["inner", "outer"]
    assert len(reply.headers.get_list("x-request-id")) == 1


def test_browsers_may_send_records_to_collectors(client: httpx.Client) -> None:
    wants = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert client.options("/events", headers=wants).status_code == 200
    for record, status in (({"n": 1}, 200), ({}, 500)):
        reply = client.post("/events", json=record)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (status, SHOP)


def test_what_a_flows_middleware_raises_is_told_like_other_errors(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "raflow.http"):
        reply = client.get("/docs", headers={"X-Fail": "yes"})
    assert reply.status_code == 500
    assert [reply.json()["error_id"] in record.getMessage() for record in caplog.records] == [True]
    assert "hush" not in reply.text + caplog.text


def test_questions_of_health_pass_no_middleware(client: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        reply = client.get(path, headers={"X-Fail": "yes"})
        assert (reply.status_code, "x-passed" in reply.headers) == (200, False)


def test_websockets_pass_it_too(client: httpx.Client) -> None:
    host, port = address(client)
    with connect(f"ws://{host}:{port}/api/talk") as socket:
        assert socket.recv() == "hello"


def test_what_is_not_ready_says_so_through_it() -> None:
    app = Flow()
    app.add_middleware(CORSMiddleware, allow_origins=[SHOP])

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/x", headers={"Origin": SHOP})

    reply = asyncio.run(ask())
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (503, SHOP)


def test_collectors_can_be_limited_per_key() -> None:
    app = Flow()
    app.add_middleware(RateLimit, requests=1, per_s=1000, key=lambda asked: asked.headers.get("x-key", ""))
    add_routes(app)
    with serving(app) as client:
        found = [client.post("/events", json={"n": 1}, headers={"X-Key": key}).status_code for key in "aab"]
    assert found == [200, 429, 200]


@pytest.mark.parametrize("kind", [(), (Told,)], ids=["", "with Starlette's own kind"])
def test_a_services_middleware_sees_its_errors_and_its_late_replies(kind: Any) -> None:
    app = Flow()
    add_routes(app)
    for each in (CORSMiddleware, *kind):
        app.services[0].add_middleware(each, **({"allow_origins": [SHOP]} if each is CORSMiddleware else {}))
    with serving(app) as client:
        found = [client.get(f"/api/{path}", headers={"Origin": SHOP}) for path in ("raises", "late", "refuses")]
    assert [reply.status_code for reply in found] == [500, 504, 403]
    allowed = ["access-control-allow-origin" in reply.headers for reply in found]
    assert allowed == [not kind, True, True]
    assert "error_id" in found[0].json()


def test_a_services_middleware_may_answer_for_what_is_raised() -> None:
    app = Flow()
    service = app.service()
    service.add_middleware(Told)

    @service.endpoint("/item")
    async def item() -> None:
        msg = "tea"
        raise LookupError(msg)

    with serving(app) as client:
        reply = client.get("/item")
    assert (reply.status_code, reply.json()) == (404, {"missing": "tea"})


def test_an_instance_is_no_middleware() -> None:
    with pytest.raises(InvalidOption, match="give the class and its options"):
        Flow().add_middleware(Broken(None))  # type: ignore[arg-type]
