"""Dependencies of endpoints and collectors, over a real server."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import pytest

from raflow import Flow, Scope, dependency
from raflow.connectors.memory import MemorySink
from raflow.dependencies.shared import Shared
from raflow.errors import InvalidProcessor
from raflow.http import Header, HTTPException, Request, WebSocket
from raflow.http.application import application
from raflow.http.declared import HttpApp
from tests.http.hosts import serving

events: list[str] = []


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


@dependency(scope=Scope.GLOBAL)
class Settings:
    made = 0

    def __init__(self) -> None:
        Settings.made += 1
        self.number = Settings.made


@dependency(scope=Scope.REPLICA)
async def pool(settings: Settings) -> AsyncIterator[list[int]]:
    events.append("open pool")
    yield [settings.number]
    events.append("close pool")


Pool = Annotated[list[int], pool]


@dependency(scope=Scope.PROCESS)
def session(pool: Pool) -> Iterator[str]:
    events.append("begin")
    try:
        yield "session"
    except HTTPException as error:
        events.append(f"saw {error.status_code}")
        raise
    finally:
        events.append("end")


Session = Annotated[str, session]


@dependency(scope=Scope.PROCESS)
class Visitor:
    def __init__(self, request: Request, session: Session) -> None:
        self.name = request.headers.get("x-name", "nobody")
        self.session = session


@dependency(scope=Scope.NO_SCOPE)
class Ticket:
    pass


@dependency(scope=Scope.REPLICA)
def broken(pool: Pool) -> None:
    raise ConnectionError("no route to the database")


def shop() -> Flow:
    app = Flow("shop")
    service = app.service()

    @service.endpoint("/twice/{item}")
    def twice(item: str, visitor: Visitor, again: Visitor, count: int = 1) -> dict[str, object]:
        return {"item": item, "count": count, "name": visitor.name, "same": visitor is again}

    @service.endpoint("/tickets")
    async def tickets(one: Ticket, other: Ticket) -> bool:
        return one is other

    @service.endpoint("/fail")
    async def fail(session: Session) -> None:
        raise HTTPException(409)

    @service.endpoint("/pool")
    async def show(pool: Pool) -> list[object]:
        return [pool, id(pool)]

    @service.endpoint("/talk", method="WEBSOCKET")
    async def talk(websocket: WebSocket, pool: Pool) -> None:
        await websocket.accept()
        await websocket.send_json(pool)
        await websocket.close()

    return app


def test_what_a_request_shares_is_made_once_and_the_rest_comes_from_the_request() -> None:
    with serving(shop()) as client:
        reply = client.get("/twice/tea?count=2", headers={"X-Name": "Ada"})
        assert reply.json() == {"item": "tea", "count": 2, "name": "Ada", "same": True}
    assert events.count("begin") == events.count("end") == 1


def test_without_a_scope_each_use_has_its_own() -> None:
    with serving(shop()) as client:
        assert client.get("/tickets").json() is False


def test_a_replica_makes_one_and_tears_it_down_at_its_end() -> None:
    with serving(shop()) as client:
        assert client.get("/pool").json() == client.get("/pool").json()
        assert events == ["open pool"]
    assert events == ["open pool", "close pool"]


def test_teardown_comes_also_after_an_error_and_sees_it() -> None:
    with serving(shop()) as client:
        assert client.get("/fail").status_code == 409
    assert events == ["open pool", "begin", "saw 409", "end", "close pool"]


def test_dependencies_do_not_show_in_openapi() -> None:
    described = shop().asgi().openapi()
    shown = described["paths"]["/twice/{item}"]["get"]["parameters"]
    assert [one["name"] for one in shown] == ["item", "count"]
    assert "parameters" not in described["paths"]["/pool"]["get"]


def test_a_failure_at_the_start_tears_down_what_was_made_before() -> None:
    app = Flow("broken")

    @app.service().endpoint("/")
    async def root(broken: Annotated[None, broken]) -> None: ...

    asgi = app.asgi()

    async def start() -> None:
        async with asgi.router.lifespan_context(asgi):
            raise AssertionError

    with pytest.raises(ConnectionError, match="no route"):
        asyncio.run(start())
    assert events == ["open pool", "close pool"]


def test_collectors_get_them_beside_the_record_in_any_order() -> None:
    app, sink = Flow("orders"), MemorySink()

    @app.collector("/orders", sink=sink)
    def take(visitor: Visitor, order: dict) -> dict:  # type: ignore[type-arg]
        return {**order, "by": visitor.name}

    @app.collector("/later", sink=sink)
    async def later(order: dict, pool: Pool) -> dict:  # type: ignore[type-arg]
        return {**order, "by": str(len(pool))}

    with serving(app) as client:
        reply = client.post("/orders", json=[{"n": 1}, {"n": 2}], headers={"X-Name": "Ada"})
        assert reply.json() == {"success": True, "records": 2}
        assert client.post("/later", json={"n": 3}).status_code == 200
    assert sorted(row["by"] for row in sink.records()) == ["1", "Ada", "Ada"]
    assert events.count("begin") == 1


@dependency(scope=Scope.PROCESS)
def tenant(tenant: Annotated[str, Header()] = "nobody") -> str:
    return tenant


def test_headers_get_into_collectors_by_dependencies() -> None:
    app, sink = Flow("orders"), MemorySink()

    @app.collector("/orders", sink=sink)
    def take(order: dict, tenant: Annotated[str, tenant]) -> dict:  # type: ignore[type-arg]
        return {**order, "tenant": tenant}

    with serving(app) as client:
        client.post("/orders", json={"n": 1}, headers={"Tenant": "ada"})
        client.post("/orders", json={"n": 2})
    assert [row["tenant"] for row in sink.records()] == ["ada", "nobody"]


def test_global_ones_are_made_by_the_driver_and_shipped() -> None:
    http = HttpApp.of(shop())
    shared = Shared(http.dependencies(), http.options.credentials())
    http = http.with_globals(shared.open())
    assert set(http.shipped) == {Settings}
    number = Settings.made
    copy = pickle.loads(pickle.dumps(http.shipped))
    assert copy[Settings].number == number
    with serving(application(http, "run")) as client:
        assert client.get("/pool").json()[0] == [number]
    shared.close()
    assert Settings.made == number


def test_without_a_driver_an_application_makes_its_global_ones_once() -> None:
    before = Settings.made
    with serving(shop()) as client:
        client.get("/pool")
        assert client.get("/pool").json()[0] == [before + 1]


def test_a_name_that_does_not_exist_is_told_with_the_endpoint() -> None:
    app = Flow("typo")

    @app.service().endpoint("/")
    def root(pool: Pooool) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(InvalidProcessor, match="endpoint 'root': its annotations use 'Pooool'"):
        app.asgi()
