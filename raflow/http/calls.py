"""Calls a collector's function, in threads or on the event loop, and keeps the errors of single records apart."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException

from raflow.dependencies.making import bound
from raflow.http.bodies import Problem
from raflow.http.door import logged
from raflow.http.threads import run

_CONCURRENCY = 64
"""Calls of an `async def` function that run at once for one request."""


class Calls:
    """The calls of one function.

    Args:
        function: The user's, or the `process` of their instance.
        name: Of the collector, for the log.
        one_at_a_time: Whether calls for one request must not overlap: they share what cannot be shared.
    """

    def __init__(self, function: Callable[..., Any], name: str, *, one_at_a_time: bool = False) -> None:
        self._name = name
        self._concurrency = 1 if one_at_a_time else _CONCURRENCY
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)

    async def each(self, values: Sequence[Any], given: Mapping[str, Any]) -> list[Any]:
        """Return a result for each record; a `Problem` where the call failed.

        Args:
            values: The records.
            given: The function's dependencies, by parameter.
        """
        call = bound(self._function, given)
        if not self._is_async:
            return await run(lambda: [self._one(call, value) for value in values])
        if len(values) == 1:
            return [await self._awaited(call, values[0])]
        slots = asyncio.Semaphore(self._concurrency)

        async def one(value: Any) -> Any:
            async with slots:
                return await self._awaited(call, value)

        return list(await asyncio.gather(*map(one, values)))

    async def whole(self, batch: Any, given: Mapping[str, Any]) -> Any:
        """Return the result for a batch; a `Problem` if the call failed."""
        call = bound(self._function, given)
        return await self._awaited(call, batch) if self._is_async else await run(self._one, call, batch)

    def _one(self, call: Callable[..., Any], value: Any) -> Any:
        try:
            result = call(value)
            return list(result) if inspect.isgenerator(result) else result
        except Exception as error:
            return self._problem(error)

    async def _awaited(self, call: Callable[..., Any], value: Any) -> Any:
        try:
            result = call(value)
            if inspect.isasyncgen(result):
                return [item async for item in result]
            return await result
        except Exception as error:
            return self._problem(error)

    def _problem(self, error: Exception) -> Problem:
        if isinstance(error, HTTPException):
            return Problem(str(error.detail), error.status_code, error=error)
        error_id = logged(f"collector {self._name!r}", error)
        return Problem("internal error", 500, error_id=error_id, error=error)
