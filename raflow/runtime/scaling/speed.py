"""How fast the replicas of a pool are while they work, and how much they put out: measured, smoothed."""

from __future__ import annotations

from dataclasses import dataclass, replace

_WEIGHT = 0.2
"""Of what was measured since the last look, against all that was before."""
_ODD = 2.0
"""Off by this factor, the same way twice in a row: the speed has changed, what was before is forgotten."""
_SHOWN_S = 2.0
"""A first call that takes longer than this says something before it ends."""


@dataclass(frozen=True)
class Speed:
    """Smoothed sums whose quotients are the true rate and the selectivity of a pool.

    Busy time counts, not time on the wall: a pool that waits for input, or for room, is not slow. Calls that
    go on for longer than usual count before they end, so that a sudden slowness shows.

    Example:
        >>> speed = Speed().look(done=20, made=20, busy_s=1.0)
        >>> speed.rate, speed.selectivity
        (20.0, 1.0)
    """

    done: float = 0.0
    made: float = 0.0
    busy_s: float = 0.0
    totals: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """As they were at the last look."""
    odd: int = 0
    """1 or -1: what was measured last was much faster or slower than all before."""
    at_most: float | None = None
    """What calls under way say: their pool cannot be faster than this."""

    @classmethod
    def since(cls, done: float, made: float, busy_s: float) -> Speed:
        """Return what knows nothing yet, and measures from here on; arguments as of `look`.

        What a pool does first says little: it loads what is loaded once, often while others start.
        """
        return cls(totals=(done, made, busy_s))

    @property
    def rate(self) -> float | None:
        """Input done in a busy second of one slot; None while nothing is known."""
        if not self.done or not self.busy_s:
            return self.at_most
        measured = self.done / self.busy_s
        return measured if self.at_most is None else min(measured, self.at_most)

    @property
    def selectivity(self) -> float | None:
        """Output made from one of input; None while nothing is known."""
        return self.made / self.done if self.done else None

    def look(
        self, done: float, made: float, busy_s: float, calls: int = 0, running: float = 0.0, running_s: float = 0.0
    ) -> Speed:
        """Take note of what a pool has done so far.

        Args:
            done: Input done since the beginning, in any measure (rows, batches) that all pools of a flow share.
            made: Output made since the beginning, in the same measure.
            busy_s: Seconds that slots were busy with it.
            calls: How many calls are under way now.
            running: Their input.
            running_s: Seconds that they have taken so far, summed.
        """
        totals = (done, made, busy_s)
        new = [now - before for now, before in zip(totals, self.totals, strict=True)]
        if new[0] < 0:  # work is done again: its first time was taken out of the sums
            return replace(self, totals=totals)
        if not new[0] or new[2] <= 0:
            shown = calls > 0 and (self.done or running_s / calls > _SHOWN_S)
            return replace(self, at_most=running / running_s if shown and running_s else None)
        odd = self._odd(new[0] / new[2])
        weight = 1.0 if odd and odd == self.odd else _WEIGHT
        sums = zip((self.done, self.made, self.busy_s), new, strict=True)
        done_, made_, busy_s_ = ((1 - weight) * old + weight * more for old, more in sums)
        return Speed(done_, made_, busy_s_, totals, odd)

    def _odd(self, rate: float) -> int:
        before = self.done / self.busy_s if self.busy_s else rate
        return (rate > before * _ODD) - (rate * _ODD < before)
