"""What a cluster that can grow is asked for: all pools together, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from raflow.runtime.scaling.allocation import allocate
from raflow.runtime.scaling.values import Demand, Memory, Snapshot
from raflow.runtime.scaling.workload import shares

ASK_S = 10.0
"""It is not asked again sooner."""
NODE_S = 60.0
"""It is not asked for more so as to be done sooner than this."""
_FACTOR = 2.0


def ask(snapshot: Snapshot, targets: Mapping[str, int], memory: Memory) -> Demand | None:
    """Return what to ask for: what is used, and up to as much again where work waits. None: nothing new."""
    if memory.demand is not None and snapshot.now_s - memory.demand_s < ASK_S:
        return None
    large = _grown(snapshot)
    wanted = shares(large, memory.pools)
    more = allocate(wanted.values(), large.capacity, NODE_S)
    sizes = []
    for pool in snapshot.pools:
        size = max(targets[pool.name], wanted[pool.name].low)
        presses = pool.rate is not None and pool.waiting > 0 and not pool.blocked and pool.fixed is None
        sizes.append((pool.needs, max(size, more[pool.name]) if presses else size))
    demand = Demand(tuple((needs, size) for needs, size in sizes if size))
    return None if demand == memory.demand else demand


def _grown(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot as it would be on a larger cluster, with room for what each pool must have."""
    least: dict[str, float] = {}
    for pool in snapshot.pools:
        count = 0 if pool.ended else pool.fixed or max(pool.min_replicas, 1)
        for resource, amount in pool.needs.items():
            least[resource] = least.get(resource, 0.0) + amount * count
    capacity = {key: snapshot.capacity.get(key, 0.0) * _FACTOR for key in {**snapshot.capacity, **least}}
    return replace(snapshot, capacity={key: max(amount, least.get(key, 0.0)) for key, amount in capacity.items()})
