"""Synchronous code of requests in threads, whoever calls it there, and what the event loop knows of it.

Endpoints, FastAPI's dependencies, parts of streams and background tasks all get their threads of anyio: only
there can be told which of them a request still holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from anyio import CancelScope, to_thread

from raflow.http.reply import Reply

Result = TypeVar("Result")

REQUEST: ContextVar[Reply | None] = ContextVar("raflow request", default=None)
"""The reply of the request for which code runs; its threads know it, too."""

_run_sync = to_thread.run_sync


def watch() -> None:
    """Have replies know of all threads that their requests get of anyio, in this process; others are as before."""
    to_thread.run_sync = _run_watched  # type: ignore[assignment]


async def run(function: Callable[..., Result], *args: Any) -> Result:
    """Call a synchronous function in a thread; if the request is given up, the thread goes on without it."""
    return await _run_watched(function, *args)


async def _run_watched(
    function: Callable[..., Result], *args: Any, abandon_on_cancel: bool = False, **options: Any
) -> Result:
    reply = REQUEST.get()
    if reply is None:
        return await _run_sync(function, *args, abandon_on_cancel=abandon_on_cancel, **options)
    # anyio's own shield would hold until the thread returns; this one holds until the request is given up.
    with CancelScope(shield=not abandon_on_cancel) as scope:
        reply.waits[scope] = asyncio.current_task()
        try:
            result = await _run_sync(_marked(function, reply), *args, abandon_on_cancel=True, **options)
        finally:
            del reply.waits[scope]
    return result


def _marked(function: Callable[..., Result], reply: Reply) -> Callable[..., Result]:
    """Return a function that marks a reply while it runs."""

    def call(*args: Any) -> Result:
        mark = object()  # of this call: another one of the request may end before it, such as a teardown
        reply.in_threads.add(mark)
        try:
            return function(*args)
        finally:
            reply.in_threads.discard(mark)

    return call
