"""Routes behind what is around them: limits of requests, and the middleware of their service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

HANDLE = "raflow.handle"
"""Where a scope holds what answers, inside of its gate."""


async def handle(scope: Scope, receive: Receive, send: Send) -> None:
    """Let the route that was found answer: the innermost part of its gate."""
    await scope[HANDLE](scope, receive, send)


class GatedRoute(APIRoute):
    """A route behind a gate, which also sees requests of other methods: CORS asks with OPTIONS."""

    def __init__(self, path: str, function: Callable[..., Any], *, gate: ASGIApp, **options: Any) -> None:
        super().__init__(path, function, **options)
        self.gate = gate

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what has this route."""
        scope[HANDLE] = super().handle
        await self.gate(scope, receive, send)


class GatedSocket(APIWebSocketRoute):
    """The same for websockets."""

    def __init__(self, path: str, function: Callable[..., Any], *, gate: ASGIApp, **options: Any) -> None:
        super().__init__(path, function, **options)
        self.gate = gate

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what has this route."""
        scope[HANDLE] = super().handle
        await self.gate(scope, receive, send)
