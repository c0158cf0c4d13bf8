"""What only the application knows of its replica; requests are counted by whoever serves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Changed on the application's event loop alone; any thread may read."""

    abandoned: int = 0
    """Synchronous calls that were given up because their time was up; each may still hold its thread, so that
    a replica with many of them should be replaced."""
    is_ready: bool = False
    """Whether set-up is done and teardown has not begun: what `/readyz` tells. A runtime that drains the
    replica may clear it."""
