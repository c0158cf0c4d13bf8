"""Who does what next: pure functions from frozen snapshots to decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IN_FLIGHT = 2
"""Units in a replica at once: the next one is read while the last one is processed and written."""


@dataclass(frozen=True)
class Slot:
    """A replica that is ready."""

    replica: int
    in_flight: int


def assign(waiting: int, slots: Sequence[Slot]) -> list[int]:
    """Return, for the first waiting units in order, the replica that each goes to.

    The least loaded replica is first. A replica gets a second unit only while more units wait than
    there are replicas: near the end a unit in line behind another would keep the whole run waiting.
    """
    load = {slot.replica: slot.in_flight for slot in slots}
    chosen: list[int] = []
    while waiting > 0 and load:
        replica = min(load, key=lambda one: (load[one], one))
        depth = IN_FLIGHT if waiting > len(load) else 1
        if load[replica] >= depth:
            break
        load[replica] += 1
        chosen.append(replica)
        waiting -= 1
    return chosen


@dataclass(frozen=True)
class Demand:
    """What one stage could use."""

    fits: int
    """Replicas that the whole engine could hold."""
    asked: int | None
    """`num_replicas`, if given."""
    units: int
    """Units of work left."""


def allocate(demands: Sequence[Demand]) -> list[int]:
    """Return the replicas of each stage, so that together they fit.

    Each stage in turn gets one more share until the engine is full; a stage whose `num_replicas` is
    given gets just these. Every share of a stage costs 1 / `fits` of the engine.
    """
    wanted = [min(one.asked or one.fits, max(one.units, 1)) if one.units else 0 for one in demands]
    given = [0] * len(demands)
    free = 1.0 + 1e-9
    for target in range(1, max(wanted, default=0) + 1):
        for index, demand in enumerate(demands):
            cost = 1.0 / max(demand.fits, 1)
            if given[index] < min(target, wanted[index]) and (cost <= free or demand.asked):
                given[index] += 1
                free -= cost
    return given
