"""How often one client may ask. A pure ASGI middleware."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from raflow.errors import InvalidOption
from raflow.http.reply import refuse

_MOST_KEYS = 100_000
_TRY_AGAIN_LATER = 1013


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


class RateLimit:
    """Refuses what a client asks beyond a rate: 429 with `Retry-After`.

    `service.add_middleware(RateLimit, requests=10, per_s=1)`. A client may ask for `requests` at once; the
    allowance comes back evenly over `per_s`. Each replica counts for itself, so that n replicas let up to n
    times as much through.

    Args:
        app: The application inside.
        requests: Allowed within `per_s`.
        per_s: Seconds.
        key: Returns who asks; requests with an equal key share the allowance. Default: the client's address.
            A header that nobody has checked is no good key: each request may have another one.
        now: Returns seconds that only grow.

    Raises:
        InvalidOption: A number is not positive.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        requests: int,
        per_s: float,
        key: Callable[[HTTPConnection], str] = _address,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if not (requests >= 1 and per_s > 0):
            msg = f"requests is {requests!r}, per_s {per_s!r}; both must be above 0"
            raise InvalidOption(msg)
        self.app = app
        self._key, self._now = key, now
        self._each_s, self._per_s = per_s / requests, per_s
        self._full_at: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or websocket on if its client has some of its allowance left."""
        wait_s = self._wait_s(self._key(HTTPConnection(scope)))
        if not wait_s:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await refuse(scope, receive, send, 429, "too many requests", {"Retry-After": str(math.ceil(wait_s))})
        else:
            await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "too many requests"})

    def _wait_s(self, key: str) -> float:
        """Take one from a client's allowance and return 0; or in how many seconds there is one to take."""
        now = self._now()
        full_at = max(now, self._full_at.pop(key, now)) + self._each_s
        wait_s = max(0.0, full_at - self._per_s - now)
        wait_s = 0.0 if wait_s < 1e-9 else wait_s  # sums of fractions
        self._full_at[key] = full_at if not wait_s else full_at - self._each_s
        self._forget(now)
        return wait_s

    def _forget(self, now: float) -> None:
        """Drop the clients that asked least lately and have their whole allowance, or are too many."""
        while len(self._full_at) > _MOST_KEYS or next(iter(self._full_at.values())) < now:
            self._full_at.popitem(last=False)
