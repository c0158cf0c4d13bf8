"""Requests that say who they are, with `Idempotency-Key`, are done once, and answered alike each time.

The store is that of one replica: a repetition that another replica gets is done again.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.responses import Response

HEADER = "idempotency-key"
REPLAYED = "Idempotent-Replayed"
_MOST_CHARACTERS = 255


class Replies:
    """The replies to the last requests that had a key.

    Args:
        most: Kept at once; the oldest ones go first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[bytes, asyncio.Task[Response]]] = OrderedDict()

    async def once(self, key: str, digest: bytes, work: Callable[[], Awaitable[Response]]) -> Response:
        """Return the reply to the first request with the key; equal ones wait while that is being made.

        The work goes on if its client leaves, so that the client's next try gets its reply. A reply of
        500 or above is not kept: the next try does the work again.

        Args:
            key: As the client chose it.
            digest: Of what was asked.
            work: Makes the reply.

        Raises:
            HTTPException: The key cannot be used, or was used for something else.
        """
        if not 0 < len(key) <= _MOST_CHARACTERS:
            raise HTTPException(400, f"an Idempotency-Key has 1 to {_MOST_CHARACTERS} characters")
        known = self._kept.get(key)
        if known is not None and known[0] != digest:
            raise HTTPException(422, "this Idempotency-Key came with another request before; choose a new one")
        if known is not None:
            return _replayed(await asyncio.shield(known[1]))
        task = asyncio.ensure_future(self._made(key, work))
        self._kept[key] = digest, task
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return await asyncio.shield(task)

    async def _made(self, key: str, work: Callable[[], Awaitable[Response]]) -> Response:
        try:
            reply = await work()
        except BaseException:
            self._kept.pop(key, None)
            raise
        if reply.status_code >= 500:
            self._kept.pop(key, None)
        return reply


def _replayed(first: Response) -> Response:
    headers = {**first.headers, REPLAYED: "true"}
    return Response(first.body, first.status_code, headers)
