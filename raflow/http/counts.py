"""What one replica is doing, as numbers: the serving runtime reads them to scale, drain and route."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """Changed on the application's event loop alone; any thread may read."""

    ongoing: int = 0
    """Requests under way."""
    total: int = 0
    """Requests that have come since the start."""
    websockets: int = 0
    """Open websockets; no requests in the sense of the other two."""
    abandoned: int = 0
    """Synchronous calls that were given up because their time was up; each may still hold its thread, so that
    a replica with many of them should be replaced."""
    is_ready: bool = False
    """Whether set-up is done and teardown has not begun: what `/readyz` tells. A runtime that drains the
    replica may clear it."""
