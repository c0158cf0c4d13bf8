"""Synchronous user code in threads, and the mark by which the event loop sees that it has not returned."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from anyio import to_thread

from raflow.http.reply import Reply

Result = TypeVar("Result")

REQUEST: ContextVar[Reply | None] = ContextVar("raflow request", default=None)
"""The reply of the request for which code runs; its threads know it, too."""


def marked(function: Callable[..., Result]) -> Callable[..., Result]:
    """Return a synchronous function that, called in a thread, marks its request's reply while it runs."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Result:
        reply = REQUEST.get()
        if reply is None:
            return function(*args, **given)
        mark = object()  # of this call: another one of the request may end before it, such as a teardown
        reply.in_threads.add(mark)
        try:
            return function(*args, **given)
        finally:
            reply.in_threads.discard(mark)

    return call


async def run(function: Callable[..., Result], *args: Any) -> Result:
    """Call a synchronous function in a thread; if the request is given up, the thread goes on without it."""
    return await to_thread.run_sync(marked(function), *args)
