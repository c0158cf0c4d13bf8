"""The sums of what replicas have done."""

from __future__ import annotations

from typing import Any, cast

from raflow.metrics import HttpStats, Status
from raflow.runtime.serving.counting import Load
from raflow.runtime.serving.pool import Member
from raflow.runtime.serving.replica import Ended
from raflow.runtime.serving.server import Drained
from raflow.runtime.serving.tally import Tally


def member(load: Load, **more: Any) -> Member:
    return Member(0, cast("Any", None), load=load, **more)


def told(tally: Tally, *members: Member) -> HttpStats:
    known = {"url": "http://here", "status": Status.RUNNING, "min_replicas": 1, "max_replicas": 2, "resized": ()}
    return tally.stats(members, **known)


def test_what_gone_replicas_did_is_added_to_what_the_others_do() -> None:
    tally = Tally()
    tally.drained(Ended(Drained(total=5, cut=1, websockets=0), written=(3,)))
    tally.died(Load(ongoing=2, total=7, written=(1, 10)))

    stats = told(tally, member(Load(ongoing=4, total=20, connections=6, websockets=1, written=(0, 2)), ready=1.0))

    assert (stats.total, stats.cut, stats.ongoing, stats.replicas_lost) == (32, 1, 4, 1)
    assert (stats.connections, stats.websockets, stats.written) == (6, 1, (4, 12))


def test_replicas_are_counted_by_what_they_are_at() -> None:
    coming, serving, leaving = member(Load()), member(Load(), ready=1.0), member(Load(), ready=1.0, leaving=2.0)

    stats = told(Tally(), coming, serving, serving, leaving)

    assert (stats.starting, stats.replicas, stats.leaving) == (1, 2, 1)
