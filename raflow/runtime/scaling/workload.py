"""What is left to do in each pool: queues, carried downstream and divided by true speeds."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from statistics import fmean

from raflow.runtime.scaling.allocation import Amounts, Share, most
from raflow.runtime.scaling.values import PoolMemory, PoolState, Snapshot

_UNKNOWN_S = 1000.0
"""One replica's time for a unit of data if no speed is known at all: long, so that all pools start in full."""


def shares(snapshot: Snapshot, past: Mapping[str, PoolMemory]) -> dict[str, Share]:
    """Return what each pool brings into the joint allocation.

    The work of a pool is what waits for it and what its producers have yet to make for it. A pool whose
    speed is not known counts as fast as the others on average, but no faster than its first calls.
    """
    pools = {pool.name: pool for pool in snapshot.pools}
    above = {name: [other for other in snapshot.pools if name in other.consumers] for name in pools}
    order = list(TopologicalSorter({name: [one.name for one in above[name]] for name in pools}).static_order())
    data, units = dict.fromkeys(order, 0.0), dict.fromkeys(order, 0)
    for name in order:
        pool = pools[name]
        units[name] = pool.units + sum(units[one.name] for one in above[name])
        begun = min(pool.in_flight, pool.ready)
        data[name] = (pool.units - begun / 2) * pool.unit + sum(
            data[one.name] * (1.0 if one.selectivity is None else one.selectivity) for one in above[name]
        )
    each_s = {name: 1.0 / pool.rate for name, pool in pools.items() if pool.rate}
    assumed = fmean(each_s.values()) if each_s else _UNKNOWN_S
    for name in pools.keys() - each_s.keys():
        each_s[name] = max(assumed, _first_s(past.get(name), snapshot.now_s) / pools[name].unit)
    bounds = {name: _bounds(pool, snapshot.capacity, units[name]) for name, pool in pools.items()}
    work = {name: data[name] * each_s[name] if bounds[name][1] else 0.0 for name in pools}
    floors = _floors(pools, {name: work[name] / max(bounds[name][1], 1) for name in pools})
    return {name: Share(name, pools[name].needs, work[name], *bounds[name], floors[name]) for name in pools}


def _first_s(past: PoolMemory | None, now_s: float) -> float:
    """Return how long the first calls of a pool have gone on."""
    return 0.0 if past is None or past.first_since_s is None else now_s - past.first_since_s


def _bounds(pool: PoolState, capacity: Amounts, units: int) -> tuple[int, int]:
    """Return the fewest and the most replicas that make sense; `units` are those of its producers, too."""
    if pool.ended:
        return 0, 0
    if pool.waits:
        return 0, 0
    if pool.fixed is not None:
        return pool.fixed, pool.fixed
    low = max(pool.min_replicas, min(pool.units, 1))
    if not low and not pool.size:
        return 0, 0
    high = most(pool.needs, capacity) if pool.max_replicas is None else pool.max_replicas
    if pool.exhausted:
        high = min(high, pool.units)
    elif pool.rate is None:
        high = min(high, units if not pool.size else pool.size * (1 if pool.starting else 2))
    return low, max(low, high, 1)


def _floors(pools: Mapping[str, PoolState], least_s: Mapping[str, float]) -> dict[str, float]:
    """Return for each pool the time that the slowest of all pools that it is joined with needs at least."""
    groups = {name: {name} for name in pools}
    for name, pool in pools.items():
        for consumer in pool.consumers:
            joined = groups[name] | groups[consumer]
            groups.update(dict.fromkeys(joined, joined))
    return {name: max(least_s[one] for one in group) for name, group in groups.items()}
