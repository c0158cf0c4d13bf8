"""One request's reply: its id, whether it has begun, and taking it over when time is up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

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

    __slots__ = ("_send", "goes_on", "in_threads", "is_taken", "prepares", "request_id", "started", "status")

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self.request_id = request_id
        self.started = False
        self.status = 0
        self.is_taken = False
        self.goes_on = False
        """Whether the request is still worked on when its time is up: what it makes is kept."""
        self.in_threads: set[object] = set()
        """A mark per synchronous call of the request that runs; its thread sets and removes it."""
        self.prepares: list[Callable[[], Any]] = []
        """What transactions of the request do before anything else is written; see `SessionDep.prepare`."""

    async def send(self, message: Message) -> None:
        """Pass a part of the reply on; nothing of what comes after `take`."""
        if self.is_taken:
            return
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self.request_id), _NO_SNIFFING]
        await self._send(message)

    def close(self) -> None:
        """Let go of the server, which holds the scope and so this: a cycle in each request keeps the collector busy."""
        self._send = _nowhere

    def take(self, scope: Scope, status: int, detail: str) -> asyncio.Task[None]:
        """Reply at once, although the application still works on it; what it says later is dropped."""
        own = Reply(self._send, self.request_id)
        self.is_taken = True
        self.status = status
        return asyncio.ensure_future(refuse(scope, _nothing, own.send, status, detail))


async def _nowhere(message: Message) -> None:
    """Drop what comes after the end."""


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


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
