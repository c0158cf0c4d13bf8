"""Calls a collector's function, in threads or on the event loop, and keeps the errors of single records apart."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from raflow.dependencies.making import bound
from raflow.http.application.door import RAISED, log, logged
from raflow.http.application.threads import run
from raflow.http.ingest.bodies import Problem
from raflow.http.reply import new_id
from raflow.letters import as_json

OF_REQUEST = (401, 403, 429, 503)
"""Statuses that are of a request as a whole: who sends it, and whether it may come now. Others are of a record."""
_MOST_TRACEBACKS = 3
"""Of one request in the log."""
_TURN_S = 0.01
"""How long the records of one request may hold the event loop."""


class Calls:
    """The calls of one function.

    Args:
        function: The user's, or the `process` of their instance.
        name: Of the collector, for the log.
        concurrency: Calls of an `async def` function that run at once for one request.
    """

    def __init__(self, function: Callable[..., Any], name: str, concurrency: int) -> None:
        self._name = name
        self._concurrency = concurrency
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)

    async def each(self, values: Sequence[Any], given: Mapping[str, Any]) -> list[Any]:
        """Return a result for each record; a `Problem` where the call failed.

        Args:
            values: The records.
            given: The function's dependencies, by parameter.

        Raises:
            HTTPException: The function has raised one that is of the request.
        """
        calls = _OneRequest(bound(self._function, given), self._name)
        try:
            if not self._is_async:
                return await run(lambda: list(map(calls.call, values)))
            if len(values) == 1:
                return [await calls.awaited(values[0])]
            return await calls.overlapping(values, self._concurrency)
        finally:
            calls.count_others()

    async def whole(self, batch: Any, given: Mapping[str, Any]) -> Any:
        """Return the result for a batch; a `Problem` if the call failed. Raises as `each`."""
        calls = _OneRequest(bound(self._function, given), self._name)
        return await calls.awaited(batch) if self._is_async else await run(calls.call, batch)


class _OneRequest:
    """The calls for one request: the first errors are logged with their tracebacks, the others counted."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self._what = f"collector {name!r}"
        self._failed = 0
        self._others_id = new_id()

    def call(self, value: Any) -> Any:
        try:
            result = self._function(value)
            return list(result) if inspect.isgenerator(result) else result
        except RAISED as error:
            return self._problem(error)

    async def awaited(self, value: Any) -> Any:
        try:
            result = self._function(value)
            if inspect.isasyncgen(result):
                return [item async for item in result]
            return await result
        except RAISED as error:
            return self._problem(error)

    async def overlapping(self, values: Sequence[Any], most: int) -> list[Any]:
        """Await so many calls at once; functions that never wait leave the event loop to others now and then."""
        found: list[Any] = [None] * len(values)
        left = iter(enumerate(values))
        until = time.monotonic() + _TURN_S

        async def work() -> None:
            nonlocal until
            for place, value in left:
                found[place] = await self.awaited(value)
                if time.monotonic() > until:
                    await asyncio.sleep(0)
                    until = time.monotonic() + _TURN_S

        await _together(work() for _ in range(min(most, len(values))))
        return found

    def count_others(self) -> None:
        if self._failed > _MOST_TRACEBACKS:
            more = self._failed - _MOST_TRACEBACKS
            log.error("error %s in %s: and %s more of the request", self._others_id, self._what, f"{more:,}")

    def _problem(self, error: BaseException) -> Problem:
        if isinstance(error, HTTPException):
            return _as_raised(error)
        self._failed += 1
        error_id = logged(self._what, error) if self._failed <= _MOST_TRACEBACKS else self._others_id
        return Problem("internal error", 500, error_id=error_id, error=error)


def _as_raised(error: HTTPException) -> Problem:
    """Return what is wrong with a record.

    Raises:
        HTTPException: It is the request with which something is wrong.
    """
    if error.status_code in OF_REQUEST:
        raise error
    detail: Any = error.detail
    message = detail if isinstance(detail, str) else as_json(detail)
    return Problem(message, error.status_code, detail, error=error, headers=error.headers)


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; if one of them fails, the others are cancelled first."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
