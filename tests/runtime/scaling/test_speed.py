from __future__ import annotations

import pytest

from raflow.runtime.scaling.speed import Speed


def looks(*seconds_each: float, per_look: int = 10) -> Speed:
    """A pool that does so many units per look, each in so many seconds."""
    speed, done, busy_s = Speed(), 0, 0.0
    for each_s in seconds_each:
        done, busy_s = done + per_look, busy_s + per_look * each_s
        speed = speed.look(done, done / 2, busy_s)
    return speed


def test_nothing_is_known_before_something_is_done() -> None:
    assert Speed().rate is None
    assert Speed().selectivity is None
    assert Speed().look(0, 0, 0.0, calls=4, running=4, running_s=1.0).rate is None


def test_the_rate_counts_busy_time_only() -> None:
    speed = looks(0.25)
    for _ in range(100):  # starved: nothing is done, nothing is busy
        speed = speed.look(10, 5, 2.5)
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


def test_calls_that_take_long_show_before_they_end() -> None:
    speed = looks(*[0.1] * 10)
    assert speed.look(100, 50, 10.0, calls=2, running=2, running_s=10.0).rate == pytest.approx(0.2)
    assert speed.look(100, 50, 10.0, calls=2, running=2, running_s=0.1).rate == pytest.approx(10.0)


def test_a_first_call_that_takes_long_bounds_an_unknown_speed() -> None:
    assert Speed().look(0, 0, 0.0, calls=4, running=400, running_s=20.0).rate == pytest.approx(20.0)


def test_busy_time_without_anything_done_is_kept_for_later() -> None:
    speed = Speed().look(10, 10, 1.0).look(10, 10, 3.0)
    assert speed.rate == pytest.approx(10.0)
    assert speed.look(20, 20, 4.0).rate == pytest.approx((0.8 * 0.2 * 10 + 0.2 * 10) / (0.8 * 0.2 * 1 + 0.2 * 3))


def test_work_that_is_taken_back_changes_no_rate() -> None:
    speed = looks(0.1, 0.1).look(12, 6, 1.2)
    assert speed.rate == pytest.approx(10.0)
    assert speed.look(22, 11, 2.2).rate == pytest.approx(10.0)


def test_what_a_pool_did_first_does_not_count() -> None:
    speed = Speed.since(done=10, made=10, busy_s=18.0)
    assert speed.rate is None
    assert speed.look(done=30, made=30, busy_s=19.0).rate == 20.0
