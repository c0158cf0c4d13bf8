from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raflow.runtime.scaling.allocation import Share, admit, allocate, fits, most, used

CPU = {"CPU": 1.0}


def share(name: str, work_s: float, low: int = 1, high: int = 1 << 20, needs: dict[str, float] | None = None) -> Share:
    return Share(name, CPU if needs is None else needs, work_s, low, high)


@pytest.mark.parametrize(
    ("work", "capacity", "expected"),
    [
        ([60, 300], 12, [2, 10]),
        ([300, 60], 12, [10, 2]),
        ([60, 300, 120], 12, [2, 7, 3]),
        ([5600, 7200], 128, [56, 72]),
        ([100], 4, [4]),
        ([100, 100, 100], 11, [4, 4, 3]),
        ([1e6, 1], 8, [7, 1]),
        ([4, 4], 12, [3, 3]),
        ([0, 100], 12, [1, 11]),
        ([1, 1], 2, [1, 1]),
    ],
)
def test_pools_get_replicas_in_proportion_to_their_work(
    work: list[float], capacity: float, expected: list[int]
) -> None:
    sizes = allocate([share(str(index), one) for index, one in enumerate(work)], {"CPU": capacity}, shortest_s=2.0)
    assert list(sizes.values()) == expected


def test_beside_a_full_bottleneck_a_pool_gets_a_little_headroom_and_no_more() -> None:
    shares = [
        Share("read", CPU, 100, floor_s=50),
        Share("model", {"GPU": 1.0}, 100, high=2, floor_s=50),
    ]
    assert allocate(shares, {"CPU": 12.0, "GPU": 2.0}, 2.0) == {"read": 3, "model": 2}


def test_large_replicas_are_weighed_by_what_they_need() -> None:
    shares = [share("small", 60), share("large", 60, needs={"CPU": 4.0})]
    assert allocate(shares, {"CPU": 20.0}, 2.0) == {"small": 4, "large": 4}


def test_lower_bounds_that_do_not_fit_get_one_each_and_then_evenly_more() -> None:
    shares = [share("a", 9, low=5), share("b", 9, low=3), share("c", 9, low=1)]
    assert admit(shares, {"CPU": 9.0}) == {"a": 5, "b": 3, "c": 1}
    assert admit(shares, {"CPU": 6.0}) == {"a": 3, "b": 2, "c": 1}
    assert admit(shares, {"CPU": 2.0}) == {"a": 1, "b": 1, "c": 0}
    assert admit([share("a", 1, needs={"GPU": 1.0}), share("b", 1)], {"CPU": 1.0}) == {"a": 0, "b": 1}


def test_what_needs_nothing_is_bounded_by_the_cpus() -> None:
    assert most({}, {"CPU": 4.0}) == 4
    assert most({"CPU": 0.1}, {"CPU": 1.2}) == 12
    assert most({"GPU": 1.0}, {"CPU": 4.0}) == 0
    assert most({}, {"CPU": 0.0}) == 1


NEEDS = st.sampled_from([{"CPU": 1.0}, {"CPU": 0.1}, {"CPU": 2.5}, {"GPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Share], dict[str, float]]:
    shares = []
    for index in range(draw(st.integers(1, 4))):
        low = draw(st.integers(0, 4))
        work_s = draw(st.sampled_from([0.0, 0.3, 7.0, 40.0, 41.0, 900.0, 1e5]))
        shares.append(Share(str(index), draw(NEEDS), work_s, low, low + draw(st.integers(0, 9))))
    return shares, {"CPU": draw(st.integers(0, 20)) / 2, "GPU": float(draw(st.integers(0, 4)))}


def needs_of(shares: list[Share]) -> dict[str, dict[str, float]]:
    return {one.name: dict(one.needs) for one in shares}


@settings(deadline=None)
@given(cases())
def test_no_allocation_exceeds_capacity_or_bounds(case: tuple[list[Share], dict[str, float]]) -> None:
    shares, capacity = case
    sizes, low = allocate(shares, capacity, 2.0), admit(shares, capacity)
    assert fits(used(needs_of(shares), sizes), capacity)
    assert all(low[one.name] <= sizes[one.name] <= one.high for one in shares)
    assert all(low[one.name] <= one.low for one in shares)


@settings(deadline=None)
@given(cases())
def test_no_room_is_left_that_would_help_the_slowest_pool(case: tuple[list[Share], dict[str, float]]) -> None:
    shares, capacity = case
    sizes, low = allocate(shares, capacity, 0.001), admit(shares, capacity)
    able = [one for one in shares if one.work_s and one.low == low[one.name]]
    if able:
        slowest = max(able, key=lambda one: one.work_s / (sizes[one.name] or 1e-9))
        more = {**sizes, slowest.name: sizes[slowest.name] + 1}
        at_bound = sizes[slowest.name] == slowest.high
        assert at_bound or not fits(used(needs_of(shares), more), capacity)


@settings(deadline=None)
@given(st.lists(st.sampled_from([1.0, 7.0, 20.0, 50.0, 52.0]), min_size=1, max_size=3), st.integers(3, 12))
def test_no_other_sizes_are_faster(work: list[float], cpus: int) -> None:
    sizes = allocate([share(str(index), one) for index, one in enumerate(work)], {"CPU": float(cpus)}, 0.001)
    every = itertools.product(range(1, cpus + 1), repeat=len(work))
    best = min(max(map(float.__truediv__, work, map(float, one))) for one in every if sum(one) <= cpus)
    assert max(one / size for one, size in zip(work, sizes.values(), strict=True)) == pytest.approx(best)


@settings(deadline=None)
@given(cases(), st.integers(1, 8))
def test_more_capacity_is_never_slower(case: tuple[list[Share], dict[str, float]], more: int) -> None:
    shares, capacity = case
    assume(admit(shares, capacity) == {one.name: one.low for one in shares})
    larger = {"CPU": capacity["CPU"] + more, "GPU": capacity["GPU"]}

    def time_s(there: dict[str, float]) -> float:
        sizes = allocate(shares, there, 2.0)
        return max(max(one.work_s / (sizes[one.name] or 1e-9), 2.0) for one in shares)

    assert time_s(larger) <= time_s(capacity) * (1 + 1e-5)
