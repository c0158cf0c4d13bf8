"""The flows on which the autoscaler is tried."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from raflow.runtime.scaling.values import Decisions
from tests.runtime.scaling.scenario import Happening, Scenario
from tests.runtime.scaling.simulated import Service, Stage
from tests.runtime.scaling.simulation import Simulation


def exponential(mean: float) -> Service:
    return lambda now_s, dice: dice.expovariate(1 / mean)


def heavy(mean: float) -> Service:
    """One unit in twenty takes ten times as long as the others."""
    return lambda now_s, dice: mean / 1.45 * (10 if dice.random() < 0.05 else 1)


def noisy(mean: float) -> Service:
    return lambda now_s, dice: dice.uniform(0.5 * mean, 1.5 * mean)


def switch(at_s: float, before: float, after: float) -> Service:
    return lambda now_s, dice: before if now_s < at_s else after


def wave(period_s: float, one: float, other: float) -> Service:
    return lambda now_s, dice: one if now_s % period_s < period_s / 2 else other


def steady(rate: float, until_s: float, name: str = "a", since_s: float = 0.0) -> dict[float, Happening]:
    """So many units a second arrive, evenly."""
    count = int((until_s - since_s) * rate)
    return {since_s + n / rate: partial(Simulation.arrive, name=name, units=1) for n in range(1, count + 1)}


def lose(*cpus: float) -> Happening:
    return lambda simulation: simulation.lose({"CPU": cpus[0]})


def kill_some(simulation: Simulation) -> None:
    """One replica of each stage dies."""
    for pool in simulation.replicas.values():
        if pool:
            simulation.kill(simulation.dice.choice(pool))


def new_nodes(simulation: Simulation, decisions: Decisions) -> None:
    """A cluster that brings what it is asked for in five seconds, up to 24 CPUs."""
    if decisions.demand:
        asked = sum(needs.get("CPU", 0.0) * count for needs, count in decisions.demand.bundles)
        more = max(simulation.capacity["CPU"], min(24.0, asked))
        simulation.at(simulation.now_s + 5.0, lambda: simulation.capacity.update(CPU=more))


def chain(*services: float | Service, units: int = 1200, **options: object) -> tuple[Stage, ...]:
    """Stages a, b, c, … in a row; options are those of all."""
    names = "abcdefgh"[: len(services)]
    return tuple(
        Stage(name, service, tuple(names[index + 1 : index + 2]), source=0 if index else units, **options)  # type: ignore[arg-type]
        for index, (name, service) in enumerate(zip(names, services, strict=True))
    )


GPU: Mapping[str, float] = {"GPU": 1.0}
SCENARIOS = [
    Scenario("robber, 2 stages", chain(0.05, 0.25)),
    Scenario("robber, 3 stages", chain(0.05, 0.25, 0.1)),
    Scenario("robber, 4 stages", chain(0.05, 0.25, 0.1, 0.02)),
    Scenario(
        "robber, 4 stages, quick set-up",
        chain(0.05, 0.25, 0.1, 0.05, start_s=0.3, edge=200),
        converge_s=None,
        changes=40,
    ),
    Scenario(
        "four equal stages on 11, quick set-up",
        chain(0.1, 0.1, 0.1, 0.1, start_s=0.3, edge=200),
        {"CPU": 11.0},
        converge_s=None,
        changes=40,
    ),
    Scenario("robber, slow stage first", chain(0.25, 0.05)),
    Scenario("robber, 2 stages swap", chain(switch(15, 0.05, 0.25), switch(15, 0.25, 0.05)), breaks=(15,)),
    Scenario(  # of the best time 5 s more: the change is told half a second later, and answered in two steps
        "robber, 3 stages, slow one moves",
        chain(0.05, switch(15, 0.25, 0.05), switch(15, 0.05, 0.25)),
        breaks=(15,),
        share=0.87,
    ),
    Scenario(
        "robber, 4 stages, slow one moves",
        chain(0.05, switch(15, 0.25, 0.05), 0.05, switch(15, 0.05, 0.25)),
        breaks=(15,),
    ),
    Scenario("ray#65540, 128 CPUs", chain(0.56, 0.72, units=6000, edge=256), {"CPU": 128.0}),
    Scenario("one stage", chain(0.1)),
    Scenario("four equal stages on 11", chain(0.1, 0.1, 0.1, 0.1), {"CPU": 11.0}),
    Scenario("just one replica each", chain(0.1, 0.2, 0.05, units=200), {"CPU": 3.0}),
    Scenario("replicas start in 5 s", chain(0.05, 0.25, start_s=5.0, units=2400), converge_s=10.0),
    Scenario(
        "one stage starts in 10 s",
        (Stage("a", 0.05, ("b",), source=3600), Stage("b", 0.25, start_s=10.0)),
        converge_s=14.0,
    ),
    Scenario("one start each 0.3 s, 2 stages", chain(0.05, 0.25), apart_s=0.3),
    Scenario("one start each 0.3 s, 4 stages", chain(0.05, 0.25, 0.1, 0.02), apart_s=0.3),
    Scenario("short batches of 5 ms", chain(0.001, 0.005, units=30000)),
    # While the first calls go on, their pool gets only what is free: they may be long because they load something.
    Scenario("long batches of 5 s", chain(0.2, 5.0, units=240), converge_s=13.0),
    Scenario("calls of a minute", chain(1.0, 60.0, units=120), converge_s=25.0, until_s=1500.0),
    Scenario("noise: uniform", chain(noisy(0.05), noisy(0.25), noisy(0.1))),
    Scenario("noise: exponential", chain(exponential(0.05), exponential(0.25), exponential(0.1)), share=0.85),
    Scenario("noise: heavy tail", chain(heavy(0.05), heavy(0.25), heavy(0.1)), share=0.8, converge_s=None),
    Scenario(
        "noise: equal stages", chain(exponential(0.1), exponential(0.1), exponential(0.1), units=3000), share=0.85
    ),
    Scenario(  # in whatever phase it begins, it follows some of the swings: 21 to 25 changes
        "speed swings every 2 s",
        chain(wave(4, 0.05, 0.15), 0.2, units=2400),
        share=0.8,
        converge_s=None,
        changes=30,
    ),
    Scenario(
        "speed swings every 30 s",
        chain(wave(60, 0.05, 0.25), 0.1, units=6000),
        breaks=(30, 60, 90, 120, 150, 180),
        share=0.85,
    ),
    Scenario("node lost: 12 to 6", chain(0.05, 0.25), happens={12: lose(6)}, breaks=(12,)),
    Scenario("node gained: 6 to 18", chain(0.05, 0.25, units=1800), {"CPU": 6.0}, {12: lose(18)}, breaks=(12,)),
    Scenario(
        "node lost and back",
        chain(0.05, 0.25, 0.1, units=1800),
        happens={12: lose(4), 27: lose(12)},
        breaks=(12, 27),
    ),
    Scenario(
        "replicas die",
        chain(0.05, 0.25, 0.1, units=1800),
        happens=dict.fromkeys((8.2, 16.2, 24.2), kill_some),
        breaks=(8.2, 16.2, 24.2),
    ),
    Scenario(
        "GPU stage between CPU stages",
        (
            Stage("a", 0.1, ("b",), source=1200),
            Stage("b", 0.1, ("c",), needs=GPU, start_s=3.0),
            Stage("c", 0.05),
        ),
        {"CPU": 12.0, "GPU": 4.0},
    ),
    Scenario(
        "GPU is plenty, CPUs are short",
        (Stage("a", 0.4, ("b",), source=600), Stage("b", 0.05, needs={"GPU": 1.0, "CPU": 0.5})),
        {"CPU": 8.0, "GPU": 8.0},
    ),
    Scenario(
        "custom resource",
        (Stage("a", 0.1, ("b",), source=900), Stage("b", 0.2, needs={"CPU": 1.0, "licence": 1.0})),
        {"CPU": 12.0, "licence": 5.0},
    ),
    Scenario("fractional CPUs", (Stage("a", 0.2, ("b",), {"CPU": 0.25}, source=2400), Stage("b", 0.1)), share=0.9),
    Scenario(
        "large and small replicas",
        (Stage("a", 0.1, ("b",), source=900), Stage("b", 0.2, ("c",), {"CPU": 3.0}), Stage("c", 0.05)),
        {"CPU": 16.0},
    ),
    Scenario("flat map 1:10", (Stage("a", 0.1, ("b",), source=400, selectivity=10.0), Stage("b", 0.05))),
    Scenario("filter 10:1", (Stage("a", 0.05, ("b",), source=4000, selectivity=0.1), Stage("b", 1.0))),
    Scenario(
        "fan out",
        (Stage("a", 0.05, ("b", "c"), source=1200), Stage("b", 0.15), Stage("c", 0.1)),
    ),
    Scenario(
        "fan in",
        (Stage("a", 0.1, ("c",), source=600), Stage("b", 0.3, ("c",), source=300), Stage("c", 0.1)),
    ),
    Scenario(
        "diamond",
        (
            Stage("a", 0.05, ("b", "c"), source=1200),
            Stage("b", 0.1, ("d",)),
            Stage("c", 0.05, ("d",), selectivity=0.5),
            Stage("d", 0.05),
        ),
    ),
    Scenario(
        "two flows, one ends early",
        (
            Stage("a", 0.1, ("b",), source=900),
            Stage("b", 0.2),
            Stage("c", 0.1, ("d",), source=60),
            Stage("d", 0.1),
        ),
        share=0.85,
    ),
    Scenario("exchange that spills", (Stage("a", 0.1, ("b",), source=1200), Stage("b", 0.2, edge=10**9))),
    Scenario(
        "exchange with a barrier",
        (Stage("a", 0.1, ("b",), source=1200), Stage("b", 0.2, edge=10**9, barrier=True)),
        converge_s=None,
    ),
    Scenario("bottleneck has a maximum", chain(0.05, 0.25, max_replicas=4)),
    Scenario(
        "idle stage has a minimum",
        (Stage("a", 0.05, ("b",), source=900, min_replicas=6), Stage("b", 0.25)),
    ),
    Scenario(
        "bottleneck is fixed",
        (Stage("a", 0.05, ("b",), source=600), Stage("b", 0.25, ("c",), fixed=5), Stage("c", 0.1)),
    ),
    Scenario("all are fixed", chain(0.1, 0.2, units=600, fixed=3), after=0),
    Scenario(
        "stream: burst",
        (Stage("a", 0.02, ("b",)), Stage("b", 0.2)),
        happens={**steady(5, 60), 20: partial(Simulation.arrive, name="a", units=400)},
        endless_s=60.0,
        converge_s=None,
    ),
    Scenario(
        "stream: low and steady",
        chain(0.02, 0.1, units=0),
        happens=steady(15, 60),
        endless_s=60.0,
        converge_s=None,
    ),
    Scenario(
        "stream: starves, to zero and back",
        chain(0.02, 0.2, units=0, min_replicas=0),
        happens={**steady(10, 20), **steady(10, 70, since_s=50)},
        endless_s=70.0,
        converge_s=None,
    ),
    Scenario("stream: calls of 15 s", chain(0.02, 15.0, units=0), happens=steady(0.2, 300), endless_s=300.0),
    Scenario(
        "cluster that grows",
        chain(0.05, 0.25, units=2400),
        {"CPU": 6.0},
        breaks=(8.0,),
        grows=new_nodes,
        share=0.85,
    ),
]
"""At least 30; each runs within a second."""
NAMED = {scenario.name: scenario for scenario in SCENARIOS}
