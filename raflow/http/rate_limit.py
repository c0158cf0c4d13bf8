"""How often one client may ask. A pure ASGI middleware."""

from __future__ import annotations

import math
from collections.abc import Callable

from anyio import to_thread
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from raflow.errors import InvalidOption
from raflow.http.reply import refuse
from raflow.stores.allowances import Allowances, OwnAllowances

_TRY_AGAIN_LATER = 1013


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


class RateLimit:
    """Refuses what a client asks beyond a rate: 429 with `Retry-After`.

    A client may ask for `requests` at once; the allowance comes back evenly over `per_s`. Each replica counts for
    itself, so that n replicas let up to n times as much through, unless they are given a store that they share.

    Args:
        app: The application inside.
        requests: Allowed within `per_s`.
        per_s: Seconds.
        key: Returns who asks; requests with an equal key share the allowance. Default: the client's address.
            A header that nobody has checked is no good key: each request may have another one.
        store: Where allowances are, such as `raflow.stores.SqlAllowances(url)`; default: in the replica. While
            it cannot be used, requests get 503.

    Raises:
        InvalidOption: A number is not positive, or the store none.

    Example:
        >>> from raflow import Flow
        >>> from raflow.http import RateLimit
        >>> service = Flow().service("/prices")
        >>> service.add_middleware(RateLimit, requests=10, per_s=1)
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        requests: int,
        per_s: float,
        key: Callable[[HTTPConnection], str] = _address,
        store: Allowances | None = None,
    ) -> None:
        if not (requests >= 1 and per_s > 0):
            msg = f"requests is {requests!r}, per_s {per_s!r}; both must be above 0"
            raise InvalidOption(msg)
        if not isinstance(store, Allowances | None):
            msg = f"store is {store!r}; it must be one of Allowances, such as raflow.stores.SqlAllowances(url)"
            raise InvalidOption(msg)
        self.app = app
        self._key, self._store = key, store or OwnAllowances()
        self._each_s, self._per_s = per_s / requests, per_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or websocket on if its client has some of its allowance left."""
        asked = self._key(HTTPConnection(scope)), self._each_s, self._per_s
        take = self._store.take
        wait_s = await to_thread.run_sync(take, *asked) if self._store.blocks else take(*asked)
        if not wait_s:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await refuse(scope, receive, send, 429, "too many requests", {"Retry-After": str(math.ceil(wait_s))})
        else:
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "too many requests"})
