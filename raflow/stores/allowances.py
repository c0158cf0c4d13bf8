"""The contract of a store for how often clients may ask, and the one that each replica has for itself."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable

_MOST_KEYS = 100_000
ROUNDING_S = 1e-6
"""Of sums of fractions: seconds since 1970 have no more digits."""


class Allowances(ABC):
    """What clients may still ask, by key.

    An allowance is one moment: when the client will have the whole of it again. Each request moves that on
    by its share of the period; one that would move it further than a period from now is not allowed.
    """

    blocks = True
    """Whether `take` may wait for something, so that it must not be called on an event loop."""

    @abstractmethod
    def take(self, key: str, each_s: float, per_s: float) -> float:
        """Take one request from a client's allowance and return 0; or in how many seconds there is one to take.

        Called from any thread. Raises `StoreError` when the store cannot be used.

        Args:
            key: Of the client.
            each_s: The share of one request.
            per_s: The period.
        """

    def close(self) -> None:  # noqa: B027 - there may be nothing to release
        """Release what the copy holds; it may be used again."""


class OwnAllowances(Allowances):
    """Those of one replica, in its memory.

    Args:
        now: Returns seconds that only grow.
    """

    blocks = False

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, each_s: float, per_s: float) -> float:
        """Take one; see `Allowances`."""
        now = self._now()
        full_at = max(now, self._full_at.pop(key, now)) + each_s
        wait_s = full_at - per_s - now
        if wait_s > ROUNDING_S:
            full_at -= each_s
        self._full_at[key] = full_at
        self._forget(now)
        return wait_s if wait_s > ROUNDING_S else 0.0

    def _forget(self, now: float) -> None:
        """Drop the clients that asked least lately and have their whole allowance, or are too many."""
        while len(self._full_at) > _MOST_KEYS or next(iter(self._full_at.values())) < now:
            self._full_at.popitem(last=False)
