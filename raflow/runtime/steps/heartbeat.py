"""Signs of life, which the code of a step gives while it works.

They go to the driver past its inbox: one that is busy with something else must not take that for silence.
From another process only a few travel within each limit, and the driver waits as much longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

Listener: TypeAlias = "Callable[[Any], bool]"
"""Gets the details of a sign of life; returns whether the attempt is still wanted."""

_PACE = 0.1
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def heartbeat(details: Any = None) -> bool:
    """Tell that the attempt in which this is called is alive; returns at once.

    Where an activity has a limit, `conf_activity(…, heartbeat=5)`, an attempt that calls this less often ends
    as timed out. Outside workflows it does nothing, so that activities stay plain functions.

    Args:
        details: How far it has come, for example; the last ones are in the error of a timeout, as text.

    Returns:
        False once nobody waits for the attempt any more, because it has timed out or the run has ended: the
        activity may then return early. Only threads see that; processes and Ray workers are killed.

    Example:
        >>> def download(pages):
        ...     for page in pages:
        ...         if not heartbeat(page):
        ...             return
        >>> download(["one", "two"])
    """
    listener = _listener.get()
    return listener is None or listener(details)


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """Let a listener hear what the code within says."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def paced(tell: Callable[[str], None], limit: float) -> Listener:
    """Return a listener that hands on as many signs of life as the limit, in seconds, asks for."""
    due = 0.0

    def listen(details: Any) -> bool:
        nonlocal due
        if limit and time.monotonic() >= due:
            due = time.monotonic() + limit * _PACE
            tell(said(details))
        return True

    return listen


def said(details: Any) -> str:
    """Return details as a short text."""
    return "" if details is None else f"{details!s:.200}"


def patience(limit: float) -> float:
    """Return how long the driver waits for a sign of life."""
    return limit * (1 + _PACE)
