"""Which pool lends a replica to which, and when it has it back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raflow.runtime.scaling.autoscaler import decide
from raflow.runtime.scaling.lending import LEASE_S, Loan, loan, without_lent
from raflow.runtime.scaling.values import Memory, PoolMemory, PoolState, Snapshot
from raflow.runtime.scaling.workload import shares
from tests.runtime.scaling.scenarios import NAMED

CPU = {"CPU": 1.0}
TWELVE = {"CPU": 12.0}
SLOW = PoolState(
    "slow", CPU, ready=6, queued=400, in_flight=12, rate=4.0, selectivity=1.0, setup_s=0.1, consumers=("keeps",)
)
KEEPS = PoolState(
    "keeps", CPU, ready=3, in_flight=2, rate=11.4, selectivity=1.0, setup_s=0.1, consumers=("up",), busy_s=100.0
)
UP = PoolState("up", CPU, ready=3, in_flight=2, rate=11.8, selectivity=1.0, setup_s=0.1, busy_s=100.0)
LOADS = {"slow": 6.0, "keeps": 2.1, "up": 2.0}


def lent(*pools: PoolState, loads: dict[str, float] = LOADS, **past: float) -> Loan | None:
    snapshot = Snapshot(100.0, TWELVE, pools)
    pasts = {pool.name: PoolMemory(load=loads[pool.name], **past) for pool in pools}  # type: ignore[arg-type]
    return loan({pool.name: pool for pool in pools}, pasts, shares(snapshot, {}), TWELVE, 100.0)


def test_the_pool_with_the_most_to_spare_lends_to_the_slowest() -> None:
    assert str(lent(SLOW, KEEPS, UP)) == "lends a replica to 'slow', the bottleneck: 1.0 are idle"


@pytest.mark.parametrize(
    ("slow", "up"),
    [
        ({"queued": 0}, {}),
        ({"blocked": True}, {}),
        ({"fixed": 6}, {}),
        ({"max_replicas": 6}, {}),
        ({"setup_s": 3.0}, {}),
        ({"setup_s": None}, {}),
        ({"queued": 40}, {}),
        ({}, {"fixed": 3}),
        ({}, {"min_replicas": 3}),
        ({}, {"setup_s": 3.0}),
        ({}, {"held_s": 20.0}),
        ({}, {"rate": 0.1}),
        ({}, {"rate": None}),
        ({}, {"queued": 9}),
        ({}, {"needs": {"CPU": 2.0}}),
        ({}, {"runs_users": False}),
        ({}, {"in_flight": 3}),
        ({"needs": {"CPU": 1.0, "GPU": 1.0}}, {"needs": {"CPU": 1.0, "GPU": 1.0}}),
        ({"ready": 10}, {"ready": 1}),
    ],
    ids=[
        "no work waits",
        "its consumer is full",
        "it is fixed",
        "it has its most",
        "it is slow to set up",
        "its set-up is not known",
        "little is left",
        "the other is fixed",
        "the other has its least",
        "the other is slow to set up",
        "the other's replicas hold long units",
        "the other's calls are long",
        "the other's speed is not known",
        "work waits for the other",
        "they are of two sizes",
        "they are of two kinds",
        "all of the other's are at work",
        "they hold devices",
        "the other has one replica",
    ],
)
def test_nothing_is_lent_where_it_does_not_pay(slow: dict[str, object], up: dict[str, object]) -> None:
    pair = replace(SLOW, consumers=("up",)), UP
    assert lent(*pair)
    assert lent(replace(pair[0], **slow), replace(pair[1], **up)) is None  # type: ignore[arg-type]


def test_nothing_is_lent_by_pools_that_are_busy_or_have_just_changed() -> None:
    assert lent(SLOW, KEEPS, UP, loads={"slow": 6.0, "keeps": 2.9, "up": 2.7}) is None
    assert lent(SLOW, KEEPS, UP, moved=1, moved_s=97.0) is None
    assert lent(SLOW, KEEPS, UP, moved=1, moved_s=94.0)


def test_nothing_is_lent_where_whole_replicas_divide_as_the_work_does() -> None:
    equal = replace(SLOW, name="other", queued=0, in_flight=6, consumers=())
    assert lent(replace(SLOW, consumers=("other",)), equal, loads={"slow": 6.0, "other": 5.0}) is None
    assert lent() is None


def test_what_is_lent_is_counted_out_until_the_lease_ends_or_producers_wait() -> None:
    pools = {"slow": SLOW, "keeps": KEEPS, "up": UP}
    found = shares(Snapshot(100.0, TWELVE, tuple(pools.values())), {})

    def most(lent_s: float | None, **slow: bool) -> int:
        there = {**pools, "slow": replace(SLOW, **slow)}  # type: ignore[arg-type]
        return next(
            s.high for s in without_lent(found, there, {"keeps": PoolMemory(lent_s=lent_s)}, 100.0) if s.name == "keeps"
        )

    assert [most(None), most(97.0), most(100.0 - LEASE_S), most(97.0, blocked=True)] == [12, 3, 12, 12]


def test_a_loan_is_made_used_and_given_back() -> None:
    """Each line: the sizes that are there, what waits for the lender, and what is then decided."""
    memory = Memory(pools={name: PoolMemory(load=load, busy_s=100.0) for name, load in LOADS.items()}, now_s=99.9)
    told: list[str] = []
    for now_s, slow, up, waiting in (
        (100.0, 6, 3, 0),
        (100.5, 6, 2, 0),
        (101.0, 7, 2, 10),
        (104.5, 7, 2, 40),
        (105.5, 7, 2, 50),
        (106.0, 6, 2, 50),
    ):
        pools = (
            replace(SLOW, ready=slow, in_flight=2 * slow),
            replace(KEEPS, fixed=3),
            replace(UP, ready=up, queued=waiting),
        )
        decisions, memory = decide(Snapshot(now_s, TWELVE, pools), memory)
        told += [str(one).split(":")[0] for one in decisions.changes]
    assert told == [
        "up 3 → 2",
        "slow 6 → 7",
        "slow 7 → 6",
        "up 2 → 3",
    ]


@pytest.mark.parametrize("name", [name for name in NAMED if name.endswith("quick set-up")])
def test_flows_get_faster_than_the_best_whole_sizes_are(name: str) -> None:
    assert NAMED[name].run().share > 1.05
