"""What replicas report to the driver, and what follows from it."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from raflow.errors import InputLost, ReplicaLost
from raflow.runtime.course import Course
from raflow.runtime.exchanges import Exchanges
from raflow.runtime.failure import Failure, run_failed
from raflow.runtime.passage import Passage
from raflow.runtime.pools import CUT, SETUP, Pools
from raflow.runtime.shuffle import Given
from raflow.runtime.stage import Feed, StageRun
from raflow.runtime.state import RunState
from raflow.runtime.work import Block, Outcome, Pieces


class Reports:
    """Takes reports on the driver's thread, a method for each kind, named as pools name it.

    Each gets the stage and the number of the replica; what comes of one that is lost, or of an attempt that was
    given up, changes nothing.

    Args:
        state: Of the run.
        pools: Its pools.
        course: Takes units on.
        exchanges: Of the run.
    """

    def __init__(self, state: RunState, pools: Pools, course: Course, exchanges: Exchanges) -> None:
        self._state, self._pools = state, pools
        self._course, self._exchanges = course, exchanges
        self.working: float | None = None
        """When the first replica was ready, on the monotonic clock."""

    def replica_ready(self, name: str, index: int, done: Future[Failure | float]) -> None:
        """Its set-up is over."""
        stage, member = self._state.stages[name], self._state.member(name, index)
        if member is None or self._is_lost(stage, index, done):
            return
        result = done.result()
        if isinstance(result, Failure):
            raise run_failed(result, name, index)
        member.ready, stage.pool.setup_s = True, result
        stage.losses.pop(SETUP, None)
        stage.ready()
        if member.leaving:
            self._pools.release()
        self._exchanges.open()  # what is to be cut may wait for a replica
        self.working = self.working or time.monotonic()

    def placed(self, name: str, index: int, done: Future[str]) -> None:
        """It is known on which node it is."""
        member = self._state.member(name, index)
        if member and done.exception() is None:  # else the same has happened to its set-up
            member.node = done.result()

    def counts(self, name: str, index: int, done: Future[Any]) -> None:
        """It has told what it has done so far."""
        member = self._state.member(name, index)
        if member:
            member.asked = False
            if done.exception() is None:
                member.counts = done.result()

    def unit_done(self, name: str, index: int, passage: Passage, done: Future[Outcome], references: list[Any]) -> None:
        """It is through with a unit that begins in its stage."""
        member = self._state.member(name, index)
        if member and done.exception() is None:
            member.owes(passage.key, sum(done.result().emitted.values()))
        outcome = self._outcome(name, index, passage, passage, done)
        if outcome is None:
            return
        at = passage.at[name]
        at.flying -= 1
        at.over = True
        passage.take(name, outcome, references[len(at.stage.emits) :])
        self._course.progress(passage)

    def fed(self, name: str, index: int, feed: Feed, done: Future[Outcome], references: list[Any]) -> None:
        """It has processed batches that it was given."""
        self._state.stages[name].bytes -= feed.size
        outcome = self._outcome(name, index, feed, feed.passage, done)
        if outcome is None:
            return
        feed.passage.at[name].flying -= 1
        self._course.deliver(feed.passage, name, outcome, references, self._node(name, index))
        self._course.progress(feed.passage)

    def closed(self, name: str, index: int, passage: Passage, done: Future[Outcome], references: list[Any]) -> None:
        """It has ended its share of a unit that it was fed."""
        outcome = self._outcome(name, index, None, passage, done)
        member = self._state.member(name, index)
        if member:
            now = time.monotonic()
            self._state.stages[name].pool.held_s = now - member.holds.pop(passage.key, now)
        if outcome is None:
            return
        at = passage.at[name]
        at.closing -= 1
        at.over = not at.closing
        passage.take(name, outcome, references[len(at.stage.emits) :])
        self._course.deliver(passage, name, outcome, references, self._node(name, index))
        self._course.progress(passage)

    def _node(self, name: str, index: int) -> str:
        member = self._state.member(name, index)
        return member.node if member else ""

    def block(self, name: str, index: int, about: None, done: Future[Block | None], references: list[Any]) -> None:
        """It has a block for other stages."""
        del about
        stage, member = self._state.stages[name], self._state.member(name, index)
        if member is None or self._is_lost(stage, index, done):
            return
        member.pulls -= 1
        block = done.result()
        if block is None:
            return
        entry, unit, _ = block.key
        member.owes(block.key, -1)
        passage = self._state.entries[entry].running.get(unit)
        if passage is not None and passage.key == block.key:
            self._course.put(passage, block, references[0], member.node)
            self._course.progress(passage)

    def cut(self, name: str, index: int, given: Given, done: Future[Pieces], references: list[Any]) -> None:
        """It has cut results for a range exchange."""
        stage, member = self._state.stages[name], self._state.member(name, index)
        given.cutting = False
        if isinstance(done.exception(), InputLost):
            self._exchanges.piece_lost(given)
        elif member is not None and not self._is_lost(stage, index, done):
            given.pieces, given.references, given.whole = done.result(), references, False
            stage.losses.pop(CUT, None)
        if member is not None and given in member.units:  # until now: a replica that is lost was at it
            member.units.remove(given)
        self._exchanges.open()

    def torn(self, name: str, index: int, done: Future[Failure | None]) -> None:
        """Its teardown is over."""
        if self._state.member(name, index) is None:
            return
        pool = self._state.stages[name].pool
        (pool.release if done.exception() is None else pool.remove)(index)
        if done.exception() is None and (failure := done.result()):
            raise run_failed(failure, name, index)
        if not any(one.leaving for one in pool.members.values()):
            self._pools.resize()  # others may wait for this room

    def _outcome(self, name: str, index: int, what: Any, passage: Passage, done: Future[Outcome]) -> Outcome | None:
        """Return what a replica has told of an attempt; None if it is of no use."""
        stage, member = self._state.stages[name], self._state.member(name, index)
        if member is None:
            return None
        error = done.exception()
        if isinstance(error, InputLost):
            member.units.remove(what)
            self._exchanges.inputs_lost(passage)
            return None
        if self._is_lost(stage, index, done):
            return None
        if what is not None:
            member.units.remove(what)
        outcome = done.result()
        if not isinstance(what, Feed):  # whose counts are those of the unit so far; at its end the attempt has them
            member.counts -= outcome.counts
        if passage.stale:
            return None
        if outcome.failure:
            raise run_failed(outcome.failure, name, index, passage.order.split.name)
        if outcome.widened:
            self._course.widen(passage, *outcome.widened)
        return None if outcome.is_over else outcome

    def _is_lost(self, stage: StageRun, index: int, done: Future[Any]) -> bool:
        error = done.exception()
        if isinstance(error, ReplicaLost):
            self._pools.lose(stage, index, error)
            return True
        if error is not None:
            raise error
        return False
