"""The room that a look finds: all there is, less what others hold, but for one replica of each pool."""

from __future__ import annotations

from typing import Any

import pytest

from raflow.runtime.engine import Capacity
from raflow.runtime.scaling.look import room
from raflow.runtime.scaling.values import PoolState, Snapshot

ONE, TWO = {"CPU": 1.0}, {"CPU": 2.0}


def seen(cpus: float, *pools: PoolState, **capacity: Any) -> float:
    snapshot = Snapshot(0.0, {"CPU": cpus}, pools)
    return room(snapshot, Capacity({"CPU": cpus}, **capacity)).capacity["CPU"]


@pytest.mark.parametrize(
    ("others", "found"),
    [(0.0, 8.0), (3.0, 5.0), (7.0, 3.0), (8.0, 3.0)],
    ids=["nobody", "some", "nearly all", "all"],
)
def test_what_others_hold_is_not_there_but_for_a_replica_of_each_pool(others: float, found: float) -> None:
    assert seen(8.0, PoolState("a", ONE), PoolState("b", TWO), others={"CPU": others}) == found


def test_fixed_sizes_and_minima_wait_for_their_room() -> None:
    pools = PoolState("a", ONE, fixed=3), PoolState("b", ONE, min_replicas=2)
    assert seen(8.0, *pools, others={"CPU": 6.0}) == 5.0


def test_more_than_there_is_is_never_found_unless_replicas_share_it() -> None:
    pools = PoolState("a", TWO), PoolState("b", TWO)
    assert seen(2.0, *pools, others={"CPU": 1.0}) == 2.0
    assert seen(2.0, *pools, shared=True) == 4.0


def test_a_pool_that_waits_for_others_needs_no_room_yet() -> None:
    assert seen(4.0, PoolState("a", ONE), PoolState("b", ONE, waits=True), others={"CPU": 4.0}) == 1.0
