"""A replica whose calls come together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from raflow import Flow, consumer
from raflow.connectors.memory import MemorySource
from raflow.runtime.replica import Replica
from raflow.runtime.work import Job, Order
from raflow.sinks import SinkContext
from raflow.sources import Split

GO = threading.Event()


def first(record: dict) -> dict:  # type: ignore[type-arg]
    return record


def held(record: dict) -> dict:  # type: ignore[type-arg]
    assert GO.wait(30)
    return record


@pytest.fixture
def replica() -> Iterator[Replica]:
    flow = Flow()
    before = consumer(source=MemorySource([{"n": 1}]))(first)
    flow.add_consumer(before)
    flow.add_consumer(consumer(source=before, fuse=False)(held))
    made = Replica(Job(flow.plan().stages[1], SinkContext("run"), {}, "INFO"), "held[0]")
    seconds = made.setup()
    assert isinstance(seconds, float), seconds
    yield made
    made.teardown()


def order(unit: int) -> Order:
    return Order("source", unit, 1, Split(f"split {unit}", unit))


def test_a_unit_that_is_given_up_while_it_is_closed_holds_up_no_other_one(replica: Replica) -> None:
    GO.clear()
    table = pa.table({"n": [1]})
    with ThreadPoolExecutor(4) as threads:
        fed = threads.submit(replica.feed, order(1), "first", [(0, 1)], table)
        closed = threads.submit(replica.close_unit, order(1))
        dropped = threads.submit(replica.drop_unit, order(1).key)
        GO.set()
        for call in (fed, closed, dropped):
            call.result(30)
        outcome, _ = threads.submit(replica.feed, order(2), "first", [(0, 1)], table).result(30)
        assert (outcome.key, outcome.failure) == (order(2).key, None)
        threads.submit(replica.close_unit, order(2)).result(30)
