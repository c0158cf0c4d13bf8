"""What one service or collector takes at once, in size and in time. A pure ASGI middleware."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raflow.http.counts import Counts
from raflow.http.deadlines import Deadlines
from raflow.http.reply import KEY, Reply, refuse
from raflow.http.threads import REQUEST
from raflow.options import HttpOptions


class Limits:
    """Refuses a request beyond `max_concurrent_requests`, `max_body_bytes` or `request_timeout_s`.

    Args:
        app: The application inside.
        options: Of the service or collector.
        name: Of it, for the replies.
        counts: Of the replica.
    """

    def __init__(self, app: ASGIApp, options: HttpOptions, name: str, counts: Counts) -> None:
        self.app = app
        self.name = name
        self._counts = counts
        self._most, self._timeout_s = options.max_concurrent_requests, options.request_timeout_s
        self._deadlines = Deadlines(self._timeout_s)
        self._max_body = options.max_body_bytes
        self._ongoing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it is within the limits; websockets always."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._ongoing >= self._most:
            detail = f"{self.name} works on {self._most} requests already"
            await refuse(scope, receive, send, 503, detail, {"Retry-After": "1"})
            return
        length = _body_length(scope)
        if length is not None and length > self._max_body:
            await refuse(scope, receive, send, 413, _too_large(self._max_body), {"Connection": "close"})
            return
        self._ongoing += 1
        try:
            await self._within_time(scope, _Body(receive, self._max_body) if length != 0 else None, receive, send)
        finally:
            self._ongoing -= 1

    async def _within_time(self, scope: Scope, body: _Body | None, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        reply: Reply = scope[KEY]
        REQUEST.set(reply)
        late = _Late(scope, reply, body, task, self._timeout_s)
        self._deadlines.add(late)
        try:
            await self.app(scope, receive if body is None else body.receive, send)
        except asyncio.CancelledError:
            if late.said is None:
                raise
            if hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
        finally:
            self._deadlines.remove(late)
        if late.said is not None:
            self._counts.give_up(reply)
            await late.said


class _Late:
    """Called when time is up: replies at once, then cancels what still works on the request, unless it goes on.

    A reply that has begun goes on: what takes its time then may be a client, or a stream.

    A synchronous function cannot be cancelled: its thread runs on, and its result is dropped.
    """

    def __init__(
        self, scope: Scope, reply: Reply, body: _Body | None, task: asyncio.Task[Any], timeout_s: float
    ) -> None:
        self.said: asyncio.Task[None] | None = None
        self._parts = scope, reply, body, task, timeout_s

    def __call__(self) -> None:
        scope, reply, body, task, timeout_s = self._parts
        if reply.started:
            return
        if body is None or body.is_complete:
            status, detail = 504, f"there was no reply within {timeout_s:g} s"
        else:
            status, detail = 408, f"the body did not come within {timeout_s:g} s"
        self.said = reply.take(scope, status, detail)
        if not reply.goes_on:
            task.cancel()


class _Body:
    """Counts the bytes of a body as they come: a chunked one does not say its length before."""

    __slots__ = ("_left", "_max", "_receive", "is_complete")

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = self._max = max_bytes
        self.is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
            if self._left < 0:
                raise HTTPException(413, _too_large(self._max), {"Connection": "close"})
        return message


def _too_large(most: int) -> str:
    return f"the body is larger than {most:,} bytes"


def _body_length(scope: Scope) -> int | None:
    """Return the bytes of the body, 0 if there is none; None if only its end will tell."""
    length: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
        if name == b"transfer-encoding":
            length = None
    return length
