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
