"""An ASGI application with a count of its requests, and with the error of its lifespan kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Application = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]


@dataclass(frozen=True)
class Load:
    """What a replica is doing."""

    ongoing: int = 0
    """Requests that it works on."""
    total: int = 0
    """Requests that have ended, whatever the answer."""
    busy_s: float = 0.0
    """Seconds spent in requests, summed over them; its growth per second is how many were ongoing on average."""
    websockets: int = 0
    """Open ones; they are not among the requests."""
    connections: int = 0
    """Open ones of both kinds, idle or not."""
    lag_s: float = 0.0
    """Since its event loop last came round; large while something blocks it."""
    abandoned: int = 0
    """Calls that were given up and still hold their threads."""
    written: tuple[int, ...] = ()
    """Rows, by sink."""


class Counted:
    """Passes everything on to an application and counts.

    Args:
        application: Any ASGI application. That of a Flow has `state.counts`: `abandoned` and `written` are told, too.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._ongoing = 0
        self._total = 0
        self._busy_s = 0.0
        self._since = time.monotonic()
        self._websockets = 0
        self.error: BaseException | str | None = None
        """Why its start-up or shutdown failed: the error, or what the application said of it."""

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Answer one request or websocket, or run the application's lifespan."""
        if scope["type"] == "http":
            self._change(1)
            try:
                await self._application(scope, receive, send)
            finally:
                self._change(-1)
                self._total += 1
        elif scope["type"] == "websocket":
            self._websockets += 1
            try:
                await self._application(scope, receive, send)
            finally:
                self._websockets -= 1
        else:
            await self._lifespan(scope, receive, send)

    def load(self, connections: int, lag_s: float) -> Load:
        """Return the counts as they are; called from any thread."""
        busy_s = self._busy_s + self._ongoing * (time.monotonic() - self._since)
        counts = getattr(getattr(self._application, "state", None), "counts", None)
        known = (counts.abandoned, tuple(counts.written)) if counts is not None else (0, ())
        return Load(self._ongoing, self._total, busy_s, self._websockets, connections, lag_s, *known)

    def _change(self, by: int) -> None:
        now = time.monotonic()
        self._busy_s += self._ongoing * (now - self._since)
        self._since = now
        self._ongoing += by

    async def _lifespan(self, scope: Message, receive: Any, send: Any) -> None:
        """Run the lifespan; whoever started the replica tells of its errors, so that uvicorn need not log them."""
        phase, failed = "startup", False

        async def tell(message: Message) -> None:
            nonlocal phase, failed
            if message["type"] == "lifespan.startup.complete":
                phase = "shutdown"
            elif message["type"].endswith(".failed"):
                failed = True
                self.error = message.pop("message", "") or "the application gave no reason"
            await send(message)

        try:
            await self._application(scope, receive, tell)
        except BaseException as error:
            if not failed:
                await tell({"type": f"lifespan.{phase}.failed"})
            self.error = error
