"""A collector at work: a request's records through the function to the outlet, and the reply."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from raflow.convert import Shape
from raflow.dependencies.needs import closure, needs
from raflow.http.application.threads import REQUEST, run
from raflow.http.collector import Collector
from raflow.http.ingest.bodies import ARROW, Brought, Problem, Reader, said
from raflow.http.ingest.calls import Calls
from raflow.http.ingest.conversion import Results
from raflow.http.ingest.failing import Failing
from raflow.http.ingest.idempotency import HEADER, Replies, SharedReplies
from raflow.http.ingest.outlet import FlushFailed, Full, Outlet
from raflow.http.reply import KEY, Reply
from raflow.http.routes import BODILESS
from raflow.http.security import caller_of
from raflow.options import CollectorOptions

_LONG_BODY = 64 << 10
"""Bytes from which a body is parsed in a thread, since it would hold the event loop up."""
_MOST_ERRORS = 1_000
"""Records of which a reply says what is wrong with them; of the others it says how many they are."""
_NONE_OF_BATCH = "what the function made of this batch does not fit, so nothing of it is written"
_LEASE_S = 30.0
"""Beyond its timeout: work that goes on then still is the only one of its kind."""
_DEPENDENCIES = "fastapi_function_astack"
"""Where FastAPI keeps the dependencies of a request that end before its reply is sent."""


class Ingest:
    """Answers the requests of one collector.

    Args:
        collector: The description.
        function: Its function, or the `process` of the instance.
        shape: What the function gets.
        options: With the Flow's defaults.
        outlet: Where results and dead letters go; None drops them.
        flow_id: Of the Flow.
    """

    def __init__(
        self,
        collector: Collector,
        function: Callable[..., Any],
        shape: Shape,
        options: CollectorOptions,
        outlet: Outlet | None,
        flow_id: str = "",
    ) -> None:
        self.collector = collector
        self.options = options
        self.outlet = outlet
        self.success = 202 if options.ack == "accepted" and outlet is not None else 200
        self._shape = shape
        self._reader = Reader(shape, options.max_body_bytes, options.max_records)
        self._is_transaction = any(getattr(make, "is_transaction", False) for make in closure(needs(function).values()))
        # Calls that share a session must not overlap.
        self._calls = Calls(function, collector.name, 1 if self._is_transaction else options.concurrency)
        store, lease_s = options.idempotency_store, options.request_timeout_s + _LEASE_S
        shared = SharedReplies(store, f"{flow_id}/{collector.name}", lease_s) if store else None
        self._replies = Replies(options.idempotency_keys, shared, options.max_concurrent_requests)

    async def handle(self, request: Request, given: Mapping[str, Any]) -> Response:
        """Return the reply to a request.

        Args:
            request: The request.
            given: The function's dependencies, by parameter.
        """
        try:
            body = b"" if self.collector.method in BODILESS else await request.body()
        except ClientDisconnect:
            raise HTTPException(400, "the client left before its body had come") from None
        key = request.headers.get(HEADER)
        if key is None or not self.options.idempotency_keys:
            return await self._answer(request, body, given)
        answer = partial(self._answer, request, body, given)
        if given:  # they can only end in this task, which has entered them
            request.scope[KEY].goes_on = True
        return await self._replies.once(key, _digest(request, body), answer, caller_of(request), here=bool(given))

    async def _answer(self, request: Request, body: bytes, given: Mapping[str, Any]) -> Response:
        """Return the reply, once the function's dependencies have ended; an error reply is an error to them."""
        if not given:
            return await self._replied(request, body, given)
        # They end here, not with FastAPI's handler: the work may outlast that, and its reply may be kept.
        dependencies: AsyncExitStack = request.scope[_DEPENDENCIES].pop_all()
        failed: HTTPException | None = None
        try:
            async with dependencies:
                reply = await self._replied(request, body, given)
                if reply.status_code >= 400:
                    failed = HTTPException(reply.status_code)
                    raise failed
        except HTTPException as error:
            if error is not failed:
                raise
        return reply

    async def _replied(self, request: Request, body: bytes, given: Mapping[str, Any]) -> Response:
        brought = await self._read(request, body)
        unfit = len(brought.problems)
        results = await self._results(brought, given)
        undone = "a call failed" if self._is_transaction and len(brought.problems) > unfit else ""
        if undone:
            results = Results([], False, 0)
        results.is_whole = self._is_transaction and self.options.ack == "written"
        if self.options.error_sink is not None:
            failing = Failing(self.collector.name, request, brought)
            # Texts of many tracebacks take their time.
            await to_thread.run_sync(failing.into, results) if brought.problems else failing.into(results)
        if results.size and self.outlet is not None:
            await self._prepare()
            refused = await self._deliver(self.outlet, results)
            if refused is not None:
                return refused
        if results.misfits and results.is_whole:
            undone = "a result does not fit"
        _note_misfits(brought, results)
        return self._reply(brought, undone)

    async def _prepare(self) -> None:
        """Have transactions do all but the commit: where that fails, the sink gets no rows."""
        reply: Reply | None = REQUEST.get() if self._is_transaction else None
        for prepare in reply.prepares if reply else ():
            await (prepare() if inspect.iscoroutinefunction(prepare) else run(prepare))

    async def _read(self, request: Request, body: bytes) -> Brought:
        path = request.path_params
        if self.collector.method in BODILESS:
            return self._reader.fields(path, request.query_params.multi_items())
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, "compressed bodies are not read; send it without Content-Encoding")
        media_type = _media_type(request)
        read = partial(self._reader.body, body, media_type, path)
        is_long = len(body) > _LONG_BODY or media_type == ARROW  # a short one may hold many records
        return await to_thread.run_sync(read) if is_long else read()

    async def _results(self, brought: Brought, given: Mapping[str, Any]) -> Results:
        """Call the function; the records for which it fails become problems."""
        if not brought.rows:
            return Results([], False, 0)
        if not self._shape.per_record:
            return await self._whole(brought, given)
        found = await self._calls.each(brought.values, given)
        if any(type(one) is Problem for one in found):
            brought.problems |= {row: one for row, one in zip(brought.rows, found, strict=True) if type(one) is Problem}
            good = [(row, one) for row, one in zip(brought.rows, found, strict=True) if type(one) is not Problem]
            brought.rows, found = [row for row, _ in good], [one for _, one in good]
        return Results(found, False, len(found))

    async def _whole(self, brought: Brought, given: Mapping[str, Any]) -> Results:
        found = await self._calls.whole(brought.values, given)
        if type(found) is not Problem:
            return Results(found, True, len(brought.rows))
        brought.problems |= dict.fromkeys(brought.rows, found)
        brought.rows = []
        return Results([], False, 0)

    async def _deliver(self, outlet: Outlet, results: Results) -> Response | None:
        """Hand results over; return the reply if that is impossible."""
        try:
            if self.options.ack == "accepted":
                outlet.accept(results)
            else:
                await outlet.write(results)
        except Full:
            return _refused(f"{self.options.buffer_records:,} records wait to be written already")
        except FlushFailed as error:
            if error.is_final:
                detail = "a sink cannot hold what this request brought; nothing of it was written"
                return JSONResponse({"success": False, "detail": detail, "error_id": error.error_id}, 500)
            return _refused("nothing of this request was written", error_id=error.error_id)
        return None

    def _reply(self, brought: Brought, undone: str) -> Response:
        problems = brought.problems
        good = 0 if undone else brought.total - len(problems)
        if not problems:
            return Response(b'{"success":true,"records":%d}' % good, self.success, media_type="application/json")
        more = {} if self.options.error_sink is None else {"kept": True}
        if not brought.is_bulk:
            only = problems[0]
            detail = only.message if only.detail is None else only.detail
            return JSONResponse({"success": False, "detail": detail, **_under(only), **more}, only.status, only.headers)
        status = 207 if good else max(422, *(problem.status for problem in problems.values()))
        errors = [{**_entry(row, problems[row]), **more} for row in sorted(problems)[:_MOST_ERRORS]]
        others = {"more_errors": len(problems) - _MOST_ERRORS} if len(problems) > _MOST_ERRORS else {}
        why = {"detail": f"{undone}, so nothing of this request is written"} if undone else {}
        return JSONResponse({"success": False, "records": good, "errors": errors, **others, **why}, status)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _digest(request: Request, body: bytes) -> bytes:
    """Return a digest of what is asked."""
    asked = hashlib.sha256(f"{request.url.path}?{request.url.query}\0{_media_type(request)}\0".encode())
    asked.update(body)  # no copy: it may be large
    return asked.digest()


def _note_misfits(brought: Brought, results: Results) -> None:
    """Make problems of the records whose results were not written."""
    for place, error in results.misfits.items():
        brought.problems[brought.rows[place]] = _misfit(results, error)


def _misfit(results: Results, error: Exception) -> Problem:
    if results.refused is not None:
        return Problem("a sink cannot hold it", 500, error_id=results.error_id)
    return Problem(f"{_NONE_OF_BATCH}: {said(error)}" if results.is_batch else said(error))


def _refused(detail: str, **more: str) -> Response:
    return JSONResponse({"success": False, "detail": detail, **more}, 503, {"Retry-After": "1"})


def _entry(row: int, problem: Problem) -> dict[str, Any]:
    return {"index": row, "status": problem.status, "message": problem.message, **_under(problem)}


def _under(problem: Problem) -> dict[str, Any]:
    return {} if problem.error_id is None else {"error_id": problem.error_id}
