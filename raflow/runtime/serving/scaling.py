"""How many replicas HTTP needs, and which connections are to move: pure functions.

The load is how many requests are ongoing on average; each replica may have so many of them. That holds for
applications that wait and for those that compute: where a replica is too slow, requests pile up in it. The
load is a sum, not a ratio to the present size, so a decision that is not carried out yet is not made again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from raflow.runtime.scaling.values import Decision

_WEIGHT = 0.5
"""Of the last look against all before."""
_UP_S = 0.5
"""Overload that lasts so long is answered."""
_FAR = 2.0
"""More than so many times what the pool may have is answered at once: the load is smoothed, no moment does it."""
_EASE = 0.8
"""A smaller pool must be no busier than this share of what it may be."""


@dataclass(frozen=True)
class HttpScaling:
    """How large the pool may be, and how busy a replica."""

    target_ongoing_requests: float
    """Of one replica, on average."""
    min_replicas: int
    max_replicas: int
    calm_s: float
    """How long a smaller pool must have been enough before it shrinks."""


@dataclass(frozen=True)
class Look:
    """The pool at one moment."""

    now_s: float
    """On a clock that never goes back."""
    size: int
    """Replicas that there shall be, by the last decision."""
    ongoing: tuple[float, ...]
    """Requests in each replica that is ready, on average since the last look."""
    stuck: bool = False
    """Whether several replicas have not come up, one after the other."""

    @property
    def is_cold(self) -> bool:
        """Whether replicas are still to come: what they will take on is not known yet."""
        return len(self.ongoing) < self.size


@dataclass(frozen=True)
class Past:
    """What goes out of one decision and into the next."""

    load: float = 0.0
    """Ongoing requests of the pool, smoothed."""
    over_since_s: float | None = None
    """Since when the pool has been too small."""
    calm_since_s: float | None = None
    """Since when a smaller one would have been enough."""
    calm_size: int = 0
    """The largest that was needed since then."""


def decide(look: Look, bounds: HttpScaling, past: Past) -> tuple[Decision | None, Past]:
    """Return how the pool is to change its size, if at all, and what to remember."""
    low, high = bounds.min_replicas, max(bounds.min_replicas, bounds.max_replicas)
    if not low <= look.size <= high:
        target = min(max(look.size, low), high)
        bound = f"min_replicas is {low}" if look.size < low else f"max_replicas is {high}"
        return Decision("http", look.size, target, bound), past
    if look.is_cold and not look.stuck:
        return None, replace(past, over_since_s=None, calm_since_s=None)
    load = _WEIGHT * sum(look.ongoing) + (1 - _WEIGHT) * past.load
    each = bounds.target_ongoing_requests
    wanted = min(max(math.ceil(load / each), low), high)
    enough = min(max(math.ceil(load / (each * _EASE)), low), high)
    if wanted > look.size and not look.is_cold:  # more would not come either, where some are stuck
        return _up(look, Past(load, past.over_since_s), min(wanted, 2 * look.size), each)
    if enough < look.size:
        calm = Past(load, None, past.calm_since_s, past.calm_size if past.calm_since_s is not None else 0)
        return _down(look, replace(calm, calm_size=max(calm.calm_size, enough)), bounds)
    return None, Past(load)


def _up(look: Look, past: Past, target: int, each: float) -> tuple[Decision | None, Past]:
    since = look.now_s if past.over_since_s is None else past.over_since_s
    if look.now_s - since < _UP_S and past.load <= _FAR * each * look.size:
        return None, replace(past, over_since_s=since)
    reason = f"{past.load:.1f} requests ongoing, {each:g} for each replica"
    return Decision("http", look.size, target, reason), Past(past.load)


def _down(look: Look, past: Past, bounds: HttpScaling) -> tuple[Decision | None, Past]:
    since = look.now_s if past.calm_since_s is None else past.calm_since_s
    if look.now_s - since < bounds.calm_s:
        return None, replace(past, calm_since_s=since)
    reason = f"{past.calm_size} have been enough for {look.now_s - since:.0f} s, {past.load:.1f} requests ongoing"
    return Decision("http", look.size, past.calm_size, reason), Past(past.load)


def moves(connections: Mapping[int, int]) -> dict[int, int]:
    """Return by replica how many connections it has above its share, so that new replicas get theirs."""
    share = math.ceil(sum(connections.values()) / len(connections)) if connections else 0
    return {index: count - share for index, count in connections.items() if count > share}
