"""The autoscaler against flows on a fake clock. `python -m tests.benchmarks.scaling` prints and plots them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from raflow.runtime.scaling.autoscaler import DOWN_S
from tests.runtime.scaling.scenario import Result, Scenario
from tests.runtime.scaling.scenarios import NAMED
from tests.runtime.scaling.simulated import Stage
from tests.runtime.scaling.simulation import Simulation


@cache
def result(name: str) -> Result:
    return NAMED[name].run()


each_scenario = pytest.mark.parametrize("name", NAMED)


@each_scenario
def test_the_work_is_done_in_nearly_the_shortest_time(name: str) -> None:
    assert not result(name).simulation.left
    assert result(name).share >= NAMED[name].share


@each_scenario
def test_sizes_are_soon_good_and_then_stay(name: str) -> None:
    scenario, found = NAMED[name], result(name)
    if scenario.converge_s is not None:
        assert found.slowest_s <= scenario.converge_s
        assert len(found.late_changes) <= scenario.after
    assert len(found.simulation.changes) <= scenario.changes


@each_scenario
def test_capacity_and_bounds_hold_at_every_moment(name: str) -> None:
    for moment in result(name).simulation.moments:
        assert all(amount <= moment.capacity[key] + 1e-6 for key, amount in moment.held.items())
        for stage in NAMED[name].stages:
            most = stage.max_replicas if stage.fixed is None else stage.fixed
            assert most is None or moment.ready[stage.name] <= most


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("noise")])
def test_noise_of_other_seeds_does_no_more_harm(name: str, seed: int) -> None:
    print(f"seed {seed}")
    found = NAMED[name].run(seed)
    assert found.share >= NAMED[name].share
    assert len(found.simulation.changes) <= NAMED[name].changes


def test_even_sizes_that_never_change_would_fail() -> None:
    """What is asked above is not met by doing nothing."""
    stages = tuple(replace(stage, fixed=6) for stage in NAMED["robber, 2 stages"].stages)
    robbed = Scenario("fixed", stages).run()
    ideal_s = result("robber, 2 stages").ideal_s
    assert ideal_s / robbed.took_s < 0.65


def test_a_burst_is_answered_within_two_seconds_and_forgotten_after_calm() -> None:
    changes = [(one.now_s, one.decision) for one in result("stream: burst").simulation.changes]
    (grown_s, grown), *later = [(now_s, one) for now_s, one in changes if now_s >= 20 and one.pool == "b"]
    assert grown_s <= 22
    assert grown.target >= 8
    assert later[0][1].target <= 3
    assert later[0][0] >= grown_s + DOWN_S


def test_pools_go_to_zero_when_work_ends_and_are_back_within_two_seconds_of_new_work() -> None:
    found = result("stream: starves, to zero and back").simulation
    empty = [moment.now_s for moment in found.moments if not any(moment.ready.values())]
    assert min(now_s for now_s in empty if now_s > 20) < 20 + 1.5 * DOWN_S
    assert max(empty) < 52


def test_a_steady_stream_keeps_what_it_needs() -> None:
    found = result("stream: low and steady").simulation
    later = [moment for moment in found.moments if 20 < moment.now_s < 60]
    assert {tuple(moment.ready.values()) for moment in later} == {(1, 2)}
    assert max(sum(moment.queued.values()) for moment in later) <= 2


def test_a_stream_of_long_calls_gets_and_keeps_the_replicas_that_are_at_them() -> None:
    found = result("stream: calls of 15 s").simulation
    assert {moment.ready["b"] for moment in found.moments if 20 < moment.now_s < 300} == {4}


def test_a_flow_that_ends_early_leaves_its_replicas_to_the_other() -> None:
    changes = result("two flows, one ends early").simulation.changes
    ended_s = min(one.now_s for one in changes if one.decision.pool == "c" and one.decision.target == 0)
    assert any(one.decision.target > one.decision.size for one in changes if one.now_s > ended_s)


def test_fixed_pools_are_never_changed_before_their_end() -> None:
    decided = [one.decision for one in result("all are fixed").simulation.changes]
    assert [(one.size, one.target) for one in decided] == [(0, 3), (0, 3), (3, 0)]


def test_a_cluster_that_grows_is_used() -> None:
    assert max(moment.held["CPU"] for moment in result("cluster that grows").simulation.moments) > 12


def test_a_tiny_input_starts_no_more_replicas_than_it_has_units() -> None:
    stages = Stage("a", 0.5, ("b",), source=3), Stage("b", 0.5, ("c",)), Stage("c", 0.5)
    found = Simulation(stages, {"CPU": 12.0}).run()
    assert found.done["c"] == 3
    assert max(max(moment.ready.values()) for moment in found.moments) == 3


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = (NAMED["noise: exponential"].run(7).simulation for _ in range(2))
    assert one.moments == other.moments
    assert one.changes == other.changes
