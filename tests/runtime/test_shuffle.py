"""Exchanges as the driver sees them: in dry runs, and with many units or sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raflow import Flow, Stream
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.plan import Plan
from raflow.runtime import shuffle

WIDE: dict[str, Callable[[Flow, Stream], Stream]] = {
    "group_by": lambda flow, stream: stream.group_by("k").count(),
    "sort": lambda flow, stream: stream.sort("n"),
    "join": lambda flow, stream: stream.join(flow.read(MemorySource([{"k": k} for k in range(9)])), "k"),
    "repartition": lambda flow, stream: stream.repartition(3),
}


def units(number: int) -> MemorySource:
    return MemorySource([{"n": n, "k": n % 3} for n in range(number)], rows_per_split=1)


def calls_of(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> list[Any]:
    """Have calls of a function counted."""
    seen, real = [], getattr(place, name)

    def counted(*args: Any) -> Any:
        seen.append(args)
        return real(*args)

    monkeypatch.setattr(place, name, counted)
    return seen


@pytest.mark.parametrize("name", WIDE)
def test_a_dry_run_takes_the_first_records_through_an_exchange(name: str) -> None:
    flow = Flow()
    WIDE[name](flow, flow.read(units(40))).write(MemorySink())
    stats = flow.run(engine="local", limit=5).stats()
    assert stats.stages[0].counts.rows_in == 5


def test_samples_for_a_sort_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls_of(monkeypatch, shuffle, "from_ipc")
    assert Flow().read(units(40)).sort("n").count(engine="local") == 40
    assert len(seen) == 40


def test_a_plan_is_walked_a_few_times_for_each_source(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls_of(monkeypatch, Plan, "_from")
    flow = Flow()
    stream = flow.read(units(1)).union(*[flow.read(units(1)) for _ in range(29)])
    assert stream.count(engine="local") == 30
    assert len(seen) < 10 * 30
