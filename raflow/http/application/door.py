"""The outermost part of the application: what holds for every request, whichever processor answers it.

Pure ASGI middleware: it adds one object and few calls to a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from raflow.errors import StoreError
from raflow.http.application.counts import Counts
from raflow.http.application.redaction import Redacted
from raflow.http.reply import KEY, Reply, new_id, refuse, request_id_of, shown_path

log = logging.getLogger("raflow.http")
log.addFilter(Redacted())
access_log = logging.getLogger("raflow.access")

RAISED = (Exception, SystemExit)
"""What user code raises: `sys.exit()` in it is an error of its request, and does not end the replica."""
_ALWAYS = ("/healthz", "/readyz")
_GOING_AWAY, _INTERNAL_ERROR = 1001, 1011


class Door:
    """Gives each request an id, and lets it in through the middleware of the Flow, but for questions of health.

    Args:
        app: The application inside.
        counts: Of the replica.
        middleware: Of the Flow, each with its options; the last one is the outermost.
        logs_access: Whether each request gets a line in the log.
    """

    def __init__(
        self,
        app: ASGIApp,
        counts: Counts,
        *,
        middleware: Sequence[tuple[Any, dict[str, Any]]] = (),
        logs_access: bool = False,
    ) -> None:
        self.app = app
        self.counts = counts
        self.logs_access = logs_access
        self._inside: ASGIApp = _Answering(self._if_ready)
        self._whole = self._inside
        for kind, options in middleware:
            self._whole = kind(self._whole, **options)
        if middleware:
            self._whole = _Answering(self._whole)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a websocket or the lifespan."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._whole(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = scope[KEY] = Reply(send, request_id_of(scope))
        began = time.perf_counter()
        app = self._inside if scope["path"] in _ALWAYS else self._whole
        try:
            await app(scope, receive, reply.send)
        finally:
            reply.close()
            if self.logs_access:
                _log_access(scope, reply, time.perf_counter() - began)

    async def _if_ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.counts.is_ready or scope["path"] in _ALWAYS:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await refuse(scope, receive, send, 503, _NOT_READY, {"Retry-After": "1"})
        else:
            await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": _NOT_READY})


class _Answering:
    """Answers for what was raised inside: no traceback reaches a client.

    Args:
        app: The application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a websocket on."""
        error_id, said = "", _ERROR
        try:
            await self.app(scope, receive, send)
        except BrokenOff:
            raise
        except WebSocketDisconnect:
            log.debug("websocket %s: the client is gone", scope["path"])
        except RAISED as error:
            error_id = _logged(scope, error)
            said = _NO_STORE if isinstance(error, StoreError) else _ERROR
        if not error_id:  # out of the `except`: an error from here does not show that one in the log of the server
            return
        if scope["type"] == "http":
            await _own_up(scope, receive, send, said, error_id)
        else:
            await send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": f"error {error_id}"})


def _logged(scope: Scope, error: BaseException) -> str:
    if scope["type"] != "http":
        return logged(f"websocket {shown_path(scope)}", error)
    return logged(f"{scope['method']} {shown_path(scope)}", error, request_id=scope[KEY].request_id.decode())


class BrokenOff(Exception):
    """A reply that has begun cannot go on. Nothing of the cause is in it: the server logs it with its traceback."""


async def _own_up(
    scope: Scope, receive: Receive, send: Send, said: tuple[int, str, dict[str, str]], error_id: str
) -> None:
    """Tell the client of an error, if it can be through the middleware that it has passed: browsers need CORS.

    Raises:
        BrokenOff: Too late: the server must cut what it has begun to send.
    """
    reply: Reply = scope[KEY]
    if reply.started:
        msg = f"the reply broke off; why is in the log under error {error_id}"
        raise BrokenOff(msg)
    status, detail, headers = said
    with suppress(Exception):  # middleware that has ended need not pass it on
        await refuse(scope, receive, reply.inner_send, status, detail, headers, error_id=error_id)
    if not reply.started:
        await refuse(scope, receive, send, status, detail, headers, error_id=error_id)


_NO_STORE = 503, "what replicas share cannot be used; try again", {"Retry-After": "1"}
_ERROR: tuple[int, str, dict[str, str]] = 500, "internal error", {}
_NOT_READY = "the application is not ready: it starts or ends, or its host runs no ASGI lifespan"


def _log_access(scope: Scope, reply: Reply, took_s: float) -> None:
    client = quote((scope.get("client") or ("-",))[0], safe=":%")  # a proxy may have been told anything
    parts = client, scope["method"], shown_path(scope), reply.status, took_s * 1000, reply.request_id.decode()
    access_log.info("%s %s %s %d %.1f ms %s", *parts)


def logged(what: str, error: BaseException, **more: Any) -> str:
    """Log an error with its traceback, and return the id under which it is found there."""
    error_id = new_id()
    said = "".join(f", {name.replace('_', ' ')} {value}" for name, value in more.items())
    log.error("error %s in %s%s", error_id, what, said, exc_info=error)
    return error_id
