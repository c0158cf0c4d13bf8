"""The ASGI application of a Flow: what each replica builds of the description, and any ASGI host can serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.exceptions import FastAPIError, RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from raflow import convert
from raflow.code import Code
from raflow.dependencies.credentials import FlowCredentials
from raflow.dependencies.making import Kept
from raflow.dependencies.needs import closure, needs
from raflow.dependencies.side_output import Outlets, SideOutput, SinkDependency
from raflow.errors import InvalidProcessor
from raflow.http.application.counts import Counts
from raflow.http.application.documents import add_documents, add_health
from raflow.http.application.door import Door
from raflow.http.application.gates import GatedRoute, GatedSocket, handle
from raflow.http.application.injection import Injection
from raflow.http.application.instances import Instances
from raflow.http.application.limits import Limits
from raflow.http.application.openapi import Documented, replies
from raflow.http.application.side_output import Flushed
from raflow.http.application.threads import watch
from raflow.http.application.timed import Timed
from raflow.http.collector import Collector
from raflow.http.declared import HttpApp
from raflow.http.ingest.handling import Ingest
from raflow.http.ingest.outlet import Outlet
from raflow.http.ingest.writing import Writing
from raflow.http.routes import OWN, WEBSOCKET, joined
from raflow.http.service import Endpoint, Service
from raflow.options import CollectorOptions, HttpOptions
from raflow.sinks import Sink, SinkContext, give_up
from raflow.stores.allowances import Allowances
from raflow.stores.replies import ReplyStore

_SIDE = "side-output"


def application(http: HttpApp, run_id: str, *, starts_sinks: bool = True) -> FastAPI:
    """Return the application; its lifespan opens and closes what it needs.

    `app.state.counts` is the replica's `Counts`.

    Args:
        http: The description.
        run_id: Part of the names of what sinks write.
        starts_sinks: Whether the lifespan also starts and finishes the sinks, once per run; False in
            replicas, which share them: their driver does it.

    Raises:
        InvalidProcessor: FastAPI cannot serve the signature of an endpoint; names it.
    """
    return _Building(http, SinkContext(run_id), starts_sinks).app


class _Building:
    """The parts of one application, while it is built and while it runs."""

    def __init__(self, http: HttpApp, context: SinkContext, starts_sinks: bool) -> None:
        self.http = http
        self.context = context
        self.starts_sinks = starts_sinks
        self.counts = Counts()
        self.instances = Instances()
        credentials = FlowCredentials.of(http.options.credentials())
        given = {FlowCredentials: credentials, Outlets: Outlets(self.side_output), **http.shipped}
        self.kept = Kept(http.dependencies(), given, to_thread.run_sync)
        self.injection = Injection(self.kept)
        self.outlets: list[Outlet] = []
        self.sinks: dict[int, Sink] = {}
        self.stores: list[ReplyStore | Allowances] = []
        self.app = Documented(title=http.flow_id, docs_url=None, redoc_url=None, lifespan=self.lifespan)
        self.app.state.counts = self.counts
        self.app.add_middleware(
            Door, counts=self.counts, middleware=http.middleware, logs_access=http.options.access_log
        )
        if http.options.trusted_proxies:  # around all that asks who the client is
            self.app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=_trusted(http.options.trusted_proxies))
        self.app.add_exception_handler(RequestValidationError, _invalid)
        add_health(self.app, self.counts)
        add_documents(self.app)
        self.own_routes = len(self.app.router.routes)
        for sink in http.sinks():
            self.sink(sink)
        self.counts.written = [0] * len(self.sinks)
        for make in closure(http.dependencies()):
            self.share(getattr(make, "store", None))
        for _, its_options in http.middleware:
            self.share(its_options.get("store"))
        for service in http.services:
            self.add_service(service)
        for collector in http.collectors:
            self.add_collector(collector)
        self.order_routes()

    def order_routes(self) -> None:
        """Have requests compared with our own routes last, unless one of the user's would take them: `/{name}`."""
        routes: list[Any] = self.app.router.routes
        own, theirs = routes[: self.own_routes], routes[self.own_routes :]
        if not any(one.path_regex.match(path) for one in theirs for path in OWN):
            routes[:] = theirs + own

    def add_service(self, service: Service) -> None:
        options = self.http.service_options(service)
        gate = self.gate(service, options)
        for endpoint in service.endpoints:
            path = joined(service.base_route, endpoint.route)
            try:
                self.add_endpoint(endpoint, path, service, gate)
            except (FastAPIError, AssertionError, TypeError) as error:
                msg = f"endpoint {endpoint.name!r} of service {service.service_id!r} cannot be served: {error}"
                raise InvalidProcessor(msg) from error

    def gate(self, service: Service, options: HttpOptions) -> ASGIApp:
        """Return what is around all endpoints of a service: its limits, and the user's middleware inside."""
        app: ASGIApp = Timed(handle, options.request_timeout_s, self.counts)
        for middleware, its_options in service.middleware:
            app = middleware(app, **its_options)
            self.share(its_options.get("store"))
        if service.middleware:  # it passes on what is late inside of it, and may be late itself
            app = Timed(app, 2 * options.request_timeout_s, self.counts)
        return Limits(app, options, f"service {service.service_id!r}")

    def add_endpoint(self, endpoint: Endpoint, path: str, service: Service, gate: ASGIApp) -> None:
        injected = self.injection.into(self.instances.function(endpoint.code))
        if endpoint.method == WEBSOCKET:
            self.app.router.routes.append(GatedSocket(path, injected, gate=gate, name=endpoint.name))
            return
        self.app.router.routes.append(
            GatedRoute(
                path,
                injected,
                gate=gate,
                methods=[endpoint.method],
                name=endpoint.name,
                tags=[str(service.service_id)],
                **_described(endpoint.code),
            )
        )

    def add_collector(self, collector: Collector) -> None:
        options = self.http.collector_options(collector)
        takes, returns = Code(collector.code).annotations(collector.name)
        writes = bool(collector.sinks) or options.error_sink is not None
        outlet = self.outlet(collector, options, returns) if writes else None
        function = self.instances.function(collector.code)
        shape = convert.shape_of(takes)
        ingest = Ingest(collector, function, shape, options, outlet, self.http.flow_id)
        self.share(options.idempotency_store)
        timed = Timed(handle, options.request_timeout_s, self.counts)
        gate = Limits(timed, options, f"collector {collector.name!r}")
        wants = needs(function)
        route = GatedRoute(
            collector.route,
            self.injection.into_handler(ingest.handle, wants),
            gate=gate,
            methods=[collector.method],
            name=collector.name,
            tags=["collectors"],
            response_model=None,
            **_described(collector.code),
            **replies(ingest.success),
        )
        self.app.describe(route, collector, shape)
        if not wants:  # FastAPI would look for parameters and stacks of dependencies: a third of the time
            route.app = _straight(ingest)
        self.app.router.routes.append(route)

    def share(self, store: Any) -> None:
        """Have a store closed at the end, if it is one."""
        if isinstance(store, ReplyStore | Allowances) and not any(one is store for one in self.stores):
            self.stores.append(store)

    def outlet(self, collector: Collector, options: CollectorOptions, returns: Any) -> Outlet:
        sinks = [self.sink(sink) for sink in collector.sinks]
        errors = None if options.error_sink is None else self.sink(options.error_sink)
        schema = convert.returned_schema(returns)
        writing = Writing(sinks, self.context, collector.name, options, schema, errors, self.wrote)
        self.outlets.append(Outlet(writing, options, collector.name))
        return self.outlets[-1]

    @asynccontextmanager
    async def side_output(self, make: SinkDependency) -> AsyncIterator[SideOutput]:
        options = self.http.options.http(CollectorOptions, {})
        writing = Writing([self.sink(make.sink)], self.context, _SIDE, options, None, wrote=self.wrote)
        outlet = Outlet(writing, options, _SIDE)
        await outlet.open()
        try:
            yield Flushed(outlet)
        finally:
            await outlet.close()

    def sink(self, declared: Sink) -> Sink:
        """Return a sink with the Flow's credentials: one, however many collectors write to it."""
        if id(declared) not in self.sinks:
            self.sinks[id(declared)] = declared.with_credentials(self.http.options.credentials())
        return self.sinks[id(declared)]

    def wrote(self, sink: Sink, rows: int) -> None:
        """Count rows that one of the sinks has got."""
        self.counts.wrote(next(number for number, one in enumerate(self.sinks.values()) if one is sink), rows)

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        del app
        watch()
        limits = [options.max_concurrent_requests for options in self.http.all_options().values()]
        to_thread.current_default_thread_limiter().total_tokens = max(40, sum(limits))
        own = list(self.sinks.values()) if self.starts_sinks else []
        try:
            started = [await to_thread.run_sync(sink.start, self.context) for sink in own]
            async with AsyncExitStack() as stack:
                for store in self.stores:
                    stack.push_async_callback(to_thread.run_sync, store.close)
                await stack.enter_async_context(self.kept.open())
                await stack.enter_async_context(self.instances.running())
                opened: list[Outlet] = []
                stack.push_async_callback(_close, opened)
                for outlet in self.outlets:
                    opened.append(outlet)
                    await outlet.open()
                self.counts.is_ready = True
                stack.callback(setattr, self.counts, "is_ready", False)
                yield
        except Exception:
            # Not `finish`: it deletes what the run replaces.
            await to_thread.run_sync(give_up, own, self.context)
            raise
        for sink, its_start in zip(own, started, strict=True):
            await to_thread.run_sync(sink.finish, self.context, its_start)


async def _close(outlets: Sequence[Outlet]) -> None:
    """Close outlets at once, as each may take its time to write; an error of one keeps no other from it."""
    for outcome in await asyncio.gather(*(one.close() for one in outlets), return_exceptions=True):
        if outcome is not None:
            raise outcome


def _trusted(proxies: tuple[str, ...]) -> list[str] | str:
    return "*" if "*" in proxies else list(proxies)


def _described(code: Callable[..., Any]) -> dict[str, Any]:
    """Return what OpenAPI shows of a function or class: that of a method `process` would say nothing."""
    lines = (code.__doc__ or "").strip().partition("\n")
    return {"description": code.__doc__ and lines[2].strip(), "summary": lines[0].rstrip(".") or None}


def _straight(ingest: Ingest) -> ASGIApp:
    """Return an application that answers each request with a collector's reply; HTTP errors are handled outside."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        reply = await ingest.handle(Request(scope, receive, send), {})
        await reply(scope, receive, send)

    return answer


async def _invalid(request: Request, error: Exception) -> Response:
    """Say which fields are wrong: 400 if a body is no JSON, else 422; what the client sent is not repeated."""
    del request
    assert isinstance(error, RequestValidationError)
    issues = error.errors()
    if issues and issues[0]["type"] == "json_invalid":
        found = issues[0]
        where = f" at character {found['loc'][-1]}"
        return JSONResponse({"detail": f"malformed JSON{where}: {found['ctx']['error']}"}, 400)
    detail = [{name: issue[name] for name in ("type", "loc", "msg")} for issue in issues]
    return JSONResponse({"detail": detail}, 422)
