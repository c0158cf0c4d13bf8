"""How fast the replicas of a pool are while they work, and how much they put out: measured, smoothed."""

from __future__ import annotations

from dataclasses import dataclass, replace

_WEIGHT = 0.2
"""Of what was measured since the last look, against all that was before."""
_ODD = 2.0
"""Off by this factor, the same way twice in a row: the speed has changed, what was before is forgotten."""


@dataclass(frozen=True)
class Speed:
    """Smoothed sums whose quotients are the true rate and the selectivity of a pool.

    Busy time counts, not time on the wall: a pool that waits for input, or for room, is not slow. It is told as
    work ends, so a call that takes long shows when it is over. What a pool does first does not count: it loads
    what is loaded once, often while others start.

    Example:
        >>> speed = Speed().look(done=10, made=10, busy_s=9.0).look(done=30, made=30, busy_s=10.0)
        >>> speed.rate, speed.selectivity
        (20.0, 1.0)
    """

    done: float = 0.0
    made: float = 0.0
    busy_s: float = 0.0
    totals: tuple[float, float, float] | None = None
    """Those from which is measured; None: nothing was done yet."""
    odd: int = 0
    """1 or -1: what was measured last was much faster or slower than all before."""

    @property
    def rate(self) -> float | None:
        """Input done in a busy second of one replica; None while nothing is known."""
        return self.done / self.busy_s if self.done and self.busy_s else None

    @property
    def selectivity(self) -> float | None:
        """Output made from one of input; None while nothing is known."""
        return self.made / self.done if self.done else None

    def look(self, done: float, made: float, busy_s: float) -> Speed:
        """Take note of what a pool has done so far.

        Args:
            done: Input since the beginning, in any measure (rows, batches) that all pools of a flow share.
            made: Output made since the beginning, in the same measure.
            busy_s: Seconds that replicas worked on it.
        """
        totals = (done, made, busy_s)
        if self.totals is None:
            return replace(self, totals=totals if busy_s else None)
        new = [now - before for now, before in zip(totals, self.totals, strict=True)]
        if new[0] < 0:  # work is done again: its first time was taken out of the sums
            return replace(self, totals=totals)
        if not new[0] or new[2] <= 0:
            return self
        odd = self._odd(new[0] / new[2])
        weight = 1.0 if odd and odd == self.odd else _WEIGHT
        sums = zip((self.done, self.made, self.busy_s), new, strict=True)
        done_, made_, busy_s_ = ((1 - weight) * old + weight * more for old, more in sums)
        return Speed(done_, made_, busy_s_, totals, odd)

    def _odd(self, rate: float) -> int:
        before = self.done / self.busy_s if self.busy_s else rate
        return (rate > before * _ODD) - (rate * _ODD < before)
