from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.runtime.scaling.allocation import fits, used
from raflow.runtime.scaling.autoscaler import DOWN_S, SETTLE_S, decide
from raflow.runtime.scaling.demand import ASK_S
from raflow.runtime.scaling.values import Decisions, Memory, PoolState, Snapshot

CPU = {"CPU": 1.0}
TWELVE = {"CPU": 12.0}
NEW = Memory()


def pool(name: str, ready: int = 0, **state: object) -> PoolState:
    """A pool at work: its replicas are busy, with one more unit each in line, unless told otherwise."""
    known: dict[str, object] = {"needs": CPU, "ready": ready, "in_flight": 2 * ready, "rate": 4.0, "selectivity": 1.0}
    return PoolState(name, **{**known, **state})  # type: ignore[arg-type]


FAST = pool("fast", 6, queued=1000, rate=20.0, consumers=("slow",), exhausted=True)
SLOW = pool("slow", 6, queued=24, rate=4.0)


def look(*pools: PoolState, now_s: float = 100.0, capacity: dict[str, float] | None = None, **more: bool) -> Snapshot:
    return Snapshot(now_s, TWELVE if capacity is None else capacity, pools, **more)


def told(decisions: Decisions) -> list[str]:
    return [str(change) for change in decisions.changes]


def later(snapshot: Snapshot, by_s: float) -> Snapshot:
    """The same, after replicas were as busy as what is in flight says."""
    pools = [replace(one, busy_s=one.busy_s + by_s * min(one.in_flight, one.ready)) for one in snapshot.pools]
    return replace(snapshot, now_s=snapshot.now_s + by_s, pools=tuple(pools))


def watched(snapshot: Snapshot, seconds: float, memory: Memory = NEW) -> tuple[Decisions, Memory]:
    """Show the same state again and again, twice a second, until something is decided or so long."""
    decisions, memory = decide(snapshot, memory)
    for _ in range(int(seconds * 2)):
        if decisions.changes:
            break
        snapshot = later(snapshot, 0.5)
        decisions, memory = decide(snapshot, memory)
    return decisions, memory


# -- at the start -------------------------------------------------------------------------------------


def cold(name: str, ready: int = 0, **state: object) -> PoolState:
    return pool(name, ready, rate=None, selectivity=None, **state)


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        (
            [cold("a", queued=99, exhausted=True)],
            ["a 0 → 12: speed not known yet, an even share; 12 CPU for 12"],
        ),
        (
            [cold("a", queued=99, exhausted=True, consumers=("b",)), cold("b")],
            [
                "a 0 → 6: speed not known yet, an even share; 12 CPU split 6:6",
                "b 0 → 6: speed not known yet, an even share; 12 CPU split 6:6",
            ],
        ),
        (
            [cold("a", queued=2, exhausted=True, consumers=("b",)), cold("b", min_replicas=0)],
            ["a 0 → 2: speed not known yet, an even share; 12 CPU for 2"],
        ),
        (
            [cold("a", consumers=("b",)), cold("b", min_replicas=3)],
            ["a 0 → 1: first replica", "b 0 → 3: min_replicas is 3"],
        ),
        (
            [cold("a", queued=99, fixed=2, consumers=("b",)), cold("b", max_replicas=4)],
            ["a 0 → 2: num_replicas is 2", "b 0 → 3: speed not known yet, an even share; 12 CPU split 2:3"],
        ),
    ],
    ids=["one stage", "two stages", "two units", "no work yet", "fixed and bounded"],
)
def test_the_first_replicas(pools: list[PoolState], expected: list[str]) -> None:
    assert told(decide(look(*pools), Memory())[0]) == expected


def test_a_pool_that_waits_for_its_producers_leaves_them_all_the_room() -> None:
    reduce = cold("reduce", queued=50, waits=True)
    decisions, _ = decide(look(cold("map", queued=99, exhausted=True, consumers=("reduce",)), reduce), Memory())
    assert {one.pool: one.target for one in decisions.changes} == {"map": 12}
    mapped = pool("map", 12, in_flight=3, exhausted=True, consumers=("reduce",))
    decisions, _ = decide(look(mapped, replace(reduce, waits=False)), Memory())
    assert told(decisions) == ["map 12 → 3: gives way to 'reduce', the bottleneck; 12 CPU split 1:9"]


def test_a_gpu_pool_takes_all_gpus_and_no_share_of_the_cpus() -> None:
    pools = cold("a", queued=99, exhausted=True, consumers=("b",)), cold("b", needs={"GPU": 1.0})
    decisions, _ = decide(look(*pools, capacity={"CPU": 8.0, "GPU": 2.0}), Memory())
    assert {one.pool: one.target for one in decisions.changes} == {"a": 3, "b": 2}


def test_starting_replicas_of_unknown_speed_are_waited_for() -> None:
    starting = cold("a", queued=99, starting=3)
    assert told(watched(look(starting), 5)[0]) == []
    just_ready = look(cold("a", 3, queued=99))
    assert told(watched(just_ready, 0.5)[0]) == []
    assert told(watched(just_ready, 5)[0]) == ["a 3 → 6: speed not known yet, an even share; 12 CPU for 6"]


def test_a_pool_whose_first_calls_take_long_grows_into_free_room_and_takes_none() -> None:
    fast = replace(FAST, ready=2, in_flight=4, queued=100, blocked=True)
    first = cold("slow", 2, queued=20)
    assert told(watched(look(fast, first, capacity={"CPU": 4.0}), 60)[0]) == []
    decisions, memory = watched(look(fast, first), 60)
    assert told(decisions) == ["slow 2 → 4: speed not known yet, an even share; 12 CPU split 1:4"]
    assert memory.now_s is not None
    assert memory.now_s <= 105.0


# -- room is taken from who has too much --------------------------------------------------------------


def test_the_greedy_pool_gives_back_although_work_waits_for_it() -> None:
    decisions, memory = watched(look(FAST, SLOW), 2)
    assert told(decisions) == ["fast 6 → 2: gives way to 'slow', the bottleneck; 12 CPU split 2:10"]
    leaving = look(replace(FAST, ready=2, draining=4), SLOW, now_s=101.0)
    assert told(decide(leaving, memory)[0]) == []
    gone = look(replace(FAST, ready=2, in_flight=4), SLOW, now_s=101.0)
    assert told(decide(gone, memory)[0]) == ["slow 6 → 10: bottleneck: 30 batches wait, 0.25 s each; 12 CPU split 2:10"]


def test_the_more_there_is_to_gain_the_sooner_it_is_moved() -> None:
    def waited_s(ready: int) -> float:
        snapshot = look(replace(FAST, ready=12 - ready), replace(SLOW, ready=ready, in_flight=2 * ready))
        return watched(snapshot, 20)[1].pools["fast"].moved_s - snapshot.now_s

    assert waited_s(1) <= 0.5
    assert waited_s(4) <= 1.0
    assert 1.0 < waited_s(8) <= 2.0
    assert 2.0 < waited_s(9) <= 4.0
    assert waited_s(10) == -100.0  # never


def test_no_more_than_is_needed_is_taken() -> None:
    spare = pool("spare", 3, queued=5, rate=50.0)
    snapshot = look(replace(FAST, ready=4), replace(SLOW, ready=5, in_flight=10), spare)
    assert sum(one.size - one.target for one in watched(snapshot, 2)[0].changes) == 4


def test_a_starved_pool_is_not_taken_for_slow() -> None:
    # Slow as it is, no work waits for it: its producer is what lacks replicas.
    starved = replace(SLOW, queued=0, in_flight=3)
    decisions, _ = watched(look(replace(FAST, ready=1, in_flight=2), replace(starved, ready=11)), 2)
    assert [one.pool for one in decisions.changes] == ["slow"]
    assert decisions.changes[0].reason.startswith("gives way to 'fast', the bottleneck")


def test_what_has_moved_does_not_move_back_at_once() -> None:
    _, memory = watched(look(FAST, SLOW), 2)
    swapped = (
        replace(FAST, ready=2, in_flight=4, rate=4.0),
        replace(SLOW, ready=10, in_flight=20, rate=20.0, queued=0),
    )
    decisions, memory = decide(look(*swapped, now_s=101.0), memory)
    assert told(decisions) == []
    decisions, after = watched(look(*swapped, now_s=101.5), 20, memory)
    assert [one.pool for one in decisions.changes] == ["slow"]
    assert after.pools["slow"].moved_s >= memory.pools["fast"].moved_s + SETTLE_S


def test_nothing_moves_to_save_less_than_a_replica_takes_to_start() -> None:
    assert told(watched(look(replace(FAST, queued=8), replace(SLOW, queued=3, in_flight=6)), 5)[0]) == []


def test_replicas_of_unknown_speed_are_not_taken() -> None:
    filtered = replace(FAST, selectivity=0.01)
    assert [one.pool for one in watched(look(filtered, replace(SLOW, queued=0)), 5)[0].changes] == ["slow"]
    assert told(watched(look(filtered, replace(SLOW, queued=0, rate=None)), 5)[0]) == []


# -- room that is free --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ["slow 2 → 10: bottleneck: 26 batches wait, 0.25 s each; 12 CPU split 2:10"]),
        ({"blocked": True}, []),
        ({"queued": 0, "in_flight": 2}, []),
        ({"fixed": 2}, []),
        ({"max_replicas": 3}, ["slow 2 → 3: bottleneck: 26 batches wait, 0.25 s each; 12 CPU split 1:3"]),
        ({"draining": 4}, ["slow 2 → 6: bottleneck: 26 batches wait, 0.25 s each; 12 CPU split 2:10"]),
        ({"starting": 8}, []),
    ],
    ids=["free", "blocked", "no work waits", "fixed", "maximum", "others drain", "others start"],
)
def test_a_pool_grows_into_free_room_at_once(change: dict[str, object], expected: list[str]) -> None:
    fast = replace(FAST, ready=2, in_flight=4)
    slow = replace(replace(SLOW, ready=2, in_flight=4), **change)  # type: ignore[arg-type]
    assert told(decide(look(fast, slow), Memory())[0]) == expected


def test_work_for_a_pool_of_none_comes_first() -> None:
    greedy = pool("greedy", 12, queued=999)
    sleeper = pool("sleeper", 0, min_replicas=0, queued=1)
    decisions, _ = decide(look(greedy, sleeper), Memory())
    assert told(decisions) == ["greedy 12 → 11: makes room for 'sleeper', which must have 1"]
    decisions, _ = decide(look(replace(greedy, ready=11), sleeper), Memory())
    assert told(decisions) == ["sleeper 0 → 1: first replica"]


def test_a_fixed_pool_is_completed_when_replicas_are_lost() -> None:
    assert told(decide(look(pool("a", 3, fixed=4)), Memory())[0]) == ["a 3 → 4: num_replicas is 4"]


# -- less ---------------------------------------------------------------------------------------------


def test_a_pool_that_has_ended_lets_go_at_once() -> None:
    ended = pool("a", 4, in_flight=0, exhausted=True, min_replicas=2)
    fixed = pool("b", 4, in_flight=0, exhausted=True, fixed=4)
    decisions, _ = decide(look(ended, fixed), Memory())
    assert told(decisions) == ["a 4 → 0: finished: no more input", "b 4 → 0: finished: no more input"]


def test_when_nodes_are_lost_all_shrink_to_what_is_just() -> None:
    decisions, _ = decide(look(replace(FAST, ready=2), replace(SLOW, ready=10), capacity={"CPU": 6.0}), Memory())
    assert {one.pool: one.target for one in decisions.changes} == {"fast": 1, "slow": 5}
    assert decisions.changes[0].reason == "there is only 6 CPU"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"in_flight": 2}, ["a 8 → 3: calm: 2.0 of 8 busy"]),
        ({"in_flight": 2, "min_replicas": 5}, ["a 8 → 5: calm: 2.0 of 8 busy"]),
        ({"in_flight": 0, "min_replicas": 0}, ["a 8 → 0: no work for 10 s"]),
        ({"in_flight": 0}, ["a 8 → 1: calm: 0.0 of 8 busy"]),
        ({"in_flight": 7}, []),
        ({"in_flight": 2, "queued": 9}, []),
        ({"in_flight": 2, "fixed": 8}, []),
        ({"in_flight": 2, "starting": 1}, []),
    ],
    ids=["half idle", "minimum", "to zero", "to one", "busy", "work waits", "fixed", "others start"],
)
def test_a_pool_shrinks_after_calm(state: dict[str, object], expected: list[str]) -> None:
    state = {"in_flight": 0, "queued": 0, **state}
    snapshot = look(pool("a", 8, **state))
    _, memory = watched(snapshot, DOWN_S - 1)
    assert told(watched(snapshot, DOWN_S - 1)[0]) == []
    assert told(watched(later(snapshot, DOWN_S), DOWN_S, memory)[0]) == expected


def test_a_burst_ends_the_calm() -> None:
    idle = look(pool("a", 8, in_flight=0))
    _, memory = watched(idle, DOWN_S - 1)
    _, memory = decide(replace(look(pool("a", 8, queued=90)), now_s=109.5), memory)
    assert told(watched(replace(idle, now_s=110.0), DOWN_S - 1, memory)[0]) == []


def test_a_pool_whose_consumer_is_full_gives_up_what_it_does_not_use() -> None:
    reader = pool("reader", 8, queued=500, in_flight=0, rate=10.0, blocked=True, consumers=("model",))
    model = pool("model", 1, queued=24, rate=10.0, needs={"GPU": 1.0})
    decisions, _ = watched(look(reader, model, capacity={"CPU": 12.0, "GPU": 1.0}), 12)
    assert told(decisions) == ["reader 8 → 2: calm: 0.0 of 8 busy"]


def test_a_smaller_maximum_holds_at_once() -> None:
    assert told(decide(look(pool("a", 8, max_replicas=3, queued=99)), Memory())[0]) == ["a 8 → 3: max_replicas is 3"]


# -- what cannot be -----------------------------------------------------------------------------------


def test_a_pool_that_can_never_be_placed_is_named_with_what_it_needs_and_what_there_is() -> None:
    decisions, _ = decide(look(cold("a", queued=9, consumers=("b",)), cold("b", needs={"GPU": 2.0})), Memory())
    (shortage,) = decisions.shortages
    assert (shortage.pool, shortage.fits) == ("b", 0)
    assert "1 of 1 replicas that 'b' must have cannot be placed" in shortage.message
    assert "one needs 2 GPU; there is 12 CPU in all" in shortage.message


def test_a_pool_that_starts_later_and_can_never_be_placed_is_named_at_once() -> None:
    for other in cold("b", needs={"GPU": 2.0}, waits=True), cold("b", needs={"GPU": 2.0}, min_replicas=0):
        decisions, _ = decide(look(cold("a", queued=9, consumers=("b",)), other), Memory())
        assert [(one.pool, one.fits) for one in decisions.shortages] == [("b", 0)]


def test_stages_that_do_not_fit_beside_each_other_are_a_shortage() -> None:
    decisions, _ = decide(look(*(cold(name, queued=9) for name in "abc"), capacity={"CPU": 2.0}), Memory())
    assert [(one.pool, one.fits) for one in decisions.shortages] == [("c", 0)]
    assert [one.target for one in decisions.changes] == [1, 1]


def test_more_fixed_replicas_than_fit_are_a_shortage() -> None:
    decisions, _ = decide(look(cold("a", queued=9, fixed=20), cold("b", queued=9)), Memory())
    (shortage,) = decisions.shortages
    assert (shortage.pool, shortage.fits) == ("a", 11)
    assert shortage.message.startswith("9 of 20 replicas that 'a' must have cannot be placed")


# -- clusters -----------------------------------------------------------------------------------------


def test_a_cluster_is_asked_once_for_all_pools_together() -> None:
    fast = replace(FAST, ready=2, in_flight=4, queued=10**5)
    snapshot = look(fast, replace(SLOW, ready=10, in_flight=20), can_grow=True)
    decisions, memory = decide(snapshot, Memory())
    assert decisions.demand is not None
    assert sum(count for _, count in decisions.demand.bundles) > 12
    again, memory = decide(replace(snapshot, now_s=snapshot.now_s + ASK_S), memory)
    assert again.demand is None


def test_a_cluster_is_asked_for_what_it_does_not_have_and_nothing_is_a_shortage() -> None:
    pools = cold("a", queued=9, consumers=("b",)), cold("b", needs={"GPU": 2.0}, fixed=2)
    decisions, _ = decide(look(*pools, can_grow=True), Memory())
    assert decisions.shortages == ()
    assert decisions.demand is not None
    assert ({"GPU": 2.0}, 2) in decisions.demand.bundles


def test_a_cluster_is_not_asked_for_more_while_speeds_are_unknown_or_no_work_waits() -> None:
    for one in cold("a", queued=9999), pool("a", 12, in_flight=5):
        decisions, _ = decide(look(one, can_grow=True), Memory())
        assert decisions.demand is not None
        assert sum(count for _, count in decisions.demand.bundles) == 12


# -- whatever the state -------------------------------------------------------------------------------

NEEDS = st.sampled_from([{"CPU": 1.0}, {"CPU": 0.5}, {"CPU": 2.0}, {"GPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}])


@st.composite
def states(draw: st.DrawFn) -> Snapshot:
    names = "abcd"[: draw(st.integers(1, 4))]
    pools = []
    for index, name in enumerate(names):
        minimum = draw(st.integers(0, 3))
        ready = draw(st.integers(0, 5))
        pools.append(
            PoolState(
                name,
                draw(NEEDS),
                ready=ready,
                starting=draw(st.integers(0, 2)),
                draining=draw(st.integers(0, 2)),
                min_replicas=minimum,
                max_replicas=draw(st.none() | st.integers(max(minimum, 1), 8)),
                fixed=draw(st.none() | st.none() | st.integers(1, 4)),
                queued=draw(st.sampled_from([0, 0, 1, 24, 5000])),
                in_flight=draw(st.integers(0, 2 * ready)),
                busy_s=draw(st.sampled_from([0.0, 5.0, 400.0])),
                rate=draw(st.sampled_from([None, 0.01, 4.0, 20.0, 1e6])),
                selectivity=draw(st.sampled_from([None, 0.0, 0.1, 1.0, 30.0])),
                consumers=tuple(draw(st.sets(st.sampled_from(names[index + 1 :]))) if names[index + 1 :] else ()),
                blocked=draw(st.booleans()),
                waits=draw(st.sampled_from([False, False, True])),
                exhausted=draw(st.booleans()),
            )
        )
    capacity = {"CPU": float(draw(st.integers(0, 40))), "GPU": float(draw(st.integers(0, 6)))}
    return Snapshot(draw(st.integers(0, 30)) / 2, capacity, tuple(pools), draw(st.booleans()))


def turns(snapshots: list[Snapshot]) -> list[tuple[Snapshot, Decisions]]:
    """Decide on each in turn, with the memory of those before; the times are summed."""
    memory, now_s, found = Memory(), 0.0, []
    for snapshot in snapshots:
        now_s += snapshot.now_s
        decisions, memory = decide(replace(snapshot, now_s=now_s), memory)
        found.append((snapshot, decisions))
    return found


def held(snapshot: Snapshot, decisions: Decisions) -> dict[str, float]:
    """What replicas hold once new ones have started, and before any has gone."""
    targets = {one.pool: max(one.target - one.size, 0) for one in decisions.changes}
    sizes = {one.name: one.size + one.draining + targets.get(one.name, 0) for one in snapshot.pools}
    return used({one.name: one.needs for one in snapshot.pools}, sizes)


unhurried = settings(deadline=None)
SEVERAL = st.lists(states(), min_size=1, max_size=4)


@unhurried
@given(SEVERAL)
def test_nothing_is_started_beyond_capacity(snapshots: list[Snapshot]) -> None:
    for snapshot, decisions in turns(snapshots):
        grown = [one for one in decisions.changes if one.target > one.size]
        assert not grown or fits(held(snapshot, decisions), snapshot.capacity)


@unhurried
@given(SEVERAL)
def test_no_pool_is_decided_on_twice_and_each_decision_changes_something(snapshots: list[Snapshot]) -> None:
    for snapshot, decisions in turns(snapshots):
        sizes = {one.name: one.size for one in snapshot.pools}
        assert len({one.pool for one in decisions.changes}) == len(decisions.changes)
        assert all(one.size == sizes[one.pool] != one.target and one.reason for one in decisions.changes)


@unhurried
@given(SEVERAL)
def test_bounds_hold(snapshots: list[Snapshot]) -> None:
    for snapshot, decisions in turns(snapshots):
        pools = {one.name: one for one in snapshot.pools}
        lacking = {one.pool: one.fits for one in decisions.shortages}
        for change in decisions.changes:
            state = pools[change.pool]
            if state.ended:
                assert change.target == 0
            elif state.waits:
                assert change.target < change.size
            elif state.fixed is not None:
                assert change.size < change.target <= state.fixed
            elif change.target > change.size:
                assert state.max_replicas is None or change.target <= state.max_replicas
            elif not snapshot.can_grow:
                low = max(state.min_replicas, min(state.units, 1))
                assert change.target >= lacking.get(change.pool, low)


@unhurried
@given(SEVERAL)
def test_no_pool_beyond_its_minimum_grows_while_its_consumer_is_full(snapshots: list[Snapshot]) -> None:
    for snapshot, decisions in turns(snapshots):
        full = {one.name: max(one.min_replicas, 1) for one in snapshot.pools if one.blocked and one.fixed is None}
        for change in decisions.changes:
            assert change.target < change.size or change.target <= full.get(change.pool, change.target)


@unhurried
@given(SEVERAL)
def test_a_pool_with_waiting_work_shrinks_only_for_another_or_a_bound(snapshots: list[Snapshot]) -> None:
    others = ("gives way to", "makes room for", "there is only", "max_replicas is")
    for snapshot, decisions in turns(snapshots):
        waiting = {one.name for one in snapshot.pools if one.queued and not one.blocked}
        for change in decisions.changes:
            if change.pool in waiting and change.target < change.size:
                assert change.reason.startswith(others)


@unhurried
@given(SEVERAL)
def test_the_same_look_and_memory_give_the_same_decisions(snapshots: list[Snapshot]) -> None:
    assert turns(snapshots) == turns(snapshots)


@unhurried
@given(st.integers(2, 40), st.sampled_from([0.5, 1.0, 4.0, 20.0]), st.sampled_from([0.5, 1.0, 4.0, 20.0]))
def test_a_slower_pool_never_gets_fewer(cpus: int, one: float, other: float) -> None:
    def sizes(rate: float) -> dict[str, int]:
        pools = pool("a", queued=10**6, rate=8.0, consumers=("b",), exhausted=True), pool("b", rate=rate)
        decisions, _ = decide(look(*pools, capacity={"CPU": float(cpus)}), Memory())
        return {change.pool: change.target for change in decisions.changes}

    slower, faster = sorted((one, other))
    assert sizes(slower)["b"] >= sizes(faster)["b"]
    assert sizes(slower)["a"] <= sizes(faster)["a"]


@settings(deadline=None, max_examples=50)
@given(states())
def test_deciding_settles(snapshot: Snapshot) -> None:
    """Applied again and again to a state that does not change otherwise, decisions come to an end."""
    memory, pools = Memory(), snapshot.pools
    changes = 0
    for turn in range(120):
        decisions, memory = decide(replace(snapshot, pools=pools, now_s=turn * 0.5), memory)
        targets = {one.pool: one.target for one in decisions.changes}
        changes += len(targets)
        if turn >= 90:
            assert not targets
        pools = tuple(
            replace(one, ready=targets.get(one.name, one.size), starting=0, draining=0)
            if targets or one.starting
            else one
            for one in pools
        )
    assert changes < 60
