"""What a user declares: collectors, services and endpoints, and what is refused before anything starts."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Annotated, Any

import pytest
from fastapi import Cookie

from raflow import Flow, FlowOptions, Service, collector, consumer, endpoint
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import DuplicateName, FlowError, InvalidOption, InvalidProcessor, MissingExtra
from raflow.http import Depends, Header, Query, WebSocket
from raflow.http.declared import HttpApp
from raflow.options import CollectorOptions, HttpOptions


def double(record: dict[str, Any]) -> dict[str, Any]:
    return {"n": record["n"] * 2}


async def talk(websocket: WebSocket) -> None: ...


def test_a_declared_function_is_still_a_function() -> None:
    made, other = collector("/double")(double), endpoint("/double")(double)
    assert made({"n": 2}) == other({"n": 2}) == {"n": 4}
    assert (made.name, repr(made), repr(other)) == ("double", "<collector double>", "<endpoint double>")
    assert (made.method, other.method) == ("POST", "GET")


@pytest.mark.parametrize("make", [collector, endpoint])
@pytest.mark.parametrize(
    ("route", "method", "says"),
    [
        ("events", "POST", "'events'; it must be a path that begins with \"/\""),
        (7, "POST", "route is 7"),
        ("/events", "FETCH", "'FETCH'; it can be GET, POST, PUT, PATCH, DELETE, WEBSOCKET"),
        ("/events", None, "method is None"),
    ],
)
def test_routes_and_methods_are_checked_at_once(make: Any, route: Any, method: Any, says: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        make(route, method)
    assert says in str(caught.value)


def test_a_collector_has_no_websocket() -> None:
    with pytest.raises(InvalidOption, match=r"@service\.endpoint"):
        collector("/events", "websocket")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_concurrency": 1}, "there is no option 'max_concurrency'"),
        ({"min_replicas": 0}, "min_replicas is 0"),
        ({"min_replicas": 3, "max_replicas": 2}, "min may not be larger"),
        ({"max_concurrent_queries": 1, "max_concurrent_requests": 2}, "are the same option"),
    ],
)
def test_options_are_checked_at_once(options: dict[str, Any], says: str) -> None:
    for declare in (lambda: collector("/events", **options), lambda: Service(**options)):
        with pytest.raises(InvalidOption, match=says):
            declare()


def test_a_collector_has_options_of_its_own() -> None:
    with pytest.raises(InvalidOption, match="'ack'"):
        Service(ack="accepted")
    with pytest.raises(InvalidOption, match="ack is 'never'"):
        collector("/events", ack="never")


def test_options_go_by_the_names_of_buildflow_too() -> None:
    names = {"max_concurrent_queries": 7, "target_num_ongoing_requests_per_replica": 2, "enable_autoscaler": False}
    options = HttpOptions(**names)
    assert (options.max_concurrent_requests, options.target_ongoing_requests, options.autoscale) == (7, 2, False)


def test_what_the_flow_says_holds_where_a_processor_says_nothing() -> None:
    app = Flow(flow_options=FlowOptions(num_cpus=2, num_replicas=3, batch_rows=7))
    app.service("/api", num_replicas=1)
    app.collector("/events")(double)
    found = HttpApp.of(app).all_options()
    assert {name: (one.num_replicas, one.num_cpus) for name, one in found.items()} == {"/api": (1, 2), "double": (3, 2)}
    assert isinstance(found["double"], CollectorOptions)


class NoProcess:
    pass


class Needy:
    def __init__(self, model: str) -> None:
        self.model = model

    def process(self, record: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("make", [collector("/a"), endpoint("/a")])
@pytest.mark.parametrize(
    ("code", "says"),
    [
        (NoProcess, "no method process"),
        (Needy, "needs 'model'"),
        (7, "7 cannot be a"),
        (collector("/b")(double), "'double' is a collector already"),
    ],
)
def test_what_cannot_be_a_processor_is_refused(make: Any, code: Any, says: str) -> None:
    with pytest.raises(InvalidProcessor, match=says):
        make(code)


def test_a_collectors_annotations_are_checked_at_once() -> None:
    def numbers(record: set[int]) -> None: ...

    def two(left: dict[str, Any], right: dict[str, Any]) -> None: ...

    for code in (numbers, two):
        with pytest.raises(InvalidProcessor):
            collector("/a")(code)


@pytest.mark.parametrize("method", ["GET", "delete"])
@pytest.mark.parametrize("kind", [str, bytes, list[str]])
def test_a_collector_of_the_body_needs_requests_that_have_one(method: str, kind: Any) -> None:
    def text(body: Any) -> None: ...

    text.__annotations__["body"] = kind
    with pytest.raises(InvalidProcessor, match=rf"collector 'text' takes the body, .* but {method.upper()} requests"):
        collector("/text", method)(text)
    assert collector("/text", "PUT")(text).method == "PUT"


def in_annotation(record: dict[str, Any], tenant: Annotated[str, Header()] = "nobody") -> None: ...


def in_default(record: dict[str, Any], tenant: str = Header("nobody")) -> None: ...


def without_default(record: dict[str, Any], *, tenant: Annotated[str, Cookie()]) -> None: ...


def optional(record: dict[str, Any], tenant: Annotated[str | None, Query()] = None) -> None: ...


def depending(record: dict[str, Any], tenant: Annotated[str, Depends(double)]) -> None: ...


class Keeping:
    def process(self, record: dict[str, Any], tenant: str = Header("nobody")) -> None: ...


@pytest.mark.parametrize("code", [in_annotation, in_default, without_default, optional, depending, Keeping])
@pytest.mark.parametrize("make", [collector("/a"), consumer(MemorySource([]))])
def test_what_only_endpoints_and_dependencies_get_of_fastapi_is_refused_by_name(make: Any, code: Any) -> None:
    with pytest.raises(InvalidProcessor, match=r"its parameter 'tenant' is a \w+ of FastAPI.*@dependency"):
        make(code)


def test_processors_are_attached_by_decorators_and_by_add_methods() -> None:
    app, detached = Flow(), Service("/detached")
    one = collector("/one", sink=MemorySink())(double)
    app.add_collector(one)
    app.add_service(detached)
    two = app.collector("/two", "GET", name="second")(double)
    got = endpoint("/got")(double)
    detached.add_endpoint(got)
    put = detached.endpoint("/put", "PUT", name="putter")(double)
    assert (app.collectors, app.services, detached.endpoints) == ((one, two), (detached,), [got, put])
    assert repr(app) == "<Flow raflow-app: double, second, /detached>"


def test_add_methods_refuse_what_is_something_else() -> None:
    app, service = Flow(), Service()
    made = collector("/one")(double)
    for add in (app.add_consumer, app.add_service, service.add_endpoint):
        with pytest.raises(InvalidProcessor):
            add(made)  # type: ignore[arg-type]
    with pytest.raises(InvalidProcessor):
        app.add_collector(endpoint("/one")(double))  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="give the class"):
        service.add_middleware(NoProcess())  # type: ignore[arg-type]


def test_names_are_unique_in_a_flow() -> None:
    app = Flow()
    app.add_consumer(consumer(MemorySource([{"n": 1}]))(double))
    with pytest.raises(DuplicateName, match="'double'"):
        app.collector("/one")(double)
    app.service("/a", service_id="a")
    with pytest.raises(DuplicateName, match="service_id"):
        app.service("/b", service_id="a")
    assert [app.service("/c").service_id for _ in range(2)] == ["/c", "/c#2"]


@pytest.mark.parametrize(
    ("base", "route", "says"),
    [("/", "/a/b/{x}", "endpoint 'double' (number 1 of service '/')"), ("/a", "/b/{y}", "(number 2 of service '/a')")],
)
def test_two_processors_on_one_route_and_method_are_an_error_that_names_both(base: str, route: str, says: str) -> None:
    app = Flow()
    app.service("/a").endpoint("/b/{name}")(double)
    app.services[0].endpoint("/b/{name}", "POST")(double)
    other = app.services[0] if base == "/a" else app.service(base)
    other.endpoint(route)(double)
    for declare in (app.asgi, lambda: HttpApp.of(app)):
        with pytest.raises(DuplicateName) as caught:
            declare()
        assert "endpoint 'double' (number 1 of service '/a')" in str(caught.value)
        assert "both answer GET" in str(caught.value)
        assert says.replace("number 2", "number 3") in str(caught.value)


def test_a_collector_cannot_have_the_route_of_an_endpoint_nor_one_of_raflow() -> None:
    app = Flow()
    app.service().endpoint("/same", "POST")(double)
    app.collector("/same")(double)
    with pytest.raises(DuplicateName, match="collector 'double' and endpoint 'double'"):
        app.asgi()
    app = Flow()
    app.service().endpoint("/healthz")(double)
    with pytest.raises(DuplicateName, match="raflow itself both answer GET /healthz"):
        app.asgi()


def test_paths_that_differ_in_a_convertor_or_method_are_different_routes() -> None:
    app = Flow()
    service = app.service()
    service.endpoint("/a/{x}")(double)
    service.endpoint("/a/{x:path}")(double)
    service.endpoint("/a/{x}", "WEBSOCKET")(talk)
    HttpApp.of(app)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from raflow import http

    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(vars(http), "Request", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'raflow\[http\]'"):
        Flow().asgi()
    with pytest.raises(MissingExtra, match="fastapi"):
        _ = http.Request


def test_the_names_of_the_package_are_there() -> None:
    module = importlib.import_module("raflow.http")
    assert all(getattr(module, name) for name in module.__all__)
    assert set(module.__all__) == set(dir(module)) == set(module._HOME)
    with pytest.raises(AttributeError, match="'Nonesuch'"):
        _ = module.Nonesuch


def test_an_empty_flow_is_an_application_too() -> None:
    assert Flow().asgi().title == "raflow-app"
    assert issubclass(DuplicateName, FlowError)


def waits(websocket: WebSocket) -> None: ...


class Waits:
    def process(self, websocket: WebSocket) -> None: ...


class Talks:
    async def process(self, websocket: WebSocket) -> None: ...


@functools.wraps(talk)
def wrapped(websocket: WebSocket) -> Any:
    return talk(websocket)


@pytest.mark.parametrize("code", [waits, Waits, lambda websocket: None])
def test_a_websocket_needs_what_can_wait_without_a_thread(code: Any) -> None:
    with pytest.raises(InvalidProcessor, match=r"(waits|Waits|<lambda>) is not awaited; .* must be `async def`"):
        endpoint("/talk", "WEBSOCKET")(code)


@pytest.mark.parametrize("code", [talk, Talks, wrapped])
def test_a_websocket_takes_what_is_awaited(code: Any) -> None:
    assert endpoint("/talk", "WEBSOCKET")(code).method == "WEBSOCKET"
