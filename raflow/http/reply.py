"""One request's reply: its id, whether it has begun, and the threads that work on it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from anyio import CancelScope
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

_MOST_CHARACTERS = 128
_MOST_OF_PATH = 1_000
KEY = "raflow.reply"
"""Where a request's scope holds its `Reply`."""
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


class Reply:
    """Passes a reply on to the server, with the request's id in it.

    Args:
        send: The server's.
        request_id: As text of visible ASCII characters.
    """

    __slots__ = (
        "_send", "awaits_body", "goes_on", "in_threads", "inner_send", "prepares", "request_id", "started", "status",
        "waits",
    )  # fmt: skip

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self.inner_send: Send = self.send
        """What passes a reply on from inside of all middleware, which then adds its headers."""
        self.request_id = request_id
        self.started = False
        self.status = 0
        self.awaits_body = False
        self.goes_on = False
        """Whether the request is still worked on when its time is up: what it makes is kept."""
        self.in_threads: set[object] = set()
        """A mark per synchronous call of the request that runs; its thread sets and removes it."""
        self.waits: dict[CancelScope, asyncio.Task[Any] | None] = {}
        """The tasks that wait for these calls, by what keeps them waiting though they are cancelled."""
        self.prepares: list[Callable[[], Any]] = []
        """What transactions of the request do before anything else is written; see `SessionDep.prepare`."""

    async def send(self, message: Message) -> None:
        """Pass a part of the reply on."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id), _NO_SNIFFING]
        await self._send(message)

    def close(self) -> None:
        """Let go of the server, which holds the scope and so this: a cycle in each request keeps the collector busy."""
        self._send = self.inner_send = _nowhere

    @property
    def is_closed(self) -> bool:
        """Whether all of the application has let go of the request, but for threads."""
        return self._send is _nowhere


async def _nowhere(message: Message) -> None:
    """Drop what comes after the end."""


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None,
    **more: Any,
) -> None:  # fmt: skip
    """Answer a request with an error, in the form that FastAPI's errors have."""
    await JSONResponse({"detail": detail, **more}, status, headers)(scope, receive, send)


def shown_path(scope: Scope) -> str:
    """Return the path for a log: in visible characters, of one line, without the query."""
    return quote(scope["path"][:_MOST_OF_PATH], safe="/:@!$&'()*+,;=~")


def request_id_of(scope: Scope) -> bytes:
    """Return the client's `X-Request-Id` if it can stand in a header and a log, or else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= _MOST_CHARACTERS and _is_visible(value):
            return bytes(value)
    return new_id().encode()


def _is_visible(value: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in value)


def new_id() -> str:
    """Return a random id of a request or an error; it need not be hard to guess."""
    return f"{random.getrandbits(64):016x}"
