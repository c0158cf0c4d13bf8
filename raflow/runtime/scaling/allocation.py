"""How many replicas each pool gets of what there is: one joint allocation, in whole replicas.

Theory. A flow is as fast as its slowest pool. With `work_s` replica-seconds of work left in a pool, n replicas
need work_s / n seconds. In fractions of replicas the shortest common time is

    T = max over resources (Σ needs_i × work_i / limit)      n_i = work_i / T

In whole replicas it is the smallest T for which the ⌈work_i / T⌉, kept within the bounds, still fit; it is
found by halving, because what is needed only falls as T grows. What is left over goes, one by one, to the
pool that is nearest to being the slowest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

Amounts = Mapping[str, float]
"""Resource → amount, by Ray's names: CPU, GPU, memory (bytes), custom ones."""

_HEADROOM = 1.25
"""What is left over makes no pool more than this much faster than it need be."""
_TOLERANCE = 1e-6
"""Fractions such as 0.1 do not add up exactly."""


@dataclass(frozen=True)
class Share:
    """What one pool brings into the allocation."""

    name: str
    needs: Amounts
    """Of one replica."""
    work_s: float
    """Seconds that one replica would need for all that is left."""
    low: int = 1
    """It gets at least so many replicas."""
    high: int = 1 << 20
    """It gets at most so many."""
    floor_s: float = 0.0
    """No use in being done sooner: another pool that it feeds, or is fed by, will not be."""

    def size(self, time_s: float) -> int:
        """Return the fewest replicas that are done in that time, within the bounds."""
        wanted = math.ceil(self.work_s / max(time_s, self.floor_s)) if self.work_s else 0
        return max(self.low, min(self.high, wanted))

    def of(self, size: int) -> Share:
        """Return this share with just so many replicas."""
        return replace(self, low=size, high=size)


def used(needs: Mapping[str, Amounts], sizes: Mapping[str, float]) -> dict[str, float]:
    """Return what so many replicas of each pool need together."""
    total: dict[str, float] = {}
    for name, size in sizes.items():
        for resource, amount in needs[name].items():
            total[resource] = total.get(resource, 0.0) + amount * size
    return total


def fits(amounts: Amounts, capacity: Amounts) -> bool:
    """Return whether there is that much."""
    return all(amount <= capacity.get(key, 0.0) * (1 + _TOLERANCE) + _TOLERANCE for key, amount in amounts.items())


def most(needs: Amounts, capacity: Amounts) -> int:
    """Return how many replicas with these needs fit; one for each CPU, and at least one, if they need nothing."""
    counts = [int(capacity.get(key, 0.0) / amount + _TOLERANCE) for key, amount in needs.items() if amount]
    return min(counts, default=max(math.ceil(capacity.get("CPU", 1.0)), 1))


def admit(shares: Collection[Share], capacity: Amounts) -> dict[str, int]:
    """Return each pool's `low`, or less where they do not fit together: first one replica each, then evenly more."""
    needs = {share.name: share.needs for share in shares}
    sizes = {share.name: share.low for share in shares}
    if fits(used(needs, sizes), capacity):
        return sizes
    sizes = dict.fromkeys(needs, 0)
    for level in range(1, max((share.low for share in shares), default=0) + 1):
        for share in shares:
            if share.low >= level == sizes[share.name] + 1:
                more = {**sizes, share.name: level}
                sizes = more if fits(used(needs, more), capacity) else sizes
    return sizes


def allocate(shares: Collection[Share], capacity: Amounts, shortest_s: float) -> dict[str, int]:
    """Return the replicas of each pool that are done with all work soonest.

    Args:
        shares: The pools. One whose `low` does not fit beside those of the others gets what `admit` gives it.
        capacity: What there is for them.
        shortest_s: Nothing is gained by being done sooner than in so many seconds.

    Returns:
        Sizes within the bounds that together fit; the larger the capacity, the shorter the common time.
    """
    needs = {share.name: share.needs for share in shares}
    low = admit(shares, capacity)
    shares = [share if low[share.name] == share.low else share.of(low[share.name]) for share in shares]

    def sizes(time_s: float) -> dict[str, int]:
        return {share.name: share.size(time_s) for share in shares}

    short, long = shortest_s, max([shortest_s, *(share.work_s for share in shares)])
    if not fits(used(needs, sizes(long)), capacity):  # not even one replica for each pool with work
        return _spread(shares, {name: low[name] for name in needs}, capacity, short)
    if fits(used(needs, sizes(short)), capacity):
        long = short
    while long > short * (1 + _TOLERANCE):
        middle = math.sqrt(short * long)
        short, long = (short, middle) if fits(used(needs, sizes(middle)), capacity) else (middle, long)
    return _spread(shares, sizes(long), capacity, long)


def fluid_s(shares: Collection[Share], capacity: Amounts) -> float:
    """Return the shortest time for all work, in fractions of replicas and without bounds."""
    work = used({share.name: share.needs for share in shares}, {share.name: share.work_s for share in shares})
    return max((amount / capacity[key] for key, amount in work.items() if capacity.get(key)), default=0.0)


def _spread(shares: Collection[Share], sizes: dict[str, int], capacity: Amounts, time_s: float) -> dict[str, int]:
    """Give out what is left over, the slowest pool first."""
    needs = {share.name: share.needs for share in shares}
    left = used(needs, sizes)
    growing = [share for share in shares if share.work_s]
    while growing:
        slowest = max(growing, key=lambda share: share.work_s / max(sizes[share.name], _TOLERANCE))
        more = {key: left.get(key, 0.0) + amount for key, amount in slowest.needs.items()}
        enough = _HEADROOM * slowest.work_s / max(time_s, slowest.floor_s)
        if sizes[slowest.name] < min(slowest.high, max(enough, 1)) and fits(more, capacity):
            sizes[slowest.name] += 1
            left |= more
        else:
            growing.remove(slowest)
    return sizes
