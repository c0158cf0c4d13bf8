"""The exchanges of a run: begins with their partitions, and has made again what is lost of them."""

from __future__ import annotations

import logging

from raflow.runtime.delivery import Delivering
from raflow.runtime.passage import Passage
from raflow.runtime.pools import Pools
from raflow.runtime.scheduler import IN_FLIGHT
from raflow.runtime.shuffle import Given, Shuffle
from raflow.runtime.state import RunState

log = logging.getLogger("raflow")


class Exchanges:
    """Watches what is given to the wide ops. Used by the driver's thread only."""

    def __init__(self, state: RunState, pools: Pools, delivering: Delivering) -> None:
        self._state = state
        self._pools = pools
        self._delivering = delivering

    def open(self) -> None:
        """Begin with the partitions of the exchanges to which everything has been given."""
        for name, shuffle in self._state.shuffles.items():
            entry = self._state.entries[name]
            if entry.is_done or not self._state.dispatch.is_given(shuffle):
                continue
            bounds = shuffle.set_bounds()
            if bounds is not None:
                self._delivering.note({"event": "bounds", "op": name, "value": bounds})
            self._cut(shuffle)
            if shuffle.is_cut and entry.splits is None:
                entry.record_splits(shuffle.units())
                self._pools.finish()
                self._pools.resize()
                if entry.is_done:
                    self._unit_done(entry)

    def _cut(self, shuffle: Shuffle) -> None:
        for given in shuffle.uncut():
            stage = self._state.stages[given.stage]
            ready = stage.pool.ready
            if not ready:
                stage.pool.grow(1)
                return
            member = min(ready, key=lambda one: (len(one.units), one.index))
            if len(member.units) >= IN_FLIGHT:  # each loads a whole piece; the next begins when one is through
                return
            given.cutting = True
            member.units.append(given)
            stage.pool.produce(
                member.index, "spread", "cut", given.pieces.exchange, shuffle.packed_bounds(), given.references[0],
                count=shuffle.partitions, about=given,
            )  # fmt: skip

    def inputs_lost(self, passage: Passage) -> None:
        """Have what an attempt needs made again, and the attempt after it."""
        shuffle = self._state.shuffles.get(passage.order.entry)
        self._state.again(passage)
        if shuffle is None:
            return
        references = [reference for one in shuffle.all() for reference in one.references if reference is not None]
        missing = shuffle.lost(self._state.engine.gone(references), references)
        missing = missing or shuffle.givers(passage.order.split)  # they are back, or nobody knows: give all again
        log.warning("what %d units gave to %s is lost; they are done again", len(missing), shuffle.op.name)
        for entry, unit in missing:
            self._replay(shuffle, entry, unit)
        self._pools.resize()

    def piece_lost(self, given: Given) -> None:
        """Have a unit give again whose results are lost before they were cut."""
        for shuffle in self._state.shuffles.values():
            for (entry, unit), *_ in [key for key, many in shuffle.given.items() if given in many]:
                log.warning("what a unit of %s gave to %s is lost; it is done again", entry, shuffle.op.name)
                self._replay(shuffle, entry, unit)
        self._pools.resize()

    def _replay(self, shuffle: Shuffle, name: str, unit: int) -> None:
        """Have a unit give again to an exchange, and before that the units that give to it."""
        shuffle.forget((name, unit))
        entry = self._state.entries[name]
        if unit in entry.done:
            self._state.count(entry, unit, -1)
            entry.replay(unit)
        before = self._state.shuffles.get(name)
        if before is not None:
            for feeder in before.feeders:
                for one in range(self._state.entries[feeder].total):
                    if (feeder, one) not in before.complete:
                        self._replay(before, feeder, one)
