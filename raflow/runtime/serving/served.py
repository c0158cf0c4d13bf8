"""A run with an HTTP side, and perhaps a data side beside it: both under one id, one status and one end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from raflow.metrics import RunStats, Status
from raflow.runtime.driver import Driver
from raflow.runtime.serving.serving import Serving
from raflow.sinks import SinkContext
from raflow.units import plural


class Served(threading.Thread):
    """Waits until both sides have ended; when one fails, the other one drains.

    A data side that has come to its end leaves the HTTP side answering.

    Args:
        serving: Started.
        driver: Of the data side, started; None if the Flow has none.
        empty: What a run is that has no data side; its outputs are the sinks of HTTP.
        context: Of the run.
        close: Called once, with the status, when both have ended; may raise what then is the run's error.
    """

    def __init__(
        self,
        serving: Serving,
        driver: Driver | None,
        empty: RunStats,
        context: SinkContext,
        close: Callable[[Status], None],
    ) -> None:
        super().__init__(name=f"raflow run {context.run_id}", daemon=True)
        self.context = context
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._serving = serving
        self._driver = driver
        self._empty = empty
        self._close = close
        self._began = time.monotonic()
        self._over: float | None = None

    @property
    def status(self) -> Status:
        """Where the run stands."""
        return self._outcome if self.ended.is_set() else Status.RUNNING

    @property
    def _outcome(self) -> Status:
        """How both sides have ended: a run that was stopped has not succeeded, and replaces no old data."""
        if self.error is not None:
            return Status.FAILED
        sides = [self._serving.status, *([self._driver.status] if self._driver else [])]
        return next((one for one in sides if one is not Status.SUCCEEDED), Status.SUCCEEDED)

    def stats(self) -> RunStats:
        """Return what both sides are doing."""
        if self._driver is not None:
            known = self._driver.stats()
        else:
            known = replace(self._empty, elapsed_s=(self._over or time.monotonic()) - self._began)
        http = self._serving.stats()
        own = self._empty.outputs
        rows = (*http.written, *[0] * len(own))
        outputs = tuple(f"{sink}: {plural(written, 'row')}" for sink, written in zip(own, rows, strict=False))
        moved = known.outputs if self._driver is not None else ()
        return replace(known, status=self.status, outputs=moved + outputs, http=http)

    def tell(self, *event: Any) -> None:
        """Pass on "drain" and "stop" to both sides, "scale" to the HTTP side, anything else to the data side."""
        if self._driver is not None and event[0] != "scale":
            self._driver.tell(*event)
        if event[0] in ("drain", "stop", "scale"):
            self._serving.tell(*event)

    def run(self) -> None:
        """Wait for the end."""
        if self._driver is not None:
            threading.Thread(target=self._watch, args=(self._driver,), name=f"{self.name} data", daemon=True).start()
        self._serving.ended.wait()
        if self._driver is not None:
            if self._serving.error is not None:
                self._driver.tell("drain", None)
            self._driver.ended.wait()
        self.error = self._serving.error or (self._driver.error if self._driver else None)
        try:
            self._close(self._outcome)
        except Exception as error:  # it reaches the user through `Run`
            self.error = self.error or error
        self._over = time.monotonic()
        self.ended.set()

    def _watch(self, driver: Driver) -> None:
        driver.ended.wait()
        if driver.error is not None:
            self._serving.tell("drain", None)
