"""How many replicas of a pool are taken for busy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raflow.runtime.scaling.load import busy_replicas
from raflow.runtime.scaling.values import PoolMemory, PoolState

POOL = PoolState("a", {"CPU": 1.0}, ready=4, in_flight=4, rate=2.0)
COLD = replace(POOL, rate=None)
LONG = replace(POOL, rate=1 / 6)


def watched(pool: PoolState, *busy_s: float) -> float:
    """Show it twice a second, busy for so long in between."""
    past = PoolMemory()
    for new_s in busy_s:
        pool = replace(pool, busy_s=pool.busy_s + new_s)
        past = PoolMemory(load=busy_replicas(pool, past, 0.5), busy_s=pool.busy_s)
    assert past.load is not None
    return past.load


def test_busy_time_tells_how_many_are_busy_and_not_what_they_hold() -> None:
    assert watched(POOL, *[0.5] * 9) == pytest.approx(1.0)
    assert watched(POOL, 2.0, *[0.0] * 80) < 0.01


def test_calls_that_end_together_are_averaged() -> None:
    assert watched(POOL, *[0.0, 4.0] * 20) > 3.5
    assert watched(POOL, *[0.0, 4.0] * 20, 0.0) > 3.5


@pytest.mark.parametrize("pool", [COLD, LONG], ids=["first ones", "long ones"])
def test_replicas_at_calls_of_which_few_have_ended_are_busy(pool: PoolState) -> None:
    assert watched(pool, *[0.0] * 20) == 4.0
    assert watched(replace(pool, in_flight=8), *[0.0] * 20) == 4.0
    assert watched(replace(pool, in_flight=1), *[0.0] * 20) == 1.0
    assert watched(replace(pool, blocked=True), *[0.0] * 20) == 0.0


def test_where_no_replica_is_nothing_is_known() -> None:
    assert busy_replicas(replace(POOL, ready=0), PoolMemory(), 0.5) is None
