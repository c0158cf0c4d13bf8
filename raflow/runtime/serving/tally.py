"""What the replicas of a pool have done: those that are there, and those that are gone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from raflow.metrics import HttpStats
from raflow.runtime.serving.counting import Load
from raflow.runtime.serving.pool import Member
from raflow.runtime.serving.replica import Ended


@dataclass
class Tally:
    """The sums of the replicas that are gone."""

    lost: int = 0
    """Replicas that died."""
    requests: int = 0
    cut: int = 0
    """Requests that were left unanswered at a deadline."""
    written: tuple[int, ...] = ()
    """Rows, by sink."""

    def drained(self, ended: Ended) -> None:
        """Add a replica that has left as asked."""
        self.requests += ended.drained.total
        self.cut += ended.drained.cut
        self.written = _sums(self.written, ended.written)

    def died(self, load: Load) -> None:
        """Add a replica that has died, by what it told last."""
        self.lost += 1
        self.requests += load.total
        self.written = _sums(self.written, load.written)

    def stats(self, members: Collection[Member], **known: Any) -> HttpStats:
        """Return the sums of all replicas.

        Args:
            members: Those that are there.
            known: The other fields.
        """
        loads = [one.load for one in members]
        return HttpStats(
            replicas=sum(one.serves for one in members),
            starting=sum(not one.ready for one in members),
            leaving=sum(bool(one.leaving) for one in members),
            ongoing=sum(one.ongoing for one in loads),
            total=self.requests + sum(one.total for one in loads),
            cut=self.cut,
            connections=sum(one.connections for one in loads),
            websockets=sum(one.websockets for one in loads),
            abandoned=sum(one.abandoned for one in loads),
            replicas_lost=self.lost,
            written=_sums(self.written, *(one.written for one in loads)),
            **known,
        )


def _sums(*counts: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip_longest(*counts, fillvalue=0)))
