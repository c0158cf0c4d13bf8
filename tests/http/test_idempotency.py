from __future__ import annotations

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from raflow.http.idempotency import Replies


class Work:
    def __init__(self, status: int = 200) -> None:
        self.done = 0
        self.status = status
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> Response:
        await self.go.wait()
        self.done += 1
        return Response(f"{self.done}", self.status)


def bodies(*replies: Response) -> list[bytes]:
    return [bytes(reply.body) for reply in replies]


def test_equal_keys_wait_for_the_first_also_if_its_client_leaves() -> None:
    async def ask() -> None:
        replies, work = Replies(10), Work()
        work.go.clear()
        first, second, third = (asyncio.create_task(replies.once("k", b"d", work)) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        work.go.set()
        assert bodies(*await asyncio.gather(second, third)) == [b"1", b"1"]
        assert work.done == 1

    asyncio.run(ask())


def test_only_so_many_replies_are_kept() -> None:
    async def ask() -> None:
        replies, work = Replies(2), Work()
        found = [await replies.once(key, b"d", work) for key in ("a", "b", "c", "a", "c")]
        assert bodies(*found) == [b"1", b"2", b"3", b"4", b"3"]

    asyncio.run(ask())


def test_a_failure_is_not_kept() -> None:
    async def ask() -> None:
        replies = Replies(2)
        assert (await replies.once("a", b"d", Work(503))).status_code == 503
        assert (await replies.once("a", b"d", Work(200))).status_code == 200

    asyncio.run(ask())


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(HTTPException, match="1 to 255"):
        asyncio.run(Replies(2).once(key, b"", Work()))
