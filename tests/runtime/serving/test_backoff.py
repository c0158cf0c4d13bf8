"""When a missing replica may be started."""

from __future__ import annotations

import pytest

from raflow.runtime.serving.backoff import Backoff


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def waited(backoff: Backoff, clock: Clock) -> float:
    """Return after how many tenths of a second it is over; the clock goes there."""
    tenths = 0
    while not backoff.is_over:
        clock.at += 0.1
        tenths += 1
    return tenths


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_replica_starts_at_once(clock: Clock) -> None:
    assert Backoff(clock).is_over


def test_replicas_that_do_not_come_up_are_started_later_each_time_until_one_does(clock: Clock) -> None:
    backoff = Backoff(clock)
    waits = []
    for _ in range(9):
        backoff.failed()
        waits.append(waited(backoff, clock))
    assert waits[:4] == pytest.approx([2, 4, 8, 16], abs=1)
    assert waits[-1] == pytest.approx(100, abs=1)
    assert backoff.failures == 9
    backoff.came_up()
    backoff.failed()
    assert waited(backoff, clock) == pytest.approx(2, abs=1)


def test_one_that_dies_is_replaced_at_once_and_several_in_a_row_later_and_later(clock: Clock) -> None:
    backoff = Backoff(clock)
    waits = []
    for _ in range(3):
        backoff.died(is_missed=True)
        waits.append(waited(backoff, clock))
    assert waits == pytest.approx([0, 2, 4], abs=1)
    clock.at += 60.0
    backoff.died(is_missed=True)
    assert backoff.is_over


def test_the_death_of_one_that_was_leaving_delays_nothing(clock: Clock) -> None:
    backoff = Backoff(clock)
    for _ in range(5):
        backoff.died(is_missed=False)
    assert backoff.is_over
