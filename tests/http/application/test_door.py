from __future__ import annotations

import gc
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from raflow import Flow
from raflow.http import Request, StreamingResponse, WebSocket
from raflow.http.reply import Reply
from tests.http.hosts import address, serving

app = Flow()
service = app.service()


@service.endpoint("/id")
def own_id(request: Request) -> str:
    return request.url.path


@service.endpoint("/raises")
def raises() -> None:
    msg = "password=hush"
    raise ValueError(msg)


@service.endpoint("/cut")
def cut() -> StreamingResponse:
    def parts() -> Iterator[bytes]:
        yield b"begun"
        msg = "password=hush"
        raise ValueError(msg)

    return StreamingResponse(parts(), headers={"Content-Length": "100"})


@service.endpoint("/talk", "WEBSOCKET")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


def test_a_request_id_comes_back_or_is_made(client: httpx.Client) -> None:
    assert client.get("/id", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = {client.get("/id").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize("bad", ["a b", "x" * 129, "caf\u00e9"])
def test_an_id_that_could_not_stand_in_a_log_is_replaced(client: httpx.Client, bad: str) -> None:
    reply = client.get("/id", headers={b"X-Request-Id": bad.encode()})
    assert len(reply.headers["x-request-id"]) == 16


def test_what_an_endpoint_raises_is_in_the_log_under_the_id_that_the_client_gets(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "raflow.http"):
        reply = client.get("/raises", headers={"X-Request-Id": "r1"})
    assert reply.status_code == 500
    assert "hush" not in reply.text + str(reply.headers)
    assert [reply.json()["error_id"] in record.getMessage() for record in caplog.records] == [True]
    assert "request id r1" in caplog.text
    assert "ValueError: password=***" in caplog.text


def test_a_reply_that_breaks_off_is_cut_so_that_no_client_takes_it_for_whole(client: httpx.Client) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/cut")
    assert client.get("/id").status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    app, reached = Flow(), threading.Event()

    @app.collector("/collect")
    def collect(record: dict[str, Any]) -> None:
        del record

    class Watched:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await self.app(scope, receive, send)
            finally:
                if scope.get("path") == "/collect":
                    reached.set()

    with serving(Watched(app.asgi())) as client, caplog.at_level(logging.ERROR):
        with socket.create_connection(address(client)) as connection:
            head = b"POST /collect HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(head + b'Content-Length: 50\r\n\r\n{"n":')
        assert reached.wait(30)
        assert client.post("/collect", json={"n": 1}).status_code == 200
    assert caplog.records == []


def test_a_websocket_whose_client_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with serving(app) as client, caplog.at_level(logging.ERROR):
        host, port = address(client)
        with connect(f"ws://{host}:{port}/talk"):
            pass
    assert caplog.records == []


def test_answered_requests_leave_nothing_to_the_garbage_collector() -> None:
    """A reference cycle in each cost a tenth of the time, and pauses."""
    with serving(app) as client:
        client.get("/id")
        gc.collect()
        gc.disable()
        try:
            for _ in range(200):
                client.get("/id")
            left = [one for one in gc.get_objects() if type(one) is Reply]
        finally:
            gc.enable()
    assert len(left) < 60, "each of up to 40 idle threads keeps its last one"
