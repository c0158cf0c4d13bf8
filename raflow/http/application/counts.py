"""What only the application knows of its replica; requests are counted by whoever serves it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from raflow.http.reply import Reply


@dataclass
class Counts:
    """What may be changed on the application's event loop alone, but for rows; any thread may read."""

    given_up: list[Reply] = field(default_factory=list)
    """To requests whose time was up; those that have ended, with their synchronous code, leave the list."""
    is_ready: bool = False
    """Whether set-up is done and teardown has not begun: what `/readyz` tells. A runtime that drains the
    replica may clear it."""

    written: list[int] = field(default_factory=list)
    """Rows, by number of the sink in `HttpApp.sinks`."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wrote(self, sink: int, rows: int) -> None:
        """Count rows that a sink has; called by the threads that write."""
        with self._lock:
            self.written[sink] += rows

    @property
    def abandoned(self) -> int:
        """Synchronous calls that were given up and still hold their threads: nothing else can end these."""
        return sum(len(reply.in_threads) for reply in self.given_up)

    def give_up(self, reply: Reply) -> None:
        """Take note that a request's time was up."""
        others = (one for one in self.given_up if one is not reply and (one.in_threads or not one.is_closed))
        self.given_up = [*others, reply]
