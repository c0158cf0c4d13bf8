"""What is in line before a stage: which replica gets it, and how large it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raflow import Flow, consumer
from raflow.connectors.memory import MemorySource
from raflow.runtime.passage import Passage
from raflow.runtime.pool import Member, Pool
from raflow.runtime.scaling import look
from raflow.runtime.stage import Piece, StageRun
from raflow.runtime.work import Block, Job, Order
from raflow.sinks import SinkContext
from raflow.sources import Split

ROWS = 10


def same(record: dict) -> dict:  # type: ignore[type-arg]
    return record


@pytest.fixture
def stage() -> StageRun:
    """The second stage of a flow, with two replicas on two nodes."""
    flow = Flow()
    first = consumer(source=MemorySource([{"n": 1}]))(same)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, fuse=False, name="second", batch_rows=ROWS)(same))
    second = flow.plan().stages[1]
    nothing: Any = None
    pool = Pool("second", nothing, nothing, second.options, nothing)
    for index, node in enumerate(("here", "there")):
        pool.members[index] = Member(index, nothing, ready=True, node=node)
    return StageRun(second, Job(second, SinkContext("run"), {}, "INFO"), pool, ())


def put(stage: StageRun, unit: int, node: str) -> None:
    passage = Passage(Order("source", unit, 1, Split(f"split {unit}", unit)), (stage.stage,))
    stage.put(Piece(passage, Block(passage.key, "same", 1, ROWS, 80), None, node, 0, ROWS))


def given(stage: StageRun) -> list[int]:
    found = []
    while (feed := stage.next_feed()) is not None:
        member, what = feed
        member.units.append(what)
        found.append(member.index)
    return found


def test_a_replica_on_the_node_of_a_block_is_preferred(stage: StageRun) -> None:
    put(stage, 0, "there")
    assert given(stage) == [1]


def test_a_replica_elsewhere_that_has_less_to_do_is_preferred_to_one_on_its_node(stage: StageRun) -> None:
    for unit in range(4):
        put(stage, unit, "there")
    assert given(stage) == [1, 0, 1, 0]


def test_a_unit_is_as_large_as_those_that_are_worked_on_where_none_waits(stage: StageRun) -> None:
    put(stage, 0, "here")
    assert given(stage) == [0]
    assert look._unit(stage, 0, 0.0) == ROWS
    assert look._unit(stage, 1, 3.0 * ROWS) == 2.0 * ROWS


def test_a_block_that_many_have_overtaken_is_given_out_before_them(stage: StageRun) -> None:
    options = stage.stage.options.model_copy(update={"preserve_order": True})
    stage.stage = replace(stage.stage, options=options)
    passage = Passage(Order("source", 0, 1, Split("split 0", 0)), (stage.stage,))
    for number in (*range(2, 30), 1):
        stage.put(Piece(passage, Block(passage.key, "same", number, ROWS, 80), None, "here", 0, ROWS))
    found = []
    while (feed := stage.next_feed()) is not None:
        found += [piece.block.number for piece in feed[1].pieces]
    assert found == list(range(1, 30))
