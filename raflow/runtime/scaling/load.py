"""How many replicas of a pool are busy: measured, smoothed."""

from __future__ import annotations

import math

from raflow.runtime.scaling.values import PoolMemory, PoolState

_SMOOTH_S = 5.0
"""What was so long ago counts for little."""


def busy_replicas(pool: PoolState, past: PoolMemory, since_s: float) -> float | None:
    """Return how many replicas are busy, on average over some seconds; None while there are none.

    Args:
        pool: As it is.
        past: What is remembered of it.
        since_s: Time since then; 0 if there was nothing before.
    """
    if not pool.ready:
        return None
    busy = _busy(pool, past, since_s)
    kept = math.exp(-since_s / _SMOOTH_S)
    return min(busy if past.load is None else busy + (past.load - busy) * kept, pool.ready)


def _busy(pool: PoolState, past: PoolMemory, since_s: float) -> float:
    """Return how many were busy since then, by the time that they tell when calls end.

    Where that is too seldom, all that have something to do are, unless it waits for room.
    """
    seldom = pool.rate is None or pool.unit / pool.rate > _SMOOTH_S
    if not since_s or (seldom and not pool.blocked):
        return min(pool.in_flight, pool.ready)
    return max(pool.busy_s - past.busy_s, 0.0) / since_s
