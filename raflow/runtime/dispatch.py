"""Gives out work: who does what next, downstream first, within a budget of bytes and blocks per edge."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from raflow.runtime.entry import EntryRun
from raflow.runtime.passage import Passage
from raflow.runtime.pool import Member
from raflow.runtime.scheduler import IN_FLIGHT, assign
from raflow.runtime.shuffle import Shuffle
from raflow.runtime.stage import Feed, StageRun, parts
from raflow.runtime.work import Order

_STORE_SHARE = 0.5
"""Of what the engine can hold, so much may be on its way between stages."""
_LINE = 1000
"""Blocks in line on one edge. Each takes memory of the driver; on Ray small ones are there with all they hold."""


class Dispatch:
    """Sends orders to replicas. Used by the driver's thread only.

    Args:
        stages: Those that give before those that take.
        entries: By name.
        shuffles: By name of the wide op.
    """

    def __init__(
        self,
        stages: Sequence[StageRun],
        entries: Mapping[str, EntryRun],
        shuffles: Mapping[str, Shuffle],
    ) -> None:
        self._stages = stages
        self._entries = entries
        self._shuffles = shuffles
        self._budget = 0.0
        self._takers = {
            channel: [stage for stage in stages if channel in stage.stage.takes]
            for stage in stages
            for channel in stage.stage.emits
        }

    def allow(self, store_bytes: float) -> None:
        """Share out what the engine can hold of payloads among the edges between stages."""
        edges = sum(len(stage.stage.takes) for stage in self._stages)
        self._budget = store_bytes * _STORE_SHARE / max(edges, 1)

    def takers(self, channel: str) -> list[StageRun]:
        """Return the stages to which an op's results go as blocks."""
        return self._takers.get(channel, [])

    def all(self, *, new: bool) -> None:
        """Give out what can be given out.

        Args:
            new: Whether units may begin; when draining, only those that have begun go on.
        """
        for stage in reversed(self._stages):
            if not self.is_full(stage):
                self._feed(stage)
            if new:
                self._begin(stage)
            self._pull(stage)

    def is_full(self, stage: StageRun) -> bool:
        """Return whether what a stage has given waits for a stage after it."""
        takers = (taker for channel in stage.stage.emits for taker in self._takers[channel])
        return any(taker.bytes > self._budget or len(taker.line) > _LINE for taker in takers)

    def is_given(self, shuffle: Shuffle) -> bool:
        """Return whether everything has been given to an exchange; in a dry run, what the units in it have."""
        feeders = [self._entries[name] for name in shuffle.feeders]
        return all(entry.is_done for entry in feeders) and all(
            (entry.name, unit) in shuffle.complete for entry in feeders for unit in entry.done
        )

    def close(self, stage: StageRun, passage: Passage) -> None:
        """End a unit in the replicas of a stage that hold a part of it."""
        at = passage.at[stage.stage.name]
        at.closing = len(at.replicas)
        for index in at.replicas:
            order = order_for(passage.order, index)
            stage.pool.produce(index, "close_unit", "closed", order, count=stage.job.payloads, about=passage)

    def _feed(self, stage: StageRun) -> None:
        while found := stage.next_feed():
            member, feed = found
            self._send(stage, member, feed)

    def _send(self, stage: StageRun, member: Member, feed: Feed) -> None:
        at = feed.passage.at[stage.stage.name]
        at.replicas.add(member.index)
        at.flying += 1
        member.units.append(feed)
        member.holds.setdefault(feed.passage.key, time.monotonic())
        first = feed.pieces[0]
        stage.pool.produce(
            member.index,
            "feed",
            "fed",
            order_for(feed.passage.order, member.index),
            first.block.channel,
            parts(feed.pieces),
            *(piece.reference for piece in feed.pieces),
            count=len(stage.stage.emits),
            about=feed,
        )

    def _begin(self, stage: StageRun) -> None:
        for entry in stage.entries:
            while (index := self._slot(stage, entry)) is not None:
                unit = entry.waiting.popleft()
                self._order(stage, entry, unit, index)

    def _slot(self, stage: StageRun, entry: EntryRun) -> int | None:
        """Return the replica for an entry's next unit; None if it must wait.

        A unit that has cost a replica goes alone, so that it can be told from its neighbour.
        """
        shuffle = self._shuffles.get(entry.name)
        if shuffle is not None and not (self.is_given(shuffle) and shuffle.is_cut):
            return None
        members = stage.pool.members
        free = [
            slot
            for slot in stage.pool.slots()
            if not any(entry.losses.get(passage.order.unit) for passage in _passages(members[slot.replica]))
        ]
        chosen = assign(entry.work, free)[:1]
        if not chosen or (entry.losses.get(entry.waiting[0]) and members[chosen[0]].units):
            return None
        return chosen[0]

    def _order(self, stage: StageRun, entry: EntryRun, unit: int, index: int) -> None:
        shuffle = self._shuffles.get(entry.name)
        references: list[object] = []
        if shuffle is None:
            passage = entry.begin(unit)
        else:
            assert entry.splits is not None
            sides, schemas, references = shuffle.inputs(entry.splits[unit])
            passage = entry.begin(unit, sides=sides, schemas=schemas)
        member = stage.pool.members[index]
        passage.at[stage.stage.name].flying += 1
        member.units.append(passage)
        count = stage.job.payloads
        stage.pool.produce(index, "run_unit", "unit_done", passage.order, *references, count=count, about=passage)

    def _pull(self, stage: StageRun) -> None:
        """Ask replicas for their next block, while the stages after them keep up."""
        if not stage.stage.emits or not stage.entries or self.is_full(stage):
            return
        for member in stage.pool.members.values():
            while member.ready and member.gives and member.pulls < IN_FLIGHT:
                member.pulls += 1
                stage.pool.produce(member.index, "next_block", "block", count=1)


def order_for(order: Order, index: int) -> Order:
    """Return an order whose names in sinks are those of one of several replicas that do it together."""
    return replace(order, names={op: f"{name}.{index}" for op, name in order.names.items()}, sides=(), schemas=())


def _passages(member: Member) -> list[Passage]:
    return [one for one in member.units if isinstance(one, Passage)]
