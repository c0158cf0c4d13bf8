"""What a look finds: room, which is all but what others hold, and the size of units."""

from __future__ import annotations

from typing import Any

import pytest

from raflow.runtime.engine import Capacity
from raflow.runtime.scaling.look import room, rows_each
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


@pytest.mark.parametrize(
    ("rows", "ended", "begun", "each"),
    [(0, 0, 4, 1000.0), (50, 0, 10, 10.0), (2400, 240, 0, 10.0), (2410, 240, 2, 10.0), (0, 9, 0, 1000.0)],
    ids=["nothing is known", "half of ten", "all ended, none delivered", "two begun", "empty ones"],
)
def test_a_unit_has_the_records_of_those_that_the_stage_has_had(rows: int, ended: int, begun: int, each: float) -> None:
    assert rows_each(rows, ended, begun) == each
