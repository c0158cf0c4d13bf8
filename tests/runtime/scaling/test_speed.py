from __future__ import annotations

import pytest

from raflow.runtime.scaling.speed import Speed

FIRST = Speed().look(7, 7, 70.0)


def looks(*seconds_each: float, per_look: int = 10) -> Speed:
    """A pool that does so many units per look, each in so many seconds, once it has done something."""
    speed, done, busy_s = Speed().look(0, 0, 1.0), 0, 1.0
    for each_s in seconds_each:
        done, busy_s = done + per_look, busy_s + per_look * each_s
        speed = speed.look(done, done / 2, busy_s)
    return speed


def test_nothing_is_known_before_work_has_ended() -> None:
    for speed in Speed(), Speed().look(0, 0, 0.0), Speed().look(4, 0, 0.0):
        assert speed.rate is None
        assert speed.selectivity is None


def test_what_a_pool_did_first_does_not_count() -> None:
    assert FIRST.rate is None
    assert FIRST.look(27, 27, 71.0).rate == 20.0
    assert Speed().look(7, 0, 0.0).look(7, 7, 70.0).look(27, 27, 71.0).rate == 20.0


def test_the_rate_counts_busy_time_only() -> None:
    speed = looks(0.25)
    for _ in range(100):  # starved: nothing is done, nothing is busy
        speed = speed.look(10, 5, 3.5)
    assert speed.rate == pytest.approx(4.0)
    assert speed.selectivity == pytest.approx(0.5)


def test_a_single_odd_look_changes_little_and_two_change_all() -> None:
    assert looks(*[0.1] * 99, 0.5).rate == pytest.approx(1 / 0.18)
    assert looks(*[0.1] * 10, 0.5, 0.5).rate == pytest.approx(2.0)
    assert looks(*[0.5] * 10, 0.1, 0.1).rate == pytest.approx(10.0)


def test_small_changes_are_followed_slowly() -> None:
    rate = looks(*[0.1] * 10, *[0.12] * 2).rate
    assert rate is not None
    assert 1 / 0.12 < rate < 1 / 0.1


def test_busy_time_without_anything_done_is_kept_for_later() -> None:
    speed = FIRST.look(17, 17, 71.0).look(17, 17, 73.0)
    assert speed.rate == pytest.approx(10.0)
    assert speed.look(27, 27, 74.0).rate == pytest.approx((0.8 * 0.2 * 10 + 0.2 * 10) / (0.8 * 0.2 * 1 + 0.2 * 3))


def test_work_that_is_taken_back_changes_no_rate() -> None:
    speed = looks(0.1, 0.1).look(12, 6, 2.2)
    assert speed.rate == pytest.approx(10.0)
    assert speed.look(22, 11, 3.2).rate == pytest.approx(10.0)
