"""Attempts in this process: retries, waits and timeouts as the options of an action say."""

from __future__ import annotations

import asyncio
import inspect
import queue
import random
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from raflow.errors import StepExited, StepTimedOut
from raflow.workflows.chain.actions import Action

_GRACE_S = 0.1
_EXPIRES: ContextVar[float | None] = ContextVar("expires", default=None)
"""When the attempt is given up; `time.monotonic`."""


def tried(
    action: Action,
    call: Callable[[], Any],
    name: str,
    failed: Callable[[int, BaseException, bool], None] | None = None,
) -> Any:
    """Call until it succeeds, as often as the action's options say, and return the result.

    Args:
        action: Whose options count.
        call: What is tried.
        name: Of the step, for errors.
        failed: Told of each failed attempt: its number, the error, whether there is a further attempt.

    Raises:
        BaseException: That of the last attempt.
    """
    options = action.options
    for attempt, delay in enumerate(action.delays, 1):
        wait = delay + (random.uniform(0, options.jitter) if options.jitter and attempt > 1 else 0)
        if wait:
            time.sleep(wait)
        try:
            if not options.timeout:
                return settled(call())
            return _aside(lambda: settled(call()), options.timeout, name)
        except KeyboardInterrupt:
            raise
        except BaseException as caught:
            error = _told(caught, name)
            again = attempt < len(action.delays) and isinstance(caught, (options.retry_on, _Expired))
            if failed:
                failed(attempt, error, again)
            if again:
                continue
            if error is caught:
                raise
            raise error from None
    raise AssertionError(name)


def settled(result: Any) -> Any:
    """Return a result, awaited if it must be; in a thread of its own where a loop is running already."""
    if not inspect.isawaitable(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(result))
    return _aside(lambda: asyncio.run(_awaited(result)), None)


async def _awaited(result: Any) -> Any:
    expires = _EXPIRES.get()
    # The thread that waits for this one says first that the time is over; this only ends the coroutine.
    left = None if expires is None else expires - time.monotonic() + _GRACE_S
    return await asyncio.wait_for(result, left)


class _Expired(StepTimedOut):
    """Raised here, and not by the user's code."""


def _told(error: BaseException, name: str) -> BaseException:
    if isinstance(error, _Expired):
        return StepTimedOut(*error.args)
    if isinstance(error, SystemExit):
        return StepExited(f"step {name} called sys.exit({error.code!r}); return or raise instead")
    return error


def _aside(call: Callable[[], Any], timeout: float | None, name: str = "") -> Any:
    """Call in a daemon thread, which does not keep the process from ending."""
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        _EXPIRES.set(None if timeout is None else time.monotonic() + timeout)
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=copy_context().run, args=(work,), name="raflow attempt", daemon=True).start()
    try:
        result, error = answers.get(timeout=timeout)
    except queue.Empty:
        msg = f"step {name} took longer than its timeout of {timeout:g} s; its thread is abandoned"
        raise _Expired(msg) from None
    if error is not None:
        raise error
    return result
