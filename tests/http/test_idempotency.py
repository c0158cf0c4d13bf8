from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from raflow.errors import StoreError
from raflow.http.idempotency import Replies, SharedReplies
from raflow.stores import Claim, KeptReply, ReplyStore


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


class Renewed(ReplyStore):
    """Grants everything, tells of renewals, and cannot be used for the first of them."""

    def __init__(self) -> None:
        self.renewals: list[tuple[str, float]] = []
        self.often = threading.Event()
        self.owners: list[str] = []
        self.kept = 0

    def claim(self, key: str, digest: bytes, owner: str, lease_s: float) -> Claim:
        self.owners.append(owner)
        return Claim(True, digest)

    def renew(self, key: str, owner: str, lease_s: float) -> None:
        assert [owner] == self.owners
        self.renewals.append((key, lease_s))
        if len(self.renewals) == 1:
            raise StoreError("gone")
        if len(self.renewals) == 3:
            self.often.set()

    def keep(self, key: str, owner: str, reply: KeptReply) -> None:
        self.kept += 1

    def release(self, key: str, owner: str) -> None:
        raise AssertionError(key)


def test_a_replica_holds_on_to_a_key_while_it_works_and_no_longer(caplog: pytest.LogCaptureFixture) -> None:
    store = Renewed()

    async def long() -> Response:
        assert await asyncio.to_thread(store.often.wait, 30)
        return Response("done")

    async def ask() -> None:
        await SharedReplies(store, "flow/c", 0.03).once("k", b"d", long)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 30)  # the renewing ends

    asyncio.run(ask())
    assert (set(store.renewals), store.kept) == ({("flow/c/k", 0.03)}, 1)
    assert "could not be prolonged, which is tried again: gone" in caplog.text


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
