"""What a user declares to collect records over HTTP: request → function → sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raflow import convert
from raflow.code import Code
from raflow.decorated import Decorated, name_of, refuse_decorated
from raflow.errors import InvalidOption, InvalidProcessor
from raflow.http.routes import BODILESS, WEBSOCKET, checked_method, checked_route
from raflow.options import CollectorOptions
from raflow.processors import sinks_of
from raflow.sinks import Sink


class Collector(Decorated):
    """A function or class that makes what a sink gets of what requests bring.

    Attributes:
        route: The path, which may have parameters.
        method: GET, POST, PUT, PATCH or DELETE.
        sinks: Where results go; empty to drop them.
    """

    kind = "collector"

    def __init__(
        self,
        code: Callable[..., Any],
        route: str,
        method: str,
        sinks: tuple[Sink, ...],
        name: str,
        options: dict[str, Any],
    ) -> None:
        super().__init__(code, name, options)
        self.route = route
        self.method = method
        self.sinks = sinks

    def copied(self, overrides: Mapping[str, Any]) -> Collector:
        """Return one with some other options; this one if there are none."""
        if not overrides:
            return self
        options = {**self.options, **CollectorOptions(**overrides).explicit()}
        return Collector(self.code, self.route, self.method, self.sinks, self.name, options)

    def _parts(self) -> tuple[Any, ...]:
        return self.code, self.route, self.method, self.sinks, self.name, self.options


def collector(
    route: str,
    method: str = "POST",
    sink: Sink | Sequence[Sink] | None = None,
    *,
    name: str | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Collector]:
    """Make a function or class a collector: request → function → sink.

    A request's body is one record (`application/json`), a list of them, one per line
    (`application/x-ndjson`) or an Arrow stream (`application/vnd.apache.arrow.stream`); with GET and
    DELETE the record is made of path and query. Parameters of the path are fields of the record, too.
    The annotation of the first parameter decides what the function gets, as for `raflow.consumer`; `str`
    and `bytes` get the body as it is. What it returns goes to the sink: None drops, lists and generators
    flatten. Its other parameters are dependencies (`raflow.dependency`), made once per request.

    The reply is `{"success": true, "records": n}`: 200 once the sinks have what was brought, or 202 with
    `ack="accepted"`. Of a list, lines or a stream the good records are written, and the reply tells of the
    others: 207, or 422 if there is no good one. What a function makes of a batch is written whole or not at all: nobody
    knows which record a result is of. With `on_error=sink` these others are kept there, as the dead
    letters of consumers are, each with its `X-Request-Id` and its place in the request, by the same flush as the
    good ones: the reply then says `"kept": true` of each, and sending it again keeps it again. What no
    record can be made of is answered only: a body that is malformed or has not the columns of the record type;
    a malformed line among others is a record that fails. An `Idempotency-Key` header makes a replica answer a
    repeated request as the first one, without doing it again; callers whom `Authorization` or an `ApiKey` tells apart
    have keys of their own.

    An `HTTPException` with the status 401, 403, 429 or 503 ends the request: it is the reply as it was raised, and
    nothing is written or kept. With any other status it is the error of its record; where that came alone, the reply
    has its status, headers and detail.

    Args:
        route: The path, e.g. `/events` or `/events/{device}`.
        method: GET, POST, PUT, PATCH or DELETE.
        sink: Where results go; several sinks each get all of them; None drops them.
        name: Defaults to the function's name.
        options: Options of `raflow.options.CollectorOptions`.

    Raises:
        InvalidOption: The route, the method or an option cannot be used.
        InvalidProcessor: The code cannot be a collector.

    Example:
        >>> from raflow import collector
        >>> from raflow.connectors.memory import MemorySink
        >>> @collector("/readings/{device}", sink=MemorySink())
        ... def reading(record: dict) -> dict:
        ...     return {**record, "celsius": (record["fahrenheit"] - 32) / 1.8}
        >>> reading({"device": "a", "fahrenheit": 212.0})["celsius"]
        100.0
    """
    route, method = checked_route(route), checked_method(method)
    if method == WEBSOCKET:
        msg = "a collector has no websocket: it replies to each request; declare it with @service.endpoint instead"
        raise InvalidOption(msg)
    given = CollectorOptions(**options).explicit()
    sinks = sinks_of(sink)

    def decorate(code: Callable[..., Any]) -> Collector:
        refuse_decorated(code)
        named = name or name_of(code)
        takes, returns = Code(code).annotations(named)
        _refuse_texts(convert.shape_of(takes), method, named)
        convert.returned_schema(returns)
        return Collector(code, route, method, sinks, named, given)

    return decorate


def _refuse_texts(shape: convert.Shape, method: str, name: str) -> None:
    if method in BODILESS and shape.record in (str, bytes):
        msg = (
            f"collector {name!r} takes the body, as {shape.record.__name__}, but {method} requests have none; take a "
            "dict or a record type, which is made of their path and query, or declare another method"
        )
        raise InvalidProcessor(msg)
