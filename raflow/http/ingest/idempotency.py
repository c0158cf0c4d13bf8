"""Requests that say who they are, with `Idempotency-Key`, are done once, and answered alike each time.

Each replica knows the replies that it has made; a `ReplyStore` lets all replicas know those of all.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.responses import Response

from raflow.errors import StoreError
from raflow.stores.replies import KeptReply, ReplyStore

HEADER = "idempotency-key"
REPLAYED = "Idempotent-Replayed"
_MOST_CHARACTERS = 255
_FIRST_LOOK_S, _LATER_LOOK_S = 0.05, 0.5
"""Between two looks whether another replica has answered."""
_RENEWALS = 3
"""Tries to prolong a claim before it runs out."""

log = logging.getLogger("raflow.http")

Work = Callable[[], Awaitable[Response]]


class Replies:
    """The replies to the last requests that had a key.

    Args:
        most: Kept at once; the oldest ones go first, but none on which somebody works.
        shared: What other replicas know, too; None: nothing.
        most_works: Under way at once, as work outlives its request; None: any number.
    """

    def __init__(self, most: int, shared: SharedReplies | None = None, most_works: int | None = None) -> None:
        self._most = most
        self._shared = shared
        self._most_works = most_works
        self._works: dict[asyncio.Future[Response], asyncio.Task[None] | None] = {}
        """By the reply that it makes, with the task that it has to itself."""
        self._kept: OrderedDict[str, tuple[bytes, asyncio.Future[Response]]] = OrderedDict()

    async def once(self, key: str, digest: bytes, work: Work, caller: str = "", *, here: bool = False) -> Response:
        """Return the reply to the first request with the key; equal ones wait while that is being made.

        The work goes on if its client leaves, so that the client's next try gets its reply. A reply of
        500 or above is not kept: the next try does the work again.

        Args:
            key: As the client chose it.
            digest: Of what was asked.
            work: Makes the reply.
            caller: Differs between those whose keys have nothing to do with each other; empty if nobody is known.
            here: Whether the work cannot leave this task, so that who calls sees to it that it goes on.

        Raises:
            HTTPException: The key cannot be used, was used for something else, or too much is under way.
            StoreError: It cannot be known whether another replica has done it.
        """
        if not 0 < len(key) <= _MOST_CHARACTERS:
            raise HTTPException(400, f"an Idempotency-Key has 1 to {_MOST_CHARACTERS} characters")
        key = _of_caller(key, caller)
        known = self._kept.get(key)
        if known is not None and known[0] != digest:
            raise _used_for_another()
        if known is not None:
            return _replayed(await asyncio.shield(known[1]))
        if self._most_works is not None and len(self._works) >= self._most_works:
            raise _too_much(len(self._works))
        made: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        making = self._make(made, key, digest, work)
        self._works[made] = None if here else asyncio.ensure_future(making)
        made.add_done_callback(self._works.pop)
        self._kept[key] = digest, made
        self._forget()
        if here:
            await making
        return await asyncio.shield(made)

    def _forget(self) -> None:
        """Let the oldest replies go; one that is being made stays, so that its work is not done twice."""
        while len(self._kept) > self._most:
            oldest = next((key for key, (_, made) in self._kept.items() if made.done()), None)
            if oldest is None:
                return
            del self._kept[oldest]

    async def _make(self, made: asyncio.Future[Response], key: str, digest: bytes, work: Work) -> None:
        """Have a reply made. Errors are for those who wait for it: `SystemExit` in a task would end the event loop."""
        try:
            reply = await (self._shared.once(key, digest, work) if self._shared else work())
        except asyncio.CancelledError:
            self._kept.pop(key, None)
            made.set_exception(_cut_off())
            made.exception()  # nobody may wait for it
            raise
        except BaseException as error:
            self._kept.pop(key, None)
            made.set_exception(error)
        else:
            if reply.status_code >= 500:
                self._kept.pop(key, None)
            made.set_result(reply)


class SharedReplies:
    """Those that all replicas know.

    Args:
        store: Where they are.
        prefix: Of the keys, so that collectors and Flows can use one store.
        lease_s: When a replica has died in the work, another one may do it after that time; one that lives holds
            on to it, also when the request has got 504.
    """

    def __init__(self, store: ReplyStore, prefix: str, lease_s: float) -> None:
        self._store, self._prefix, self._lease_s = store, prefix, lease_s

    async def once(self, key: str, digest: bytes, work: Work) -> Response:
        """Return the reply to the first request with the key, in whatever replica; see `Replies.once`."""
        name, owner = f"{self._prefix}/{key}", secrets.token_hex(16)
        known = await self._claimed(name, digest, owner)
        if known is not None:
            return Response(known.body, known.status, {**known.headers, REPLAYED: "true"})
        reply: Response | None = None
        renewing = asyncio.ensure_future(self._renew(name, owner))
        try:
            reply = await work()
        finally:
            renewing.cancel()
            await self._settle(name, owner, reply)
        return reply

    async def _renew(self, name: str, owner: str) -> None:
        """Hold on to a claim until cancelled; a store that cannot be used is tried again."""
        while True:
            await asyncio.sleep(self._lease_s / _RENEWALS)
            try:
                await to_thread.run_sync(self._store.renew, name, owner, self._lease_s)
            except StoreError as error:
                log.warning("a claim to a key could not be prolonged, which is tried again: %s", error)

    async def _claimed(self, name: str, digest: bytes, owner: str) -> KeptReply | None:
        """Return a reply that is there; None once the work is ours to do."""
        look_s = _FIRST_LOOK_S
        while True:
            claim = await to_thread.run_sync(self._store.claim, name, digest, owner, self._lease_s)
            if not claim.is_granted and claim.digest != digest:
                raise _used_for_another()
            if claim.is_granted or claim.reply is not None:
                return claim.reply
            await asyncio.sleep(look_s)
            look_s = min(2 * look_s, _LATER_LOOK_S)

    async def _settle(self, name: str, owner: str, reply: Response | None) -> None:
        """Keep the reply, or let others try; the work is done either way, so that its reply is as good without."""
        try:
            if reply is None or reply.status_code >= 500:
                await to_thread.run_sync(self._store.release, name, owner)
            else:
                kept = KeptReply(reply.status_code, dict(reply.headers), bytes(reply.body))
                await to_thread.run_sync(self._store.keep, name, owner, kept)
        except StoreError as error:
            log.error("a reply could not be shared, a repeated request may be done again: %s", error)


def _of_caller(key: str, caller: str) -> str:
    """Return what stands for a caller's key: it tells nothing of either, and no client can send it as a key."""
    if not caller:
        return key
    both = hashlib.sha256(caller.encode() + b"\0" + key.encode())
    return f"caller\n{both.hexdigest()}"


def _too_much(works: int) -> HTTPException:
    """Return the refusal of one more key, while work goes on whose requests have got 504."""
    detail = f"work on {works} requests with an Idempotency-Key is under way already"
    return HTTPException(503, detail, {"Retry-After": "1"})


def _cut_off() -> HTTPException:
    """Return what those get who wait for work that was cancelled."""
    return HTTPException(503, "the first request with this Idempotency-Key was cut off", {"Retry-After": "1"})


def _used_for_another() -> HTTPException:
    """Return the refusal of a key that came with another request."""
    return HTTPException(422, "this Idempotency-Key came with another request before; choose a new one")


def _replayed(first: Response) -> Response:
    headers = {**first.headers, REPLAYED: "true"}
    return Response(first.body, first.status_code, headers)
