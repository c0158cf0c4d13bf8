"""Why the autoscaler does what it does, in words."""

from __future__ import annotations

from collections.abc import Mapping

from raflow import units
from raflow.runtime.scaling.allocation import Amounts, Share
from raflow.runtime.scaling.values import PoolState, Shortage


def listed(amounts: Amounts) -> str:
    """Return amounts of resources as text: "2 CPU, 1 GPU"."""
    return ", ".join(_shown(*item) for item in sorted(amounts.items()) if item[1]) or "nothing"


def split(pool: str, sizes: Mapping[str, int], needs: Mapping[str, Amounts], capacity: Amounts) -> str:
    """Return how the resource that a pool needs most of is divided: "12 CPU split 2:10"."""
    own = needs[pool]
    key = max(own, key=lambda one: own[one] / max(capacity.get(one, 0.0), 1e-9), default=None)
    if key is None:
        return "it needs no resources"
    parts = [str(size) for name, size in sizes.items() if size and needs[name].get(key)]
    return f"{_shown(key, capacity.get(key, 0.0))} {'split' if len(parts) > 1 else 'for'} {':'.join(parts)}"


def growth(pool: PoolState, target: int, low: int, slowest: bool, division: str) -> str:
    """Return why a pool grows; `division` tells how resources are split."""
    if pool.fixed is not None:
        return f"num_replicas is {pool.fixed}"
    if target <= max(low, 1):
        return "first replica" if target == 1 else f"min_replicas is {pool.min_replicas}"
    if pool.rate is None:
        return f"speed not known yet, an even share; {division}"
    word = "bottleneck" if slowest else "falls behind"
    return f"{word}: {pool.waiting:,} batches wait, {pool.unit / pool.rate:.2g} s each; {division}"


def shortage(share: Share, low: int, capacity: Amounts) -> Shortage:
    """Return what to say of a pool that can have only `low` of the replicas that it must have."""
    wanted = max(share.low, 1)
    message = (
        f"{wanted - low} of {wanted} replicas that {share.name!r} must have cannot be placed beside those of "
        f"the other stages: one needs {listed(share.needs)}; there is {listed(capacity)} in all. Ask for less "
        "(num_cpus, num_gpus, resources, num_replicas, min_replicas), or grow the cluster"
    )
    return Shortage(share.name, low, message)


def _shown(resource: str, amount: float) -> str:
    return f"{units.size(amount)} {resource}" if resource == "memory" else f"{amount:g} {resource}"
