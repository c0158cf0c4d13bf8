"""Class processors: one instance per replica, set up before the first request and torn down after the last."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from anyio import to_thread


class Instances:
    """The instances of one application."""

    def __init__(self) -> None:
        self._all: list[Any] = []

    def function(self, code: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as it is, and of a class the `process` of a new instance."""
        if not isinstance(code, type):
            return code
        instance: Any = code()
        self._all.append(instance)
        process: Callable[..., Any] = instance.process
        return process

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Call `setup` of all, and at the end `teardown` of those that were set up, in reverse order."""
        async with AsyncExitStack() as stack:
            for instance in self._all:
                await _call(instance, "setup")
                stack.push_async_callback(_call, instance, "teardown")
            yield


async def _call(instance: Any, name: str) -> None:
    """Call a method if there is one; one that is synchronous in a thread, as `process` is."""
    method = getattr(instance, name, None)
    if method is None:
        return
    if inspect.iscoroutinefunction(method):
        await method()
    else:
        await to_thread.run_sync(method)
