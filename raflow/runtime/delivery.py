"""Publishes what replicas have prepared: first into the ledger, then to readers.

The ledger and the sinks may be slow (object stores), so this is a thread beside the driver's loop. It
takes whatever waits, records it as one segment, commits it, and tells the driver.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from raflow.runtime.ledger import Ledger
from raflow.runtime.records import UnitRecord, prepared_event
from raflow.sinks import Part, Sink

Parts = Sequence[Sequence[Part]]
"""Per sink to which a unit's records come."""

_AT_ONCE = 8


@dataclass(frozen=True)
class Delivery:
    """A unit whose parts are staged."""

    op: str
    """The entry at which it began."""
    sinks: Sequence[Sink]
    unit: int
    record: UnitRecord
    replaces: Parts = ()
    """What an earlier attempt has published; it goes first."""


class Delivering(threading.Thread):
    """The only writer of the ledger while a run goes on, and the only caller of `Sink.commit`.

    Args:
        ledger: Of the run.
        tell: Takes `("committed", entry, unit, error)`.
    """

    def __init__(self, ledger: Ledger, tell: Callable[..., None]) -> None:
        super().__init__(name="raflow delivery", daemon=True)
        self._ledger = ledger
        self._tell = tell
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._events: list[dict[str, Any]] = []

    def deliver(self, delivery: Delivery) -> None:
        """Take a unit; returns at once."""
        self._inbox.put(delivery)

    def note(self, event: dict[str, Any]) -> None:
        """Take an event for the ledger; it is written before anything that is delivered later."""
        self._inbox.put(event)

    def finish(self) -> None:
        """Write what waits, and end."""
        self._inbox.put(None)
        self.join()

    def run(self) -> None:
        """Work until `finish`."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="raflow commit") as executor:
            open_ = True
            while open_:
                items = [self._inbox.get()]
                while not self._inbox.empty():
                    items.append(self._inbox.get())
                open_ = None not in items
                self._round([item for item in items if item is not None], executor)

    def _round(self, items: list[Any], executor: ThreadPoolExecutor) -> None:
        deliveries = [item for item in items if isinstance(item, Delivery)]
        self._events += [item for item in items if isinstance(item, dict)]
        try:
            self._write()
            list(executor.map(lambda one: discard(one.sinks, one.replaces), deliveries))
            self._events += [prepared_event(one.op, one.unit, one.record) for one in deliveries]
            self._write()
            errors = list(executor.map(_commit, deliveries))
            names = [(one.op, one.unit) for one, error in zip(deliveries, errors, strict=True) if not error]
            self._events += [{"event": "committed", "op": name, "unit": unit} for name, unit in names]
            if self._inbox.empty():
                self._write()
        except Exception as error:  # the ledger cannot be written: nothing more may be published
            errors = [error] * len(deliveries)
            if not deliveries:
                self._tell("broken", error)
        for one, problem in zip(deliveries, errors, strict=True):
            self._tell("committed", one.op, one.unit, problem)

    def _write(self) -> None:
        self._ledger.record(self._events)
        self._events = []


def discard(sinks: Sequence[Sink], parts: Parts) -> None:
    """Remove what a unit has staged or published."""
    for sink, group in zip(sinks, parts, strict=False):
        if group:
            sink.discard(group)


def _commit(delivery: Delivery) -> Exception | None:
    try:
        for sink, parts in zip(delivery.sinks, delivery.record.parts, strict=False):
            if parts:
                sink.commit(parts)
    except Exception as error:
        return error
    return None
