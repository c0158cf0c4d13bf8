"""The writers of a replica: several units of work may be open at once, each with writers of its own."""

from __future__ import annotations

from raflow.plan import Stage
from raflow.runtime.replica.ops import Result
from raflow.runtime.replica.unit import Unit
from raflow.sinks import Part, SinkContext, Writer

Open = dict[str, list[Writer]]
"""By op that writes: the writers of one unit of work, the one of the error sink last."""


class Writers:
    """Opens, lends and closes the writers of a stage's sinks. Used by one thread.

    Args:
        stage: Whose sinks they are.
        context: For the sinks.
    """

    def __init__(self, stage: Stage, context: SinkContext) -> None:
        self._stage = stage
        self._ops = stage.writers
        self._context = context
        self._free: list[Open] = []
        self._all: list[Writer] = []
        self._lent: dict[tuple[str, int, int], Open] = {}

    def open(self) -> None:
        """Open a first set, so that what is wrong with a sink shows at once."""
        self._free.append(self._new())

    def write(self, unit: Unit, result: Result) -> None:
        """Write a batch of a unit."""
        for writer in self._targets(self._of(unit), result):
            writer.write(result.batch)

    def prepare(self, unit: Unit) -> dict[str, tuple[tuple[Part, ...], ...]]:
        """Return what a unit has staged; it is written to no more."""
        if unit.order.silent:
            return {}
        writers = self._of(unit)
        return {
            name: tuple(tuple(writer.prepare()) for writer in writers[name]) for name in self._reached(unit, writers)
        }

    def abort(self, unit: Unit) -> None:
        """Drop what a unit has staged."""
        lent = self._lent.get(unit.key, {})
        for name in self._reached(unit, lent):
            for writer in lent[name]:
                writer.abort()

    def release(self, unit: Unit) -> None:
        """Take back a unit's writers, after `prepare` or `abort`."""
        writers = self._lent.pop(unit.key, None)
        if writers is not None:
            self._free.append(writers)

    def close(self) -> None:
        """Close all writers."""
        for writer in self._all:
            writer.close()

    def _new(self) -> Open:
        writers = {op.name: [sink.open(self._context) for sink in op.all_sinks] for op in self._ops}
        self._all += [writer for group in writers.values() for writer in group]
        return writers

    def _of(self, unit: Unit) -> Open:
        writers = self._lent.get(unit.key)
        if writers is None:
            self._lent[unit.key] = writers = self._free.pop() if self._free else self._new()
            for op in self._reached(unit, writers):
                for writer in writers[op]:
                    writer.begin(unit.order.names[op], unit.order.attempt)
        return writers

    @staticmethod
    def _reached(unit: Unit, writers: Open) -> list[str]:
        """Return the ops that a unit's records can come to: those of another source do not."""
        return [name for name in writers if name in unit.order.names]

    def _targets(self, writers: Open, result: Result) -> list[Writer]:
        op = self._stage.by_name[result.op]
        plain = len(op.sinks)
        return writers[op.name][plain:] if result.kind == "letters" else writers[op.name][:plain]
