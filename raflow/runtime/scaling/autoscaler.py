"""How many replicas each pool shall have: a pure function from one look at all pools to decisions with reasons.

Theory. Speed tells how much: the work left in each pool, carried downstream through selectivities and divided
by its true rate, goes into one joint allocation (`allocation.py`). Queues tell where, and when:

1. A pool grows only while work waits for it and its own output does not; into free room at once.
2. Room is taken from another pool, even from one with waiting work, only if the whole becomes faster by a
   tenth, and only once this has been so for a moment. So the greedy pool gives back, and noise moves nothing.
3. What a bound or waiting work demands (`min_replicas`, a lost replica, work for a pool of none) comes first.
4. Otherwise a pool shrinks only after it was half idle for long.
5. Where whole replicas do not divide as the work does, pools that are partly idle lend one (`lending.py`).
6. A pool whose speed is not known yet counts as fast as the others, but no faster than its first calls, and takes
   no room from these; if none is known, all share evenly.

Starting and draining replicas hold room: what is decided always fits into what there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from raflow.runtime.scaling import reasons
from raflow.runtime.scaling.allocation import admit, allocate, fits, most, used
from raflow.runtime.scaling.demand import ask
from raflow.runtime.scaling.lending import LEASE_S, Loan, loan, without_lent
from raflow.runtime.scaling.load import busy_replicas
from raflow.runtime.scaling.values import Decision, Decisions, Memory, PoolMemory, PoolState, Shortage, Snapshot
from raflow.runtime.scaling.workload import shares

SHORTEST_S = 2.0
"""A replica is not started for less work than this."""
COLD_S = 1.0
"""A pool of unknown speed grows only after so long a look at its first replicas."""
MOVE_S = 1.0
"""Replicas are not moved to save less time than this."""
PATIENCE_S = 0.3
"""A pool gets what others have if it would have saved so much time by now."""
DOWN_S = 10.0
"""A pool gives back what nobody asks for if it is calm for so long."""
SETTLE_S = 5.0
"""What was moved between pools does not move back sooner."""
_GAIN = 1.1
_DECIDED_S = PATIENCE_S / (_GAIN - 1.0)
"""To grant a wish that is older than this gains too little."""
_FIRST_S = 1e12
"""As work: comes before all."""
_IDLE, _BUSY = 0.5, 0.75
"""Calm is to use at most half; what is kept then is busy for three quarters."""


def decide(snapshot: Snapshot, memory: Memory) -> tuple[Decisions, Memory]:
    """Decide on the sizes of all pools.

    Args:
        snapshot: One look at all pools, taken twice a second or more often.
        memory: What the last call returned; `Memory()` at first.

    Returns:
        The decisions, all of which are to be applied, and what to give to the next call.
    """
    turn = _Turn(snapshot, memory)
    turn.release()
    turn.give()
    turn.grow()
    turn.calm()
    turn.lend()
    changes = turn.changes()
    asked = ask(snapshot, turn.targets, memory) if snapshot.can_grow else None
    decisions = Decisions(changes, () if snapshot.can_grow else turn.shortages(), asked)
    past = {name: turn.remembered(name) for name in turn.pools}
    demand = (asked, snapshot.now_s) if asked else (memory.demand, memory.demand_s)
    return decisions, Memory(past, snapshot.now_s, *demand)


class _Turn:
    """One call of `decide`: sizes that start as they are and are changed rule by rule."""

    def __init__(self, snapshot: Snapshot, memory: Memory) -> None:
        self.now_s, self.capacity = snapshot.now_s, snapshot.capacity
        self.pools = {pool.name: pool for pool in snapshot.pools}
        self.needs = {name: pool.needs for name, pool in self.pools.items()}
        self.shares = shares(snapshot, memory.pools)
        self.low = admit(self.shares.values(), self.capacity)
        owned = without_lent(self.shares, self.pools, memory.pools, self.now_s)
        self.wanted = allocate(owned, self.capacity, SHORTEST_S)
        self.targets = {name: pool.size for name, pool in self.pools.items()}
        self.why: dict[str, str] = {}
        self.loan: Loan | None = None
        idle_s = 0.0 if memory.now_s is None else self.now_s - memory.now_s
        self.past = {name: self._seen(pool, memory.pools.get(name), idle_s) for name, pool in self.pools.items()}

    # -- what is seen -------------------------------------------------------------------------------

    def _seen(self, pool: PoolState, past: PoolMemory | None, since_s: float) -> PoolMemory:
        """Return the memory of a pool with this look added."""
        past = past or PoolMemory()
        load = busy_replicas(pool, past, since_s)
        idle = load is not None and load <= _IDLE * pool.ready
        calm = idle and not pool.starting and (not pool.queued or pool.blocked)
        return replace(
            past,
            load=load,
            busy_s=pool.busy_s,
            first_since_s=self._since(past.first_since_s, pool.rate is None and pool.in_flight > 0),
            wishes_since_s=self._since(past.wishes_since_s, self._wishes(pool)),
            calm_since_s=self._since(past.calm_since_s, calm),
        )

    def _since(self, before: float | None, holds: bool) -> float | None:
        return None if not holds else self.now_s if before is None else before

    def _wishes(self, pool: PoolState) -> bool:
        """Whether work waits (or nothing can be seen yet) that more replicas would do sooner."""
        seen = pool.waiting > 0 or not pool.ready
        return pool.fixed is None and seen and not pool.blocked and self.wanted[pool.name] > pool.size

    def _may_grow(self, pool: PoolState) -> bool:
        """Whether its wish counts; replicas that have just come are given the time to show their speed."""
        return self._held(self.past[pool.name].wishes_since_s, COLD_S if pool.is_cold else 0.0)

    def _may_press(self, name: str) -> bool:
        """Whether others may have to give to it; first calls may be long because they load what is loaded once."""
        return not self.pools[name].is_cold and not self._moved(name, -1)

    def _held(self, since: float | None, for_s: float) -> bool:
        return since is not None and self.now_s - since >= for_s

    def _moved(self, name: str, way: int) -> bool:
        """Whether the pool was changed that way a short while ago."""
        past = self.past[name]
        return past.moved == way and self.now_s - past.moved_s < SETTLE_S

    def _time_s(self, name: str, size: int) -> float:
        """Return how long so many replicas need for the work of a pool."""
        work_s = self.shares[name].work_s
        return work_s / size if size else math.inf if work_s else 0.0

    # -- the rules, in order ------------------------------------------------------------------------

    def release(self) -> None:
        """Pools that have ended let go; bounds hold."""
        for name, pool in self.pools.items():
            if pool.ended:
                self._set(name, 0, "finished: no more input")
            elif pool.fixed is None and pool.max_replicas is not None:
                self._set(name, min(pool.size, max(pool.max_replicas, 1)), f"max_replicas is {pool.max_replicas}")

    def give(self) -> None:
        """Replicas leave where more than there is, or more than is just, is used."""
        self._take({}, f"there is only {reasons.listed(self.capacity)}")
        self.due = {name: low for name, low in self.low.items() if low > self.targets[name]}
        for name in self.due:
            self._take(self.due, f"makes room for {name!r}, which must have {self.due[name]}")
        self.wishes = {name: self.wanted[name] for name, pool in self.pools.items() if self._may_grow(pool)}
        back = {name for name in self.wishes if self.past[name].lent_s is not None}
        pressed = [name for name in self.wishes if name in back or self._may_press(name)]
        worst = max(pressed, key=lambda name: self._time_s(name, self.targets[name]), default=None)
        if worst and (worst in back or self._worthwhile(worst)):
            goal = {**self.due, **{name: self.wanted[name] for name in ([worst] if worst in back else pressed)}}
            reason = f"gives way to {worst!r}, the bottleneck; {self._split(worst)}"
            self._take(goal, reason, settle=worst not in back)

    def _worthwhile(self, slowest: str) -> bool:
        """Whether moving replicas gains enough, and has done so for a while: the more it gains, the shorter."""
        after_s = max(self._time_s(name, size) for name, size in self.wanted.items())
        before_s = self._time_s(slowest, self.targets[slowest])
        gain = before_s / after_s if after_s else math.inf
        enough = gain >= _GAIN and before_s - after_s >= MOVE_S
        return enough and self._held(self.past[slowest].wishes_since_s, PATIENCE_S / (gain - 1.0))

    def _take(self, goal: Mapping[str, int], reason: str, settle: bool = False) -> None:
        """Take replicas from pools with more than is just, the fastest first, until the goal fits."""
        while lacking := self._lacking({**self.targets, **goal}):
            donors = [
                name
                for name, size in self.targets.items()
                if size > self.wanted[name]
                and name not in goal
                and self.pools[name].fixed is None
                and any(self.needs[name].get(key) for key in lacking)
                and not (settle and (self._moved(name, 1) or self.pools[name].rate is None))
            ]
            if not donors:
                return
            name = min(donors, key=lambda one: self._time_s(one, self.targets[one] - 1))
            self._set(name, self.targets[name] - 1, reason)

    def _lacking(self, sizes: Mapping[str, int]) -> list[str]:
        return [key for key, amount in used(self.needs, sizes).items() if not fits({key: amount}, self.capacity)]

    def grow(self) -> None:
        """Pools grow into the room that is free now, the slowest first."""
        leaving = {name: pool.draining + max(pool.size - self.targets[name], 0) for name, pool in self.pools.items()}
        held = used(self.needs, leaving)
        room = {key: amount - held.get(key, 0.0) for key, amount in self.capacity.items()}
        if not fits(used(self.needs, self.targets), room):
            return
        goal = {**self.due, **self.wishes}
        asking = [
            replace(
                share,
                low=self.targets[name],
                high=max(goal.get(name, 0), self.targets[name]),
                work_s=_FIRST_S if name in self.due else share.work_s,
            )
            for name, share in self.shares.items()
        ]
        for name, size in allocate(asking, room, SHORTEST_S).items():
            self._set(name, size, self._why(name, size))

    def calm(self) -> None:
        """Pools that nobody presses shrink after a while, to none if that is allowed and nothing is there to do."""
        for name, pool in self.pools.items():
            past, load = self.past[name], self.past[name].load or 0.0
            if pool.fixed is None and self.targets[name] == pool.size and self._held(past.calm_since_s, DOWN_S):
                rest = not pool.units and not self.low[name]
                kept = 0 if rest else max(self.low[name], self.wanted[name], math.ceil(load / _BUSY))
                reason = f"no work for {DOWN_S:g} s" if rest else f"calm: {load:.1f} of {pool.size} busy"
                self._set(name, min(kept, pool.size), reason)

    def lend(self) -> None:
        """A pool that is partly idle gives a replica to the slowest one for a while, if all else is settled."""
        if any(pool.starting or pool.draining or self.targets[name] != pool.size for name, pool in self.pools.items()):
            return
        wishes = [past.wishes_since_s for past in self.past.values() if past.wishes_since_s is not None]
        if all(self._held(since_s, _DECIDED_S) for since_s in wishes):
            self.loan = loan(self.pools, self.past, self.shares, self.capacity, self.now_s)
        if self.loan:
            self._set(self.loan.lender, self.pools[self.loan.lender].size - 1, str(self.loan))

    def _set(self, name: str, size: int, reason: str) -> None:
        if size != self.targets[name]:
            self.targets[name], self.why[name] = size, reason

    # -- what is told -------------------------------------------------------------------------------

    def changes(self) -> tuple[Decision, ...]:
        """Return what is different from what was."""
        targets = self.targets.items()
        sizes = {name: pool.size for name, pool in self.pools.items()}
        return tuple(Decision(name, sizes[name], to, self.why[name]) for name, to in targets if to != sizes[name])

    def remembered(self, name: str) -> PoolMemory:
        """Return what the next call must know of a pool."""
        past, pool, target = self.past[name], self.pools[name], self.targets[name]
        is_lender = self.loan is not None and self.loan.lender == name
        is_over = past.lent_s is not None and self.now_s - past.lent_s >= LEASE_S and past.wishes_since_s is None
        if target != pool.size or is_over:
            past = replace(past, lent_s=self.now_s if is_lender else None)
        if target == pool.size or (pool.rate is None and target > pool.size):
            return past
        return replace(past, calm_since_s=None, moved=1 if target > pool.size else -1, moved_s=self.now_s)

    def shortages(self) -> tuple[Shortage, ...]:
        """Return the pools that cannot have what they must have."""
        return tuple(
            reasons.shortage(self.shares[name], self.low[name], self.capacity)
            for name, pool in self.pools.items()
            if self.low[name] < self.shares[name].low or not (pool.ended or most(pool.needs, self.capacity))
        )

    def _why(self, name: str, size: int) -> str:
        slowest = max(self.pools, key=lambda one: self._time_s(one, self.pools[one].size))
        return reasons.growth(self.pools[name], size, self.low[name], slowest == name, self._split(name))

    def _split(self, name: str) -> str:
        return reasons.split(name, self.wanted, self.needs, self.capacity)
