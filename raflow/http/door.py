"""The outermost part of the application: what holds for every request, whichever processor answers it.

A pure ASGI middleware: it adds one object and one call to a request.
"""

from __future__ import annotations

import logging
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from raflow.http.counts import Counts
from raflow.http.reply import KEY, Reply, new_id, refuse, request_id_of

log = logging.getLogger("raflow.http")

_ALWAYS = ("/healthz", "/readyz")
_GOING_AWAY, _INTERNAL_ERROR = 1001, 1011


class Door:
    """Counts requests, gives each an id, and answers for what was raised: no traceback reaches a client.

    Args:
        app: The application inside.
        counts: Of the replica.
    """

    def __init__(self, app: ASGIApp, counts: Counts) -> None:
        self.app = app
        self.counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a websocket or the lifespan."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        counts = self.counts
        reply = scope[KEY] = Reply(send, request_id_of(scope))
        counts.ongoing += 1
        counts.total += 1
        try:
            if counts.is_ready or scope["path"] in _ALWAYS:
                await self.app(scope, receive, reply.send)
            else:
                await refuse(scope, receive, reply.send, 503, _NOT_READY, {"Retry-After": "1"})
        except Exception as error:
            error_id = logged(f"{scope['method']} {scope['path']}", error, request_id=reply.request_id.decode())
            if reply.started and not reply.is_taken:
                raise  # the server must cut what it has begun to send
            await refuse(scope, receive, reply.send, 500, "internal error", error_id=error_id)
        finally:
            counts.ongoing -= 1

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.counts.websockets += 1
        try:
            if self.counts.is_ready:
                await self.app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": _GOING_AWAY, "reason": _NOT_READY})
        except WebSocketDisconnect:
            log.debug("websocket %s: the client is gone", scope["path"])
        except Exception as error:
            error_id = logged(f"websocket {scope['path']}", error)
            await send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": f"error {error_id}"})
        finally:
            self.counts.websockets -= 1


_NOT_READY = "the application is not ready: it starts or ends, or its host runs no ASGI lifespan"


def logged(what: str, error: BaseException, **more: Any) -> str:
    """Log an error with its traceback, and return the id under which it is found there."""
    error_id = new_id()
    said = "".join(f", {name.replace('_', ' ')} {value}" for name, value in more.items())
    log.error("error %s in %s%s", error_id, what, said, exc_info=error)
    return error_id
