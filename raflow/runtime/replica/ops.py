"""The ops of a stage in one replica: passes batches from op to op, on one thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from raflow import convert
from raflow.batch import one_batch, slices
from raflow.code import Code
from raflow.operators.contract import Narrow, Place
from raflow.plan import Op, Stage
from raflow.runtime.replica.unit import Unit
from raflow.runtime.replica.usercode import UserCode
from raflow.schema import completed, together


@dataclass(frozen=True)
class Result:
    """Records that an op has for its sinks, its error sink, or another stage."""

    op: str
    batch: pa.RecordBatch
    kind: str
    """`write`, `letters` or `emit`."""


class Ops:
    """Runs the ops of a stage. All methods are called on one thread.

    Args:
        stage: Whose ops they are.
        cancelled: Set when the replica must end.
    """

    def __init__(self, stage: Stage, cancelled: threading.Event) -> None:
        self.stage = stage
        self._code = {op.name: UserCode(op, cancelled) for op in stage.ops if isinstance(op.work, Code)}
        self._after = {name: stage.after(name) for name in (*stage.takes, *stage.by_name)}
        self._beside = {name: stage.sides(name) for name in self._code}

    def setup(self) -> None:
        """Set up the user code of all ops."""
        for code in self._code.values():
            code.setup()

    def teardown(self) -> None:
        """Tear down the user code of all ops, also after errors; raises the first one."""
        with contextlib.ExitStack() as stack:
            for code in self._code.values():
                stack.callback(code.teardown)

    def arrive(self, name: str, batch: pa.RecordBatch, unit: Unit) -> Iterator[Result]:
        """Take what an op has given, here or in another stage; yields what leaves the stage."""
        op = self.stage.by_name.get(name)
        if op is not None:
            yield from self._leave(op, batch, unit)
        for taker in self._after[name]:
            yield from self._run(taker, batch, unit)

    def finish(self, unit: Unit) -> Iterator[Result]:
        """Process the batches that waited for more records; the unit has no more."""
        for op in self.stage.ops:
            waiting = unit.waiting.pop(op.name, None)
            if waiting:
                yield from self._apply(op, one_batch(_alike(waiting)), unit)
            yield from self._letters(op, unit)

    def _leave(self, op: Op, batch: pa.RecordBatch, unit: Unit) -> Iterator[Result]:
        leaves = False
        if op.sinks and not unit.order.silent:
            leaves = True
            unit.written[op.name] += batch.num_rows
            yield Result(op.name, unit.agree(op, batch), "write")
        if op.name in self.stage.emits:
            leaves = True
            yield Result(op.name, batch, "emit")
        for spread in unit.spreads:
            if spread.exchange.giver == op.name:
                leaves = True
                spread.add(batch)
        unit.rows_out += batch.num_rows if leaves else 0

    def _run(self, op: Op, batch: pa.RecordBatch, unit: Unit) -> Iterator[Result]:
        rows = op.options.batch_rows if isinstance(op.work, Code) else None
        if rows is None:
            yield from self._apply(op, batch, unit)
            return
        waiting = [*unit.waiting.pop(op.name, []), batch]
        held = sum(one.num_rows for one in waiting)
        if held >= rows:
            for piece in slices(one_batch(_alike(waiting)), rows):
                if piece.num_rows < rows:
                    waiting = [piece]
                    break
                yield from self._apply(op, piece, unit)
            else:
                waiting = []
        unit.waiting[op.name] = waiting

    def _apply(self, op: Op, batch: pa.RecordBatch, unit: Unit) -> Iterator[Result]:
        first, rejects = unit.seen[op.name], unit.rejects[op.name]
        unit.seen[op.name] += batch.num_rows
        if isinstance(op.work, Narrow):
            result = op.work.apply(batch, Place(unit.order.split.name, first))
        else:
            hint = unit.schemas[op.name]
            self._code[op.name].pushed()  # of a unit that failed
            result = self._code[op.name].process(batch, first, hint, rejects)
            yield from self._sides(op, unit)
        yield from self._letters(op, unit)
        if result is not None and result.num_rows:
            whole = result if op.returned is None else completed(result, op.returned)
            yield from self.arrive(op.name, whole, unit)

    def _sides(self, op: Op, unit: Unit) -> Iterator[Result]:
        for side, records in zip(self._beside[op.name], self._code[op.name].pushed(), strict=False):
            encoded = convert.encode(records, unit.schemas[side.name])
            for _, error in encoded.rejected:
                unit.rejects[op.name].result(str(error), error)
            if encoded.batch is not None and encoded.batch.num_rows:
                yield from self._leave(side, encoded.batch, unit)

    def _letters(self, op: Op, unit: Unit) -> Iterator[Result]:
        letters = unit.rejects[op.name].letters()
        if letters is not None and not unit.order.silent:
            unit.letters += letters.num_rows
            yield Result(op.name, letters, "letters")


def _alike(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return the batches in one schema: those of dicts may differ."""
    if all(batch.schema.equals(batches[0].schema) for batch in batches[1:]):
        return batches
    found: list[pa.RecordBatch] = together(batches).combine_chunks().to_batches()
    return found
