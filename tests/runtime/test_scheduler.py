from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raflow.runtime.scheduler import IN_FLIGHT, Slot, assign


@pytest.mark.parametrize(
    ("waiting", "slots", "expected"),
    [
        (0, [Slot(0, 0)], []),
        (5, [], []),
        (1, [Slot(0, 1), Slot(1, 0)], [1]),
        (9, [Slot(0, 0), Slot(1, 0)], [0, 1, 0, 1]),
        (3, [Slot(0, 0), Slot(1, 0)], [0, 1]),
        (2, [Slot(0, 1), Slot(1, 1)], []),
        (3, [Slot(0, 1), Slot(1, 1)], [0]),
        (9, [Slot(0, 2), Slot(1, 2)], []),
    ],
)
def test_units_go_to_the_least_loaded_replica(waiting: int, slots: list[Slot], expected: list[int]) -> None:
    assert assign(waiting, slots) == expected


@given(st.integers(0, 50), st.lists(st.integers(0, IN_FLIGHT), max_size=8))
def test_no_replica_gets_more_than_two_units_and_none_idles_beside_waiting_work(waiting: int, loads: list[int]) -> None:
    chosen = assign(waiting, [Slot(index, load) for index, load in enumerate(loads)])
    after = [load + chosen.count(index) for index, load in enumerate(loads)]
    assert all(load <= IN_FLIGHT for load in after)
    assert len(chosen) == waiting or all(load > 0 for load in after)
