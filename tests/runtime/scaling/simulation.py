"""A flow of stages on a fake clock: replicas that start, work, drain and die, and the real autoscaler.

Events are taken in the order of their times; nothing waits for real time. A replica has two units in flight, an
edge holds so many batches, a stage gives out no work while a consumer's edge is full. Every half second replicas
are asked for their counts, and the autoscaler looks, as in the driver: at what was answered the last time. A call
counts when it ends.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from functools import partial

from raflow.runtime.scaling.autoscaler import decide
from raflow.runtime.scaling.speed import Speed
from raflow.runtime.scaling.values import Decision, Decisions, Memory, PoolState, Snapshot
from tests.runtime.scaling.simulated import Change, Moment, Replica, Stage

TICK_S = 0.5
IN_FLIGHT = 2


class Simulation:
    """One run of a flow.

    Args:
        stages: In the order of the flow.
        capacity: What there is.
        happens: Time → what happens to the simulation then (nodes that come and go, units that arrive).
        endless_s: Sources may get more units until then.
        grows: The cluster can grow: gets what the autoscaler has decided.
        seed: Of service times and of who dies.
        apart_s: The machine starts one replica after the other, so far apart.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        capacity: Mapping[str, float],
        happens: Mapping[float, Callable[[Simulation], None]] | None = None,
        endless_s: float = 0.0,
        grows: Callable[[Simulation, Decisions], None] | None = None,
        seed: int = 0,
        apart_s: float = 0.0,
    ) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.capacity = dict(capacity)
        self.endless_s, self.grows = endless_s, grows
        self.dice = random.Random(seed)
        self.apart_s, self._last_s = apart_s, 0.0
        self.now_s = 0.0
        self.queued = {name: stage.source for name, stage in self.stages.items()}
        self.arrived = dict.fromkeys(self.stages, 0)
        self.done, self.made, self.busy_s = (dict.fromkeys(self.stages, 0.0) for _ in range(3))
        self.replicas: dict[str, list[Replica]] = {name: [] for name in self.stages}
        self.first_ready: dict[str, float] = {}
        self.speeds = dict.fromkeys(self.stages, Speed())
        self.told = dict.fromkeys(self.stages, (0.0, 0.0, 0.0))
        """What replicas have answered: input, output and busy seconds so far."""
        self.memory = Memory()
        self.changes: list[Change] = []
        self.moments: list[Moment] = []
        self.shortages: set[str] = set()
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for when, what in (happens or {}).items():
            self.at(when, partial(what, self))

    # -- what a scenario may do -----------------------------------------------------------------------

    def arrive(self, name: str, units: int) -> None:
        """Units come into a source."""
        self.queued[name] += units
        self.arrived[name] += units

    def lose(self, capacity: Mapping[str, float]) -> None:
        """A node goes with what runs on it; the units come back to the front of the line."""
        self.capacity = dict(capacity)
        alive = [replica for pool in self.replicas.values() for replica in pool]
        self.dice.shuffle(alive)
        while self._over():
            self.kill(alive.pop())

    def kill(self, replica: Replica) -> None:
        """A replica dies."""
        replica.dead = True
        self.queued[replica.stage] += replica.units
        self.replicas[replica.stage].remove(replica)

    # -- the run --------------------------------------------------------------------------------------

    @property
    def roots(self) -> list[str]:
        fed = {consumer for stage in self.stages.values() for consumer in stage.to}
        return [name for name in self.stages if name not in fed]

    def run(self, until_s: float = 600.0) -> Simulation:
        """Run until all is done or it is that late."""
        self.at(0.0, self._tick)
        while self._events and not self._over_and_done():
            when, _, what = heapq.heappop(self._events)
            if when > until_s:
                break
            self.now_s = when
            what()
            self._dispatch()
        return self

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Something happens at that time."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def exhausted(self, name: str) -> bool:
        """No more input will come than what is queued."""
        if self.now_s < self.endless_s:
            return False
        above = [stage for stage in self.stages.values() if name in stage.to]
        return all(self.exhausted(stage.name) and not self._units(stage.name) for stage in above)

    def _units(self, name: str) -> int:
        return self.queued[name] + sum(replica.units for replica in self.replicas[name])

    @property
    def left(self) -> int:
        """Units that are not done."""
        return sum(map(self._units, self.stages))

    def _over_and_done(self) -> bool:
        return self.now_s > self.endless_s and not self.left

    def _blocked(self, name: str) -> bool:
        return any(self.queued[consumer] >= self.stages[consumer].edge for consumer in self.stages[name].to)

    def _dispatch(self) -> None:
        """Give out work, downstream first, to the least loaded replica."""
        for name in reversed(list(self.stages)):
            stage = self.stages[name]
            if stage.barrier and not self.exhausted(name):
                continue
            while self.queued[name] and not self._blocked(name):
                free = [r for r in self.replicas[name] if r.ready and not r.draining]
                least = min(free, key=lambda r: r.units, default=None)
                if least is None or least.units >= IN_FLIGHT:
                    break
                self.queued[name] -= 1
                least.line += 1
                self._begin(least)

    def _begin(self, replica: Replica) -> None:
        if replica.line and not replica.works:
            replica.line -= 1
            replica.works = True
            took_s = self.stages[replica.stage].service_s(self.now_s, self.dice)
            self.at(self.now_s + took_s, partial(self._finish, replica, took_s))

    def _finish(self, replica: Replica, took_s: float) -> None:
        if replica.dead:
            return
        stage, name = self.stages[replica.stage], replica.stage
        replica.works = False
        self.done[name] += 1
        self.busy_s[name] += took_s
        out = int(self.done[name] * stage.selectivity + 1e-9) - int((self.done[name] - 1) * stage.selectivity + 1e-9)
        self.made[name] += out
        for consumer in stage.to:
            self.queued[consumer] += out
        self._begin(replica)
        if replica.draining and not replica.units:
            self.replicas[name].remove(replica)

    # -- scaling --------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.speeds = {name: speed.look(*self.told[name]) for name, speed in self.speeds.items()}
        self._scale()
        self.told = {name: (self.done[name], self.made[name], self.busy_s[name]) for name in self.stages}
        ready = {name: sum(r.ready and not r.draining for r in pool) for name, pool in self.replicas.items()}
        done = {name: int(count) for name, count in self.done.items()}
        self.moments.append(Moment(self.now_s, ready, self._held(), dict(self.capacity), done, dict(self.queued)))
        self.at(self.now_s + TICK_S, self._tick)

    def _scale(self) -> None:
        decisions, self.memory = decide(self._snapshot(), self.memory)
        self.shortages |= {shortage.message for shortage in decisions.shortages}
        for decision in decisions.changes:
            self.changes.append(Change(self.now_s, decision))
            self._apply(decision)
        if self.grows:
            self.grows(self, decisions)
        assert not self._over(), f"{self.now_s} s: {self._held()} of {self.capacity}"

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.now_s, self.capacity, tuple(map(self._state, self.stages.values())), bool(self.grows))

    def _state(self, stage: Stage) -> PoolState:
        pool = self.replicas[stage.name]
        speed = self.speeds[stage.name]
        return PoolState(
            name=stage.name,
            needs=stage.needs,
            ready=sum(replica.ready and not replica.draining for replica in pool),
            starting=sum(not replica.ready and not replica.draining for replica in pool),
            draining=sum(replica.draining for replica in pool),
            min_replicas=stage.min_replicas,
            max_replicas=stage.max_replicas,
            fixed=stage.fixed,
            queued=self.queued[stage.name],
            in_flight=sum(replica.units for replica in pool),
            busy_s=self.told[stage.name][2],
            rate=speed.rate,
            selectivity=speed.selectivity,
            setup_s=stage.start_s if pool else None,
            consumers=stage.to,
            blocked=self._blocked(stage.name),
            waits=stage.barrier and any(self.queued[one.name] for one in self.stages.values() if stage.name in one.to),
            exhausted=self.exhausted(stage.name),
        )

    def _apply(self, decision: Decision) -> None:
        pool = self.replicas[decision.pool]
        staying = [replica for replica in pool if not replica.draining]
        assert len(staying) == decision.size, decision
        for _ in range(decision.target - decision.size):
            self._start(decision.pool)
        leaving = sorted(staying, key=lambda r: (r.ready, r.units))[: max(decision.size - decision.target, 0)]
        for replica in leaving:
            replica.draining = True
            if not replica.units:
                replica.dead = True
                pool.remove(replica)

    def _start(self, name: str) -> None:
        replica = Replica(name)
        self.replicas[name].append(replica)
        ready_s = self.now_s + self.stages[name].start_s
        if self.apart_s:
            ready_s = self._last_s = max(ready_s, self._last_s + self.apart_s)
        self.at(ready_s, partial(self._get_ready, replica))

    def _get_ready(self, replica: Replica) -> None:
        if replica.dead:
            return
        replica.ready = True
        self.first_ready.setdefault(replica.stage, self.now_s)

    def _held(self) -> dict[str, float]:
        held = dict.fromkeys(self.capacity, 0.0)
        for name, pool in self.replicas.items():
            for resource, amount in self.stages[name].needs.items():
                held[resource] = held.get(resource, 0.0) + amount * len(pool)
        return held

    def _over(self) -> bool:
        return any(amount > self.capacity.get(key, 0.0) + 1e-6 for key, amount in self._held().items())
