from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Annotated, Any

import anyio
import pytest
from pydantic import BaseModel, field_validator
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response

from raflow import Flow, Scope, dependency
from raflow.errors import StoreError
from raflow.http import ApiKey, BearerCredentials, Request
from raflow.http.ingest.idempotency import Replies, SharedReplies
from raflow.http.security import caller_of, note_caller
from raflow.stores import Claim, KeptReply, ReplyStore
from tests.http.hosts import serving
from tests.http.sinks import HeldSink


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


def test_what_is_under_way_is_not_forgotten_for_newer_keys() -> None:
    async def ask() -> None:
        replies, work = Replies(1), Work()
        work.go.clear()
        asked = [asyncio.create_task(replies.once(key, b"d", work)) for key in ("a", "b", "c", "a")]
        await asyncio.sleep(0)  # so that they have been asked
        work.go.set()
        assert bodies(*await asyncio.gather(*asked)) == [b"1", b"2", b"3", b"1"]
        later = [await replies.once(key, b"d", work) for key in ("d", "d", "a")]
        assert bodies(*later) == [b"4", b"4", b"5"]

    asyncio.run(ask())


def test_so_much_work_may_be_under_way_and_then_another_key_is_refused_but_no_repeated_one() -> None:
    async def ask() -> None:
        replies, work = Replies(10, most_works=2), Work()
        work.go.clear()
        left = [asyncio.create_task(replies.once(key, b"d", work)) for key in ("a", "b")]
        await asyncio.sleep(0)
        for one in left:
            one.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with pytest.raises(HTTPException, match="2 requests with an Idempotency-Key") as refused:
            await replies.once("c", b"d", work)
        assert (refused.value.status_code, refused.value.headers) == (503, {"Retry-After": "1"})
        again = asyncio.create_task(replies.once("a", b"d", work))
        await asyncio.sleep(0)
        work.go.set()
        assert bodies(await again, await replies.once("c", b"d", work)) == [b"1", b"3"]

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


def test_those_who_wait_for_work_that_was_cut_off_are_told_to_try_again() -> None:
    async def ask() -> None:
        replies, work = Replies(10), Work()
        work.go.clear()
        first, second = (asyncio.create_task(replies.once("k", b"d", work, here=True)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(HTTPException, match="was cut off") as refused:
            await second
        assert (refused.value.status_code, first.cancelled()) == (503, True)
        work.go.set()
        assert bodies(await replies.once("k", b"d", work)) == [b"1"]

    asyncio.run(ask())


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


@dependency(scope=Scope.PROCESS)
async def tenant(request: Request) -> AsyncIterator[str]:
    token = TENANT.set(request.headers["x-tenant"])
    yield TENANT.get()
    TENANT.reset(token)


@dependency(scope=Scope.PROCESS)
async def group(tenant: Annotated[str, tenant]) -> AsyncIterator[str]:
    async with anyio.create_task_group():
        yield tenant


def bound_to_a_task(sink: HeldSink, **options: Any) -> Flow:
    app = Flow("bound")

    @app.collector("/awaited", sink=sink, **options)
    async def awaited(record: dict[str, Any], group: Annotated[str, group]) -> dict[str, Any]:
        return {**record, "group": group, "tenant": TENANT.get()}

    @app.collector("/plain", sink=sink, **options)
    def plain(record: dict[str, Any], group: Annotated[str, group]) -> dict[str, Any]:
        return {**record, "group": group, "tenant": TENANT.get()}

    return app


HEADERS = {"Idempotency-Key": "k", "X-Tenant": "ada"}


@pytest.mark.parametrize("path", ["/awaited", "/plain"])
def test_dependencies_end_in_the_task_that_entered_them(path: str) -> None:
    sink = HeldSink()
    with serving(bound_to_a_task(sink)) as client:
        replies = [client.post(path, json={"n": 1}, headers=HEADERS) for _ in range(2)]
        assert [(reply.status_code, "idempotent-replayed" in reply.headers) for reply in replies] == [
            (200, False), (200, True),
        ]  # fmt: skip
    assert sink.records() == [{"n": 1, "group": "ada", "tenant": "ada"}]


def test_so_they_do_when_the_work_outlasts_the_time_of_its_request() -> None:
    sink = HeldSink()
    with serving(bound_to_a_task(sink, request_timeout_s=0.05)) as client:
        sink.go.clear()
        assert client.post("/awaited", json={"n": 1}, headers=HEADERS).status_code == 504
        sink.go.set()
        again = client.post("/awaited", json={"n": 1}, headers=HEADERS)
        while again.status_code == 504:
            again = client.post("/awaited", json={"n": 1}, headers=HEADERS)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert sink.ns() == [1]


class Leaving(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def checked(cls, n: int) -> int:
        return n if n != 13 else sys.exit(3)


def test_a_record_type_that_exits_is_an_error_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    app = Flow("leaving")

    @app.collector("/leaving")
    def leaving(record: Leaving) -> None: ...

    with serving(app) as client:
        for _ in range(2):
            reply = client.post("/leaving", json={"n": 13}, headers={"Idempotency-Key": "k"})
            assert (reply.status_code, reply.json()["error_id"] in caplog.text) == (500, True)
        assert client.post("/leaving", json={"n": 1}).status_code == 200


CALLERS = ApiKey({"shop": "k-shop", "ops": "k-ops"})


def tenants(sink: HeldSink) -> Flow:
    app = Flow("tenants")

    @app.collector("/keyed", sink=sink)
    def keyed(record: dict[str, Any], caller: Annotated[str, CALLERS]) -> dict[str, Any]:
        return record

    @app.collector("/borne", sink=sink)
    def borne(record: dict[str, Any], credentials: BearerCredentials) -> dict[str, Any]:
        return record

    @app.collector("/open", sink=sink)
    def opened(record: dict[str, Any]) -> dict[str, Any]:
        return record

    return app


@pytest.mark.parametrize(
    ("path", "ours", "theirs"),
    [
        ("/keyed", {"X-API-Key": "k-shop"}, {"X-API-Key": "k-ops"}),
        ("/borne", {"Authorization": "Bearer one"}, {"Authorization": "Bearer other"}),
        ("/open", {"Authorization": "Basic one"}, {}),
    ],
)
def test_the_key_of_one_caller_says_nothing_of_that_of_another(
    path: str, ours: dict[str, str], theirs: dict[str, str]
) -> None:
    sink, key = HeldSink(), {"Idempotency-Key": "x" * 255}
    with serving(tenants(sink)) as client:
        found = [client.post(path, json={"n": 1}, headers={**who, **key}) for who in (ours, theirs, ours, theirs)]
        assert [reply.status_code for reply in found] == [200] * 4
        assert ["idempotent-replayed" in reply.headers for reply in found] == [False, False, True, True]
        assert client.post(path, json={"n": 2}, headers={**ours, **key}).status_code == 422
    assert sink.ns() == [1, 1]


def test_whoever_only_says_a_name_is_not_the_caller_that_has_proven_it() -> None:
    proven, said = (HTTPConnection({"type": "http", "headers": [(b"authorization", b"7")]}) for _ in range(2))
    note_caller(proven, "Authorization", "7")
    assert caller_of(proven) != caller_of(said)
