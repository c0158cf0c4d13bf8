"""A flow on which the autoscaler is tried, what it must reach, and how that is measured.

The ideal is what the best fixed sizes could do, found by trying them; it follows what changes on the way. The
clock starts when the first replica of each stage is ready.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from raflow.runtime.scaling.values import Decisions
from tests.runtime.scaling.simulated import Change, Moment, Service, Stage
from tests.runtime.scaling.simulation import TICK_S, Simulation

Happening = Callable[[Simulation], None]
TWELVE: Mapping[str, float] = {"CPU": 12.0}


@dataclass(frozen=True)
class Scenario:
    """A flow, what happens to it, and what is asked of the autoscaler."""

    name: str
    stages: tuple[Stage, ...]
    capacity: Mapping[str, float] = field(default_factory=lambda: TWELVE)
    happens: Mapping[float, Happening] = field(default_factory=dict)
    breaks: tuple[float, ...] = ()
    """When something changes to which it must adapt."""
    share: float = 0.9
    """Of the ideal throughput, at least."""
    converge_s: float | None = 8.0
    """Until sizes are within a tenth of the ideal, after the start and after each break; None: not asked."""
    after: int = 2
    """Changes that are allowed after that."""
    changes: int = 20
    """Changes that are allowed in all."""
    endless_s: float = 0.0
    grows: Callable[[Simulation, Decisions], None] | None = None
    apart_s: float = 0.0
    until_s: float = 600.0

    def run(self, seed: int = 0) -> Result:
        """Run it in the simulation."""
        simulation = Simulation(
            self.stages, self.capacity, self.happens, self.endless_s, self.grows, seed, self.apart_s
        )
        return Result(self, simulation.run(self.until_s))


@dataclass(frozen=True)
class Result:
    """What came of a scenario."""

    scenario: Scenario
    simulation: Simulation

    @property
    def began_s(self) -> float:
        """When the first replica of each stage was ready that does not wait for others to be through."""
        barriers = {stage.name for stage in self.scenario.stages if stage.barrier}
        return max(when for name, when in self.simulation.first_ready.items() if name not in barriers)

    @property
    def took_s(self) -> float:
        return self.simulation.now_s - self.began_s

    @property
    def ideal_s(self) -> float:
        """How long the best sizes would have taken from then on."""
        left, now_s = 1.0, self.began_s
        while left > 0:
            speed = self.speed_at(now_s)
            step = min(left, speed * TICK_S)
            left, now_s = left - step, now_s + step / speed
        arrived = self.scenario.endless_s
        return max(now_s, arrived) - self.began_s

    @property
    def share(self) -> float:
        return self.ideal_s / self.took_s

    def work(self, now_s: float) -> dict[str, float]:
        """Replica-seconds of each stage for the whole input, at the service times of that moment."""
        arrived: dict[str, float] = {}
        for stage in self.scenario.stages:
            arrived[stage.name] = stage.source + self.simulation.arrived[stage.name]
            for above in self.scenario.stages:
                if stage.name in above.to:
                    arrived[stage.name] += arrived[above.name] * above.selectivity
        stages = self.scenario.stages
        return {one.name: arrived[one.name] * mean_s(one.service, now_s) for one in stages}

    def speed_at(self, now_s: float) -> float:
        """The part of all work that the best sizes do in a second, at that moment."""
        return 1.0 / best_time(self.scenario.stages, self.work(now_s), self._capacity(now_s))

    def speed_of(self, moment: Moment) -> float:
        """The part of all work that the replicas that were ready could do in a second."""
        work = self.work(moment.now_s)
        return min(moment.ready[name] / work_s for name, work_s in work.items() if work_s)

    def _capacity(self, now_s: float) -> Mapping[str, float]:
        before = [moment.capacity for moment in self.simulation.moments if moment.now_s <= now_s]
        return before[-1] if before else self.scenario.capacity

    @property
    def fed_s(self) -> float:
        """Until when every source had a quarter of its units left: later what is in the edges weighs too much."""
        first = self.simulation.moments[0].queued
        enough = {name: max(first[name] / 4, 1) for name in self.simulation.roots}
        fed = [one.now_s for one in self.simulation.moments if all(one.queued[name] >= enough[name] for name in enough)]
        return fed[-1] if fed else 0.0

    @property
    def phases(self) -> list[tuple[float, float]]:
        """The times between the start, the breaks, and when the sources ran dry."""
        ends = [self.began_s, *(one for one in self.scenario.breaks if one < self.fed_s), self.fed_s]
        return list(itertools.pairwise(ends))

    def converged_s(self, phase: tuple[float, float]) -> float:
        """How long it took within a phase until the sizes were good and stayed so."""
        began_s, ended_s = phase
        bad = [
            moment.now_s
            for moment in self.simulation.moments
            if began_s <= moment.now_s < ended_s and self.speed_of(moment) < 0.9 * self.speed_at(moment.now_s)
        ]
        return max(bad, default=began_s - TICK_S) + TICK_S - began_s

    @property
    def slowest_s(self) -> float:
        """The longest time to converge."""
        return max((self.converged_s(phase) for phase in self.phases), default=0.0)

    @property
    def late_changes(self) -> list[Change]:
        """What was decided after it had converged."""
        calm = [(began_s + self.converged_s((began_s, end_s)), end_s) for began_s, end_s in self.phases]
        return [one for one in self.simulation.changes if any(low < one.now_s < high for low, high in calm)]


@cache
def mean_s(service: float | Service, now_s: float) -> float:
    """The mean service time at a moment."""
    if isinstance(service, float):
        return service
    dice = random.Random(0)
    return sum(service(now_s, dice) for _ in range(4000)) / 4000


def best_time(stages: tuple[Stage, ...], work: Mapping[str, float], capacity: Mapping[str, float]) -> float:
    """The shortest time in which fixed sizes do the work: every time that some size gives is tried."""
    largest = int(max(capacity.values()) / min((min(stage.needs.values(), default=1) for stage in stages), default=1))
    times = sorted({work[stage.name] / size for stage in stages for size in range(1, largest + 1) if work[stage.name]})
    return next(time_s for time_s in times if _possible(stages, work, capacity, time_s))


def _possible(stages: tuple[Stage, ...], work: Mapping[str, float], there: Mapping[str, float], time_s: float) -> bool:
    left = dict(there)
    for stage in stages:
        wanted = max(math.ceil(work[stage.name] / time_s - 1e-9), stage.min_replicas, 1 if work[stage.name] else 0)
        most = stage.max_replicas if stage.fixed is None else stage.fixed
        if most is not None and wanted > most:
            return False
        for resource, amount in stage.needs.items():
            left[resource] = left.get(resource, 0.0) - amount * (stage.fixed or wanted)
    return all(amount >= -1e-6 for amount in left.values())
