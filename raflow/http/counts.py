"""What one replica is doing, as numbers: the serving runtime reads them to scale, drain and route."""

from __future__ import annotations

from dataclasses import dataclass, field

from raflow.http.reply import Reply


@dataclass
class Counts:
    """Changed on the application's event loop alone; any thread may read."""

    ongoing: int = 0
    """Requests under way."""
    total: int = 0
    """Requests that have come since the start."""
    websockets: int = 0
    """Open websockets; no requests in the sense of the other two."""
    given_up: list[Reply] = field(default_factory=list)
    """To requests whose time was up; those whose synchronous code has returned leave the list."""
    is_ready: bool = False
    """Whether set-up is done and teardown has not begun: what `/readyz` tells. A runtime that drains the
    replica may clear it."""

    @property
    def abandoned(self) -> int:
        """Synchronous calls that were given up and still hold their threads: nothing else can end these."""
        return sum(reply.in_thread for reply in self.given_up)

    def give_up(self, reply: Reply) -> None:
        """Take note that a request's time was up."""
        self.given_up = [*(one for one in self.given_up if one.in_thread), reply]
