"""What a user declares to answer requests: a service and its endpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from raflow.code import check_constructor
from raflow.decorated import Decorated, adding, name_of, refuse_decorated
from raflow.dependencies.needs import routine_of
from raflow.errors import InvalidOption, InvalidProcessor
from raflow.http.routes import WEBSOCKET, checked_method, checked_route
from raflow.options import HttpOptions


class Endpoint(Decorated):
    """A function or class that answers the requests of one route and method.

    Attributes:
        route: The path below the service's base route.
        method: GET, POST, PUT, PATCH, DELETE or WEBSOCKET.
    """

    kind = "endpoint"

    def __init__(self, code: Callable[..., Any], route: str, method: str, name: str) -> None:
        super().__init__(code, name, {})
        self.route = route
        self.method = method

    def _parts(self) -> tuple[Any, ...]:
        return self.code, self.route, self.method, self.name


def endpoint(route: str, method: str = "GET", *, name: str | None = None) -> Callable[[Callable[..., Any]], Endpoint]:
    """Make a function or class an endpoint: request → function → reply.

    It is a FastAPI function: parameters come from path, query, header, body (a dataclass or pydantic model),
    form and files, or are dependencies (`raflow.dependency`); it may ask for the `Request` or, with the
    method WEBSOCKET and `async def`, the `WebSocket`; it returns what becomes JSON, or any Starlette response,
    or yields the lines of a stream. A synchronous function runs in a thread. Of a class, each replica makes
    one instance: `setup` is called before the first request, `process` for each, `teardown` after the last one.

    Args:
        route: The path below the service's base route.
        method: GET, POST, PUT, PATCH, DELETE or WEBSOCKET.
        name: Defaults to the function's name.

    Raises:
        InvalidOption: The route or the method cannot be used.
        InvalidProcessor: The code cannot be an endpoint.
    """
    route, method = checked_route(route), checked_method(method)

    def decorate(code: Callable[..., Any]) -> Endpoint:
        refuse_decorated(code)
        _check(code)
        if method == WEBSOCKET:
            _check_awaited(code)
        return Endpoint(code, route, method, name or name_of(code))

    return decorate


def _check(code: Any) -> None:
    if isinstance(code, type):
        if not callable(getattr(code, "process", None)):
            msg = f"class {code.__name__} has no method process(self, …); a class as endpoint needs one"
            raise InvalidProcessor(msg)
        check_constructor(code)
    elif not callable(code):
        msg = f"{code!r} cannot be an endpoint; decorate a function or a class with a process method"
        raise InvalidProcessor(msg)


def _check_awaited(code: Any) -> None:
    """Refuse what would block the event loop, for all requests of the replica, as long as its websocket is open."""
    talks = routine_of(getattr(code, "process", code))
    if not any(map(inspect.iscoroutinefunction, (talks, inspect.unwrap(talks)))):
        msg = f"{name_of(code)} is not awaited; an endpoint with the method WEBSOCKET must be `async def`"
        raise InvalidProcessor(msg)


class Service:
    """Endpoints that share a base route, middleware and replicas.

    Args:
        base_route: Before the routes of all endpoints.
        service_id: Names it in logs and `--set`; default: the base route.
        options: Options of `raflow.options.HttpOptions`.

    Raises:
        InvalidOption: The base route or an option cannot be used.

    Example:
        >>> from raflow import Flow, Service
        >>> service = Service("/greetings")
        >>> @service.endpoint("/{name}")
        ... def greet(name: str) -> dict:
        ...     return {"text": f"Hello, {name}!"}
        >>> Flow().add_service(service)
        >>> greet("Ada")
        {'text': 'Hello, Ada!'}
    """

    def __init__(self, base_route: str = "/", *, service_id: str | None = None, **options: Any) -> None:
        self.base_route = checked_route(base_route, "base_route")
        self.service_id = service_id
        self.options = HttpOptions(**options).explicit()
        self.endpoints: list[Endpoint] = []
        self.middleware: list[tuple[Any, dict[str, Any]]] = []

    def __repr__(self) -> str:
        return f"<service {self.service_id or self.base_route}: {len(self.endpoints)} endpoint(s)>"

    def copied(self, overrides: Mapping[str, Any]) -> Service:
        """Return another one, with the same endpoints and some other options."""
        options = {**self.options, **HttpOptions(**overrides).explicit()}
        made = Service(self.base_route, service_id=self.service_id, **options)
        made.endpoints = list(self.endpoints)
        made.middleware = list(self.middleware)
        return made

    def endpoint(
        self, route: str, method: str = "GET", *, name: str | None = None
    ) -> Callable[[Callable[..., Any]], Endpoint]:
        """Make a function or class an endpoint of this service; see `raflow.endpoint` for the arguments."""
        return adding(endpoint(route, method, name=name), self.add_endpoint)

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Add an endpoint that was declared elsewhere with `@endpoint(...)`.

        Raises:
            InvalidProcessor: It was not made by `@endpoint(...)`.
        """
        if not isinstance(endpoint, Endpoint):
            msg = f"{endpoint!r} is no endpoint; decorate it with @endpoint(route, method) first"
            raise InvalidProcessor(msg)
        self.endpoints.append(endpoint)

    def add_middleware(self, middleware: type, **options: Any) -> None:
        """Put an ASGI middleware around all endpoints of the service; the one added last is the outermost.

        It is within the limits of the service, and itself may take twice `request_timeout_s`. It also sees what is
        raised; that of `Flow.add_middleware` only sees replies, but all of them.

        Args:
            middleware: A class that is called with the ASGI application and the options.
            options: Its keyword arguments.

        Raises:
            InvalidOption: It is no class.
        """
        self.middleware.append((checked_middleware(middleware), options))


def checked_middleware(middleware: Any) -> Any:
    """Return a class of middleware.

    Raises:
        InvalidOption: It is no class.
    """
    if not isinstance(middleware, type):
        msg = f"{middleware!r} is no middleware; give the class and its options, not an instance"
        raise InvalidOption(msg)
    return middleware
