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
from raflow.errors import InvalidDependency, InvalidProcessor
from raflow.http import BearerCredentials, Depends, Header, HTTPException, Request, WebSocket
from raflow.http.application.building import application
from raflow.http.declared import HttpApp
from tests.http.hosts import Gate, serving
from tests.runtime.serving.conftest import until

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


@dependency(scope=Scope.REPLICA)
class Model:
    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]
        await asyncio.sleep(0)
        self.name = f"model {settings.number}"


@dependency(scope=Scope.PROCESS)
class Answer:
    async def __init__(self, model: Model, request: Request) -> None:  # type: ignore[misc]
        await asyncio.sleep(0)
        self.text = f"{model.name} at {request.url.path}"


def test_what_makes_an_instance_may_be_awaited() -> None:
    app = Flow("models")

    @app.service().endpoint("/ask")
    def ask(answer: Answer) -> str:
        return answer.text

    with serving(app) as client:
        assert client.get("/ask").json() == f"model {Settings.made} at /ask"


def user(credentials: BearerCredentials, session: Session) -> str:
    credentials.check("good")
    return f"ada in {session}"


class Page:
    def __init__(self, visitor: Visitor, size: int = 10) -> None:
        self.visitor, self.size = visitor, size


async def greeting(user: Annotated[str, Depends(user)], page: Page = Depends()) -> AsyncIterator[str]:  # noqa: B008
    events.append("greet")
    yield f"{user}, {page.visitor.name}, {page.size}"
    events.append("greeted")


def guarded() -> Flow:
    app = Flow("guarded")

    @app.service().endpoint("/me")
    def me(greeting: Annotated[str, Depends(greeting)], session: Session, user: Annotated[str, Depends(user)]) -> str:
        return greeting

    return app


def test_functions_that_fastapi_calls_get_dependencies_too_and_share_them() -> None:
    with serving(guarded()) as client:
        reply = client.get("/me?size=3", headers={"Authorization": "Bearer good", "X-Name": "Ada"})
        assert reply.json() == "ada in session, Ada, 3"
    assert events == ["open pool", "begin", "greet", "greeted", "end", "close pool"]


def test_nothing_of_them_is_read_from_the_body() -> None:
    with serving(guarded()) as client:
        forged = {"credentials": {"token": "good"}, "token": "good"}
        assert client.request("GET", "/me", json=forged).status_code == 401
        shown = client.get("/openapi.json").json()["paths"]["/me"]["get"]
    assert [one["name"] for one in shown["parameters"]] == ["size"]
    assert "requestBody" not in shown
    assert shown["security"] == [{"BearerCredentials": []}]


def test_what_functions_that_fastapi_calls_need_is_known_before_the_start() -> None:
    assert {Settings, pool, session} < set(HttpApp.of(guarded()).dependencies())

    def typo(pool: Pooool) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    app = Flow("typo")
    app.service().endpoint("/")(lambda typo=Depends(typo): None)  # noqa: B008
    with pytest.raises(InvalidDependency, match="typo in Depends: its annotations use 'Pooool'"):
        app.asgi()


def rows(session: Session) -> Iterator[int]:
    for number in range(2):
        events.append(f"row {number}")
        yield number


async def async_rows(session: Session, user: Annotated[str, Depends(lambda: "ada")]) -> AsyncIterator[int]:
    for number in range(2):
        events.append(f"row {number}")
        yield number


class Rows:
    def process(self, session: Session) -> Iterator[int]:
        yield from rows(session)


@pytest.mark.parametrize("code", [rows, async_rows, Rows])
def test_what_an_endpoint_yields_may_need_its_dependencies_to_the_end(code: object) -> None:
    app = Flow("rows")
    app.service().endpoint("/rows")(code)  # type: ignore[arg-type]
    with serving(app) as client:
        assert client.get("/rows").text == "0\n1\n"
    assert events == ["open pool", "begin", "row 0", "row 1", "end", "close pool"]


def test_dependencies_outlive_the_thread_that_works_for_a_client_that_is_gone() -> None:
    app, gate = Flow("rows"), Gate()

    @app.service().endpoint("/rows", name="rows")
    def blocked(session: Session) -> Iterator[str]:
        yield "x" * 100
        gate.wait()
        events.append("done")

    with serving(app) as client:
        with client.stream("GET", "/rows") as reply:
            next(reply.iter_bytes())
            assert gate.reached.acquire(timeout=30)
        assert client.get("/healthz").status_code == 200  # so that the server knows
        gate.open.set()
        until(lambda: "end" in events)
    assert events == ["open pool", "begin", "done", "end", "close pool"]
