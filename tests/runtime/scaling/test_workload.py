from __future__ import annotations

import pytest

from raflow.runtime.scaling.values import PoolMemory, PoolState, Snapshot
from raflow.runtime.scaling.workload import shares

CPU = {"CPU": 1.0}


def look(*pools: PoolState) -> Snapshot:
    return Snapshot(0.0, {"CPU": 12.0}, pools)


def work(*pools: PoolState) -> dict[str, float]:
    return {name: share.work_s for name, share in shares(look(*pools), {}).items()}


def test_work_is_carried_downstream_through_selectivity() -> None:
    a = PoolState("a", CPU, 1, queued=100, rate=10.0, selectivity=0.5, consumers=("b", "c"))
    b = PoolState("b", CPU, 1, queued=10, rate=2.0, selectivity=2.0, consumers=("d",))
    c = PoolState("c", CPU, 1, rate=5.0, selectivity=1.0, consumers=("d",))
    d = PoolState("d", CPU, 1, rate=100.0)
    expected = {"a": 10.0, "b": 30.0, "c": 10.0, "d": 1.7}
    assert work(a, b, c, d) == pytest.approx(expected)
    assert work(d, c, b, a) == pytest.approx(expected)  # in whatever order they are told


def test_the_size_of_units_and_what_is_under_way_count() -> None:
    assert work(PoolState("a", CPU, 2, queued=10, unit=1000.0, rate=500.0)) == pytest.approx({"a": 20.0})
    assert work(PoolState("a", CPU, 2, queued=10, in_flight=4, rate=1.0)) == pytest.approx({"a": 13.0})


def test_a_pool_of_unknown_speed_counts_as_the_others_do_on_average() -> None:
    a = PoolState("a", CPU, 1, queued=60, rate=1.0, consumers=("b",))
    b = PoolState("b", CPU, 1, rate=0.5, consumers=("c",))
    assert work(a, b, PoolState("c", CPU)) == pytest.approx({"a": 60.0, "b": 120.0, "c": 90.0})


def test_it_counts_no_faster_than_its_first_calls_that_go_on() -> None:
    a = PoolState("a", CPU, 1, queued=60, rate=1.0, consumers=("b",))
    b = PoolState("b", CPU, 1, queued=6, unit=10.0)
    found = shares(Snapshot(90.0, {"CPU": 12.0}, (a, b)), {"b": PoolMemory(first_since_s=50.0)})
    assert found["b"].work_s == pytest.approx((60 + 6 * 10) * 4.0)


@pytest.mark.parametrize(
    ("pool", "low", "high"),
    [
        (PoolState("a", CPU, 4, rate=1.0), 1, 12),
        (PoolState("a", {"CPU": 0.5}, 4, rate=1.0), 1, 24),
        (PoolState("a", {}, 4, rate=1.0), 1, 12),
        (PoolState("a", CPU, 4, rate=1.0, min_replicas=2, max_replicas=5), 2, 5),
        (PoolState("a", CPU, 4, rate=1.0, fixed=3), 3, 3),
        (PoolState("a", CPU, 4, rate=1.0, min_replicas=0), 0, 12),
        (PoolState("a", CPU, 0, rate=1.0, min_replicas=0), 0, 0),
        (PoolState("a", CPU, 0, rate=1.0, min_replicas=0, queued=1), 1, 12),
        (PoolState("a", CPU, 4, rate=1.0, exhausted=True, queued=6), 1, 6),
        (PoolState("a", CPU, 4, rate=1.0, exhausted=True), 0, 0),
        (PoolState("a", CPU, 4, rate=1.0, exhausted=True, fixed=3), 0, 0),
        (PoolState("a", CPU, 0, rate=1.0, waits=True, queued=9), 0, 0),
        (PoolState("a", CPU, 0, queued=5), 1, 5),
        (PoolState("a", CPU, 1, starting=1, queued=5), 1, 2),
        (PoolState("a", CPU, 2, queued=50), 1, 4),
    ],
)
def test_the_bounds_of_a_pool(pool: PoolState, low: int, high: int) -> None:
    share = shares(look(pool), {})["a"]
    assert (share.low, share.high) == (low, high)


def test_pools_that_are_joined_wait_for_the_slowest_of_them_alone() -> None:
    a = PoolState("a", CPU, 1, queued=100, rate=10.0, consumers=("b",))
    b = PoolState("b", CPU, 1, rate=1.0, max_replicas=2)
    c = PoolState("c", CPU, 1, queued=12, rate=1.0)
    floors = {name: share.floor_s for name, share in shares(look(a, b, c), {}).items()}
    assert floors == pytest.approx({"a": 50.0, "b": 50.0, "c": 1.0})
