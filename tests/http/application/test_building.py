from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from pydantic import BaseModel
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from raflow import Flow
from raflow.connectors.files import JsonLinesFiles
from raflow.connectors.memory import MemorySink
from raflow.errors import InvalidProcessor
from raflow.http import (
    CORSMiddleware,
    Depends,
    File,
    Form,
    HTTPException,
    JSONResponse,
    PlainTextResponse,
    Request,
    StreamingResponse,
    UploadFile,
    WebSocket,
)
from raflow.http.declared import HttpApp
from tests.http.hosts import address, serving


@dataclass
class Order:
    item: str
    count: int = 1


class Price(BaseModel):
    amount: float


app = Flow("shop")
service = app.service("/shop")
service.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])


@service.endpoint("/orders/{order_id}")
def order(order_id: int, verbose: bool = False) -> dict[str, Any]:
    return {"order_id": order_id, "verbose": verbose, "thread": threading.current_thread() is threading.main_thread()}


@service.endpoint("/orders", method="post")
async def create(order: Order) -> Order:
    return Order(order.item.upper(), order.count + 1)


@service.endpoint("/orders/{order_id}", "PUT")
async def price(order_id: int, price: Price) -> Price:
    return Price(amount=price.amount * order_id)


@service.endpoint("/orders/{order_id}", "PATCH")
async def patch(order_id: int, request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{order_id} {(await request.body()).decode()}", status_code=201)


@service.endpoint("/orders/{order_id}", "DELETE")
def delete(order_id: int) -> JSONResponse:
    if order_id == 404:
        raise HTTPException(404, "no such order", {"X-Order": "404"})
    return JSONResponse({"deleted": order_id}, headers={"X-Deleted": "yes"})


@service.endpoint("/upload", "POST")
async def upload(picture: UploadFile, raw: Annotated[bytes, File()], title: Annotated[str, Form()]) -> dict[str, Any]:
    return {"name": picture.filename, "size": len(await picture.read()), "raw": len(raw), "title": title}


@service.endpoint("/count")
def count(upto: int) -> StreamingResponse:
    def lines() -> Iterator[str]:
        for number in range(upto):
            yield f"{number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


def tenant(request: Request) -> str:
    return request.headers.get("x-tenant", "nobody")


@service.endpoint("/tenant")
def who(tenant: Annotated[str, Depends(tenant)]) -> str:
    return tenant


@service.endpoint("/echo", "WEBSOCKET")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


@service.endpoint("/typed", "WEBSOCKET")
async def typed(websocket: WebSocket, number: int) -> None:
    await websocket.accept()
    await websocket.send_json(number)


@service.endpoint("/broken", "websocket")
async def broken(websocket: WebSocket) -> None:
    await websocket.accept()
    msg = "a secret"
    raise ValueError(msg)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


def test_path_and_query_become_parameters_and_a_synchronous_function_runs_in_a_thread(client: httpx.Client) -> None:
    found = client.get("/shop/orders/7", params={"verbose": "true"}).json()
    assert found == {"order_id": 7, "verbose": True, "thread": False}


def test_bodies_become_dataclasses_and_models_and_so_do_replies(client: httpx.Client) -> None:
    assert client.post("/shop/orders", json={"item": "tea"}).json() == {"item": "TEA", "count": 2}
    assert client.put("/shop/orders/3", json={"amount": 1.5}).json() == {"amount": 4.5}


def test_an_endpoint_may_take_the_request_and_return_any_response(client: httpx.Client) -> None:
    reply = client.patch("/shop/orders/3", content=b"raw")
    assert (reply.status_code, reply.text) == (201, "3 raw")
    reply = client.delete("/shop/orders/5")
    assert (reply.json(), reply.headers["x-deleted"]) == ({"deleted": 5}, "yes")


def test_an_http_exception_is_the_reply(client: httpx.Client) -> None:
    reply = client.delete("/shop/orders/404")
    assert (reply.status_code, reply.json()) == (404, {"detail": "no such order"})
    assert reply.headers["x-order"] == "404"


def test_files_and_forms_are_read(client: httpx.Client) -> None:
    files = {"picture": ("a.png", b"12345"), "raw": ("b.bin", b"123")}
    reply = client.post("/shop/upload", files=files, data={"title": "Tea"})
    assert reply.json() == {"name": "a.png", "size": 5, "raw": 3, "title": "Tea"}


def test_a_reply_can_be_a_stream(client: httpx.Client) -> None:
    with client.stream("GET", "/shop/count", params={"upto": 5}) as reply:
        assert list(reply.iter_lines()) == ["0", "1", "2", "3", "4"]


def test_dependencies_of_fastapi_work(client: httpx.Client) -> None:
    assert client.get("/shop/tenant", headers={"X-Tenant": "ada"}).json() == "ada"


def test_a_websocket_talks_until_the_client_leaves(client: httpx.Client) -> None:
    host, port = address(client)
    with connect(f"ws://{host}:{port}/shop/echo") as socket:
        socket.send("hello")
        assert socket.recv() == "HELLO"


def test_a_websocket_endpoint_that_raises_closes_with_an_error_id_and_no_secret(client: httpx.Client) -> None:
    host, port = address(client)
    with connect(f"ws://{host}:{port}/shop/broken") as socket, pytest.raises(Exception, match="1011") as caught:
        socket.recv()
    assert "error " in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_a_websocket_cannot_be_opened_with_is_refused(client: httpx.Client) -> None:
    host, port = address(client)
    for path, status in (("/shop/typed?number=x", 403), ("/shop/nonesuch", 403), ("/shop/orders/1", 403)):
        with pytest.raises(InvalidStatus, match=str(status)):
            connect(f"ws://{host}:{port}{path}")
    assert client.get("/shop/orders/1").status_code == 200


def test_middleware_is_around_the_endpoints_of_its_service_and_sees_other_methods(client: httpx.Client) -> None:
    origin = {"Origin": "https://shop.example"}
    asked = client.options("/shop/orders/7", headers={**origin, "Access-Control-Request-Method": "GET"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    assert "access-control-allow-origin" in client.get("/shop/orders/7", headers=origin).headers
    assert "access-control-allow-origin" not in client.get("/healthz", headers=origin).headers


def test_an_unknown_route_is_404_and_an_unknown_method_405(client: httpx.Client) -> None:
    assert client.get("/shop/nonesuch").status_code == 404
    refused = client.request("PROPFIND", "/shop/orders")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_one_instance_of_middleware_serves_a_whole_service() -> None:
    class Numbered:
        def __init__(self, app: Any, start: int) -> None:
            self.app, self.count = app, start

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self.count += 1
            scope["number"] = self.count
            await self.app(scope, receive, send)

    app = Flow()
    service = app.service()
    service.add_middleware(Numbered, start=10)

    @service.endpoint("/one")
    def one(request: Request) -> int:
        number: int = request.scope["number"]
        return number

    @service.endpoint("/two")
    def two(request: Request) -> int:
        number: int = request.scope["number"]
        return number

    with serving(app) as client:
        assert [client.get(path).json() for path in ("/one", "/two", "/one")] == [11, 12, 13]


def test_a_signature_that_cannot_be_served_names_the_endpoint() -> None:
    app = Flow()

    @app.service().endpoint("/thing")
    def thing(lock: threading.Lock) -> int:
        del lock
        return 1

    with pytest.raises(InvalidProcessor, match="endpoint 'thing' of service '/'"):
        app.asgi()


def test_a_host_without_lifespan_gets_503_and_still_knows_its_health() -> None:
    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app.asgi()), base_url="http://test") as client:
            return [(await client.get(path)).status_code for path in ("/shop/orders/1", "/readyz", "/healthz")]

    assert asyncio.run(ask()) == [503, 503, 200]


def test_synchronous_functions_run_at_once_as_many_as_requests_are_allowed() -> None:
    app, together = Flow(), threading.Barrier(60)

    @app.service(max_concurrent_requests=60).endpoint("/wait")
    def wait() -> int:
        return together.wait(timeout=30)

    def ask(client: httpx.Client, found: list[int]) -> None:
        found.append(client.get("/wait").json())

    with serving(app) as client:
        found: list[int] = []
        threads = [threading.Thread(target=ask, args=(client, found)) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == list(range(60))


def test_the_description_pickles_with_what_was_declared() -> None:
    import cloudpickle

    again: HttpApp = cloudpickle.loads(cloudpickle.dumps(HttpApp.of(app)))
    assert [one.route for one in again.services[0].endpoints] == [one.route for one in service.endpoints]
    assert again.services[0].endpoints[1].code is create.code


def test_an_application_can_be_started_again() -> None:
    app, sink = Flow(), MemorySink()

    @app.collector("/collect", sink=sink)
    def collect(record: dict[str, Any]) -> dict[str, Any]:
        return record

    asgi = app.asgi()
    for n in range(2):
        with serving(asgi) as client:
            assert client.post("/collect", json={"n": n}).status_code == 200
    assert sorted(row["n"] for row in sink.records()) == [0, 1]


def test_old_files_are_replaced_at_the_end_and_not_by_a_start_that_failed(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text('{"n": 0}\n')
    sink = JsonLinesFiles(tmp_path, if_exists="overwrite")

    class Broken:
        def setup(self) -> None:
            msg = "no model"
            raise RuntimeError(msg)

        def process(self) -> None: ...

    def flow() -> Flow:
        app = Flow()

        @app.collector("/collect", sink=sink)
        def collect(record: dict[str, Any]) -> dict[str, Any]:
            return record

        return app

    broken = flow()
    broken.service().endpoint("/broken")(Broken)
    asgi = broken.asgi()

    async def start() -> None:
        async with asgi.router.lifespan_context(asgi):
            pytest.fail("it has started")

    with pytest.raises(RuntimeError, match="no model"):
        asyncio.run(start())
    assert [path.name for path in tmp_path.iterdir()] == ["old.jsonl"]
    with serving(flow()) as client:
        assert client.post("/collect", json={"n": 1}).status_code == 200
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{"n":1}\n']
