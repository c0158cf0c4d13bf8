"""What happens to steps, told to observers who can neither slow nor fail a run."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from raflow.metrics import Status

log = logging.getLogger("raflow")

_CLOSE_S = 2.0


@dataclass(frozen=True)
class StepEvent:
    """A step has changed."""

    run_id: str
    step: str
    """The step's id."""
    status: Status
    at: datetime
    """When, UTC."""
    attempt: int
    """From 1; 0 before the first one."""
    error: str | None = None
    """Type and text, where an attempt has failed."""


Observer = Callable[[StepEvent], None]


class Observers:
    """Hands events to each observer on a thread of its own. An observer that raises gets no further events."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._queues: list[queue.SimpleQueue[StepEvent | None]] = []
        self._threads: list[threading.Thread] = []
        for observer in observers:
            events: queue.SimpleQueue[StepEvent | None] = queue.SimpleQueue()
            thread = threading.Thread(target=_serve, args=(observer, events), name="raflow observer", daemon=True)
            self._queues.append(events)
            self._threads.append(thread)
            thread.start()

    def __bool__(self) -> bool:
        return bool(self._queues)

    def tell(self, event: StepEvent) -> None:
        """Hand an event on; returns at once."""
        for events in self._queues:
            events.put(event)

    def close(self) -> None:
        """Wait a little for observers that are behind."""
        for events in self._queues:
            events.put(None)
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            with contextlib.suppress(RuntimeError):  # an observer may end the run that it observes
                thread.join(max(0.0, deadline - time.monotonic()))


def _serve(observer: Observer, events: queue.SimpleQueue[StepEvent | None]) -> None:
    while (event := events.get()) is not None:
        try:
            observer(event)
        except Exception:
            log.warning("observer %r failed and gets no further events", observer, exc_info=True)
            return
