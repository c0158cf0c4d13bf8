"""What one service or collector takes at once, and in size. A pure ASGI middleware."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raflow.http.application.gates import HANDLE
from raflow.http.application.threads import REQUEST
from raflow.http.reply import KEY, Reply
from raflow.options import HttpOptions


class Limits:
    """Refuses a request beyond `max_concurrent_requests` or `max_body_bytes`.

    The refusal takes the place of what would answer: middleware inside sees it as any other reply.

    Args:
        app: The application inside.
        options: Of the service or collector.
        name: Of it, for the replies.
    """

    def __init__(self, app: ASGIApp, options: HttpOptions, name: str) -> None:
        self.app = app
        self.name = name
        self._most = options.max_concurrent_requests
        self._max_body = options.max_body_bytes
        self._ongoing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it is within the limits; websockets always."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        reply: Reply = scope[KEY]
        REQUEST.set(reply)
        length = _body_length(scope)
        reply.awaits_body = length != 0
        if length != 0:
            receive = _Body(receive, self._max_body).receive
        if (refusal := self._refusal(length)) is not None:
            scope[HANDLE] = refusal
            await self.app(scope, receive, send)
            return
        self._ongoing += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._ongoing -= 1

    def _refusal(self, length: int | None) -> ASGIApp | None:
        if self._ongoing >= self._most:
            detail = f"{self.name} works on {self._most} requests already"
            return JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})
        if length is not None and length > self._max_body:
            return JSONResponse({"detail": _too_large(self._max_body)}, 413, {"Connection": "close"})
        return None


class _Body:
    """Counts the bytes of a body as they come: a chunked one does not say its length before."""

    __slots__ = ("_left", "_max", "_receive")

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = self._max = max_bytes

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
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
