"""How many steps share a call: as many as a worker gets through in its time slice, learnt from the calls before."""

from __future__ import annotations

from raflow.runtime.steps.inflight import InFlight, Key
from raflow.runtime.steps.step import Step

MOST = 1 << 14
"""More steps than this never share a call."""
_FIRST, _GROWTH = 2, 8


def key_of(step: Step) -> Key:
    """Return what a step shares calls by."""
    return step.function, str(sorted(step.options.needs().items()))


class Sharing:
    """What calls so far have taught."""

    def __init__(self) -> None:
        self._shares: dict[Key, int] = {}
        self._reach: dict[str, int] = {}

    def beside(self, key: Key) -> int:
        """Return how many ready steps of one function a call may have."""
        return self._shares.get(key, _FIRST)

    def in_line(self, key: Key) -> int:
        """Return how many steps a call may have in all, with those that follow others in it."""
        return max(self.beside(key), self._reach.get(key[1], _FIRST))

    def closed(self, call: InFlight, begun: int) -> None:
        """Take note of a call that had time for so many steps only."""
        self._learn(call, begun * 2)

    def ended(self, call: InFlight) -> None:
        """Take note of a call that has got through all its steps in time."""
        self._learn(call, call.size * _GROWTH)

    def _learn(self, call: InFlight, steps: int) -> None:
        steps = min(max(1, steps), MOST)
        if call.follows:
            self._reach[call.key[1]] = steps
        else:
            self._shares[call.key] = steps
