"""What is known of a cluster's actors: which are free, and what others than they hold."""

from __future__ import annotations

from raflow.engines.ray.actors import Actors

TOTAL = {"CPU": 8.0, "memory": 100.0}


def test_others_are_told_once_it_is_certain() -> None:
    actors = Actors()
    busy = {"CPU": 5.0, "memory": 100.0}
    assert actors.others(TOTAL, busy, 0.0) == {}, "it may have been given back a moment ago"
    assert actors.others(TOTAL, busy, 2.0) == {}
    assert actors.others(TOTAL, busy, 3.0) == {"CPU": 3.0, "memory": 0.0}


def test_what_others_hold_for_a_moment_only_does_not_count() -> None:
    actors = Actors()
    for now_s in range(10):
        free = {"CPU": 8.0 if now_s == 7 else 6.0, "memory": 100.0}
        held = actors.others(TOTAL, free, float(now_s))
        assert held.get("CPU", 0.0) == (2.0 if 3 <= now_s < 7 else 0.0), now_s
    assert actors.others(TOTAL, {"CPU": 6.0}, 13.0) == {"CPU": 2.0, "memory": 0.0}
