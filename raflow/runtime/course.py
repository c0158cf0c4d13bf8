"""The course of units through their stages: blocks, schemas, pieces and parts, until they are done."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from raflow.runtime.entry import EntryRun
from raflow.runtime.exchanges import Exchanges
from raflow.runtime.passage import Passage
from raflow.runtime.pools import Pools
from raflow.runtime.stage import Piece
from raflow.runtime.state import RunState
from raflow.runtime.work import Block, Outcome, unpack_schema

_MANY_FILES = 1000

log = logging.getLogger("raflow")


class Course:
    """Takes what replicas tell of units. Used by the driver's thread only."""

    def __init__(self, state: RunState, pools: Pools, exchanges: Exchanges) -> None:
        self._state = state
        self._pools = pools
        self._exchanges = exchanges

    def deliver(self, passage: Passage, name: str, outcome: Outcome, references: list[Any], node: str) -> None:
        """Pass on the blocks that came with an answer of a replica on a node."""
        for block, reference in zip(outcome.blocks, references, strict=False):
            if block.rows:
                passage.at[name].gave[block.channel] += 1
                self.put(passage, block, reference, node)

    def put(self, passage: Passage, block: Block, reference: Any, node: str) -> None:
        """Put a block that is on a node into line before the stages that take it."""
        for stage in self._state.dispatch.takers(block.channel):
            stage.put(Piece(passage, block, reference, node, 0, block.rows))

    def progress(self, passage: Passage) -> None:
        """End an attempt in the stages that it has come through, and take it when it is over in all."""
        for name, at in passage.at.items():
            if not at.over and not at.closing and name != passage.first and passage.came_through(name):
                if at.replicas:
                    self._state.dispatch.close(self._state.stages[name], passage)
                else:
                    at.over = True
        if passage.is_over:
            self._take_over(passage)

    def _take_over(self, passage: Passage) -> None:
        """Take an attempt that is over in all stages: its schemas, its pieces, its parts."""
        entry = self._state.entries[passage.order.entry]
        for op, found in passage.schemas.items():
            for schema in found:
                self._agree(op, schema)
        wrong = [op for op, found in passage.schemas.items() if not self._are_agreed(op, found)]
        if wrong:
            entry.again(passage)
            return
        self._note_many_files(passage, entry)
        unit = (entry.name, passage.order.unit)
        for shuffle in self._state.shuffles.values():
            if entry.name in shuffle.feeders:
                shuffle.take(unit, self._state.home, passage.pieces)
        if not entry.take(passage):
            entry.done.add(passage.order.unit)
            self._state.count(entry, passage.order.unit)
            self.unit_done(entry)

    def _agree(self, op: str, schema: bytes) -> None:
        """Take an output schema into the agreed one; units that are done and narrower are done again."""
        found = unpack_schema(schema)
        if found is None or not self._state.agreed.widen(op, found):
            return
        for entry in self._state.entries.values():
            for unit in sorted(entry.done & entry.written):
                if not entry.fits(unit):
                    self._state.count(entry, unit, -1)
                    entry.repeat(unit)

    def _are_agreed(self, op: str, found: Iterable[bytes]) -> bool:
        agreed = self._state.agreed.schemas[op]
        return all((known := unpack_schema(schema)) is not None and known.equals(agreed) for schema in found)

    def widen(self, passage: Passage, op: str, schema: bytes) -> None:
        """Have an attempt begin again, because an op needs a wider schema."""
        wide = unpack_schema(schema)
        assert wide is not None
        entry = self._state.entries[passage.order.entry]
        if op == entry.name and entry.columns is not None:
            entry.widen(wide)
        else:
            self._agree(op, schema)
        self._state.again(passage)

    def unit_done(self, entry: EntryRun) -> None:
        """Draw the conclusions from a unit that is done."""
        for stage in entry.stages:
            self._pools.check_errors(self._state.stages[stage.name])
        for shuffle in self._state.shuffles.values():
            if shuffle.wide.enough is not None and shuffle.feeders == (entry.name,) and _feeds_only(entry):
                entry.enough(shuffle.wide.enough)
        self._exchanges.open()
        if entry.is_done:
            self._forget_given()
            self._pools.finish()

    def _forget_given(self) -> None:
        """Drop what was given to exchanges whose units cannot be done again any more."""
        entries = self._state.entries
        for name, shuffle in self._state.shuffles.items():
            mine = entries[name]
            # One that is not done may still widen the schema of what both write.
            open_ones = [one for one in entries.values() if not one.is_done and set(one.names) & set(mine.names)]
            if mine.is_done and not open_ones:
                shuffle.clear()

    def _note_many_files(self, passage: Passage, entry: EntryRun) -> None:
        for op, groups in passage.parts.items():
            files = sum(map(len, groups))
            total = files * entry.total
            text = f"{op} writes about {total:,} files: {files} per split; partition by fewer values"
            known = any(note.startswith(f"{op} writes") for note in self._state.notes)
            if files > 1 and total > _MANY_FILES and not known:
                log.warning(text)
                self._state.notes.append(text)


def _feeds_only(entry: EntryRun) -> bool:
    """Return whether an entry's units do nothing but give to one exchange."""
    return not entry.sinks and sum(len(stage.exchanges) for stage in entry.stages) == 1
