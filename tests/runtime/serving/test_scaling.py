from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest

from raflow.runtime.serving.scaling import HttpScaling, Look, Past, decide, moves

BOUNDS = HttpScaling(target_ongoing_requests=4, min_replicas=1, max_replicas=8, calm_s=10)


def sizes(loads: Sequence[float], size: int = 1, bounds: HttpScaling = BOUNDS) -> list[int]:
    """The sizes after each look, every half second, where new replicas are there at once."""
    past, found = Past(), []
    for step, load in enumerate(loads):
        decision, past = decide(Look(step / 2, size, (load / size,) * size), bounds, past)
        if decision is not None:
            assert decision.size == size
            size = decision.target
        found.append(size)
    return found


def test_overload_is_answered_within_a_second() -> None:
    assert sizes([0, 0, 16, 16, 16]) == [1, 1, 1, 2, 2]


def test_more_than_twice_of_what_the_pool_may_have_is_answered_at_once() -> None:
    assert sizes([0, 8, 32, 32]) == [1, 1, 2, 4]


def test_a_single_busy_moment_changes_nothing() -> None:
    assert sizes([0, 16, 0, 0, 0, 0]) == [1] * 6


def test_a_steady_load_at_the_target_changes_nothing() -> None:
    assert sizes([4.0] * 100) == [1] * 100
    assert sizes([8.0] * 100, size=2) == [2] * 100


def test_the_pool_at_most_doubles_at_once_and_stays_within_its_bounds() -> None:
    found = [1, *sizes([1000.0] * 20)]
    assert [after for before, after in pairwise(found) if after != before] == [2, 4, 8]


def test_the_pool_shrinks_only_after_calm_and_to_what_was_needed_in_it() -> None:
    found = sizes([30.0] * 4 + [10.0] * 5 + [2.0] * 40, size=8)
    assert found[:20] == [8] * 20
    assert found[-1] == 1
    shrunk = [after for before, after in pairwise(found) if after != before]
    assert shrunk == sorted(shrunk, reverse=True)
    assert shrunk[0] > 1, "what the calm began with was more"


def test_a_busy_moment_ends_the_calm() -> None:
    loads = [2.0] * 19 + [40.0, 40.0] + [2.0] * 15
    assert min(sizes(loads, size=8)) == 8


def test_a_load_that_a_smaller_pool_would_just_bear_keeps_the_pool() -> None:
    assert sizes([3.9] * 100, size=2) == [2] * 100


def test_nothing_is_decided_while_replicas_are_still_to_come() -> None:
    past = Past()
    for step in range(20):
        decision, past = decide(Look(step / 2, 3, (50.0, 50.0)), BOUNDS, past)
        assert decision is None


@pytest.mark.parametrize(("size", "target", "reason"), [(0, 1, "min_replicas is 1"), (9, 8, "max_replicas is 8")])
def test_bounds_hold_at_once(size: int, target: int, reason: str) -> None:
    decision, _ = decide(Look(0.0, size, ()), BOUNDS, Past())
    assert decision is not None
    assert (decision.target, decision.reason) == (target, reason)


def test_reasons_tell_the_load() -> None:
    past = Past(load=16.0)
    _, past = decide(Look(0.0, 2, (8.0, 8.0)), BOUNDS, past)
    decision, _ = decide(Look(0.5, 2, (8.0, 8.0)), BOUNDS, past)
    assert decision is not None
    assert str(decision) == "http 2 → 4: 16.0 requests ongoing, 4 for each replica"


@pytest.mark.parametrize(
    ("connections", "moved"),
    [
        ({}, {}),
        ({0: 5}, {}),
        ({0: 8, 1: 0}, {0: 4}),
        ({0: 9, 1: 0}, {0: 4}),
        ({0: 5, 1: 4}, {}),
        ({0: 10, 1: 10, 2: 0}, {0: 3, 1: 3}),
    ],
)
def test_replicas_send_away_what_is_above_their_share(connections: dict[int, int], moved: dict[int, int]) -> None:
    assert moves(connections) == moved


def test_a_pool_whose_missing_replicas_do_not_come_shrinks_and_does_not_grow() -> None:
    def decided(load: float) -> list[int]:
        past, found = Past(), []
        for step in range(40):
            decision, past = decide(Look(step / 2, 3, (load / 2, load / 2), stuck=True), BOUNDS, past)
            found += [decision.target] if decision else []
        return found

    assert decided(4.0) == [2]
    assert decided(100.0) == []
