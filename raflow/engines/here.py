"""What workers of steps on this machine have in common."""

from __future__ import annotations

from collections.abc import Sequence

from raflow.engines.daemons import DaemonThreads
from raflow.options import Resources
from raflow.runtime.steps.values import Packed, Value


class LocalWorkers:
    """Runs so many calls at once, whatever they need, and has all their values in this process.

    Args:
        count: Calls at once.
        threads: Name of the threads that see to them.
    """

    name = "local"

    def __init__(self, count: int, threads: str) -> None:
        self._count = count
        self._threads = DaemonThreads(threads)

    def start(self) -> None:
        """Nothing to start: workers start with the first calls."""

    def slots(self, needs: Resources) -> int:
        """Return the number of calls at once, whatever the needs: they are for clusters."""
        del needs
        return self._count

    def fetch(self, value: Value) -> Packed:
        """Return the value: all are here."""
        assert isinstance(value, Packed)
        return value

    def is_lost(self, values: Sequence[Value]) -> bool:
        """Return False: values are lost with this process only."""
        del values
        return False

    def close(self) -> None:
        """End the idle threads."""
        self._threads.close()
