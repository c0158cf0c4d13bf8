"""The units of work that begin at one op, as the driver sees them: splits of a source, or partitions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from raflow.metrics import Counts
from raflow.plan import Op, Plan
from raflow.runtime.delivery import Delivering, Delivery, discard
from raflow.runtime.passage import Passage
from raflow.runtime.records import OpRecord, UnitRecord, splits_event
from raflow.runtime.work import Order, pack_schema, pack_text, unpack_schema, unpack_text
from raflow.schema import merge
from raflow.sinks import Sink
from raflow.sources import Split

_HELD_BYTES = 32 << 20
"""Of an entry's results so much may wait in this process for a slow sink; then no further unit begins."""


class Agreed:
    """The output schemas of a run, by op that writes: one for all its units."""

    def __init__(self, plan: Plan, records: Mapping[str, OpRecord]) -> None:
        self.delivering: Delivering
        self.schemas: dict[str, pa.Schema] = {}
        for op in plan.ops():
            known = unpack_text(records[op.name].agreed) if op.name in records else None
            schema = known or op.returned
            if schema is not None and op.all_sinks:
                self.schemas[op.name] = schema

    def widen(self, op: str, found: pa.Schema) -> bool:
        """Take a schema into the agreed one; returns whether that has become wider.

        Raises:
            SchemaError: It does not fit; names the field.
        """
        known = self.schemas.get(op)
        wide = found if known is None else merge([known, found])
        if known is not None and wide.equals(known):
            return False
        self.schemas[op] = wide
        self.delivering.note({"event": "agreed", "op": op, "value": pack_text(wide)})
        return known is not None

    def packed(self) -> dict[str, bytes]:
        """Return them serialised."""
        return {op: pack_schema(schema) or b"" for op, schema in self.schemas.items()}


class EntryRun:
    """The units of work of one entry; used by the driver's thread only.

    Args:
        op: The entry.
        plan: Whose op it is.
        agreed: The output schemas of the run.
        record: What is known of it: its splits, and on resume what an earlier process of this run has done.
        replayed: Whether all units are done again because an exchange that they feed is not done.
        limit: Dry run: it is done after so many records.
    """

    def __init__(
        self,
        op: Op,
        plan: Plan,
        agreed: Agreed,
        record: OpRecord,
        *,
        replayed: bool = False,
        limit: int | None = None,
    ) -> None:
        self.op = op
        self.name = op.name
        self.agreed = agreed
        self.record = record
        self.splits = record.splits
        self.columns = unpack_text(record.columns)
        self.limit = limit
        self.stages = plan.onward(op.name)
        reached = plan.reached(op.name)
        self.writers = [one for stage in self.stages for one in stage.writers if one.name in reached]
        self.sinks: list[Sink] = [sink for one in self.writers for sink in one.all_sinks]
        self.names = _names(plan, op.name, self.writers)
        self.units = record.units
        self.delivering: Delivering
        # That a unit is to be written again in a wider schema may not have been noted when an earlier process died.
        self.written = {unit for unit, known in record.units.items() if known.committed and self.fits(unit)}
        """Units whose parts are published, in the agreed schemas."""
        self.done = set() if replayed else set(self.written)
        """Units that need not be done any more."""
        self.waiting: deque[int] = deque()
        self.running: dict[int, Passage] = {}
        self.committing: set[int] = set()
        self.given: dict[int, int] = {}
        """By unit that is done: the records that it gave to exchanges."""
        self.losses: dict[int, int] = {}
        self.held: dict[int, int] = {}
        """By unit that waits to be published: the bytes of it that are in this process."""
        if self.splits is not None:
            self.open(self.splits)

    def open(self, splits: list[Split]) -> None:
        """Begin with these units."""
        self.splits = splits
        self.waiting = deque(unit for unit in range(len(splits)) if unit not in self.done)

    def record_splits(self, splits: list[Split]) -> None:
        """Begin with units that only now are known, and write them down."""
        self.delivering.note(splits_event(self.name, splits))
        self.open(splits)

    @property
    def total(self) -> int:
        """Units in all; 0 while they are not known."""
        return len(self.splits or ())

    @property
    def is_done(self) -> bool:
        """Whether every unit is done; in a dry run, whether enough are."""
        return self.splits is not None and (len(self.done) == len(self.splits) or (self.is_idle and self._has_enough))

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is under way."""
        return not self.running and not self.committing

    @property
    def work(self) -> int:
        """Units that may be given out now; in a dry run they go one by one, in order."""
        if self.limit is not None and (self._has_enough or not self.is_idle):
            return 0
        if sum(self.held.values()) > _HELD_BYTES:
            return 0
        return len(self.waiting)

    @property
    def _has_enough(self) -> bool:
        if self.limit is None:
            return False
        first = self.stages[0].name
        return sum(self.units[unit].counts.get(first, Counts()).rows_in for unit in self.done) >= self.limit

    def uncounted(self, stage: str) -> Iterator[Counts]:
        """Yield what replicas of a stage that are through with a unit have told, while it is not done."""
        for told in [one.counts for one in self.running.values()] + [
            self.units[unit].counts for unit in self.committing
        ]:
            if stage in told:
                yield told[stage]

    def begin(self, unit: int, **more: Any) -> Passage:
        """Return the next attempt at a unit."""
        known = self.units.get(unit) or UnitRecord()
        attempt = known.attempt + 1
        self.units[unit] = replace(known, attempt=attempt)
        assert self.splits is not None
        order = Order(
            self.name,
            unit,
            attempt,
            self.splits[unit],
            {op: f"{name}{unit:05d}" for op, name in self.names.items()},
            pack_schema(self.columns),
            self.agreed.packed(),
            silent=unit in self.written,
            **more,
        )
        passage = self.running[unit] = Passage(order, self.stages)
        return passage

    def again(self, passage: Passage, *, first: bool = True) -> None:
        """Give up an attempt; its unit goes back into the line."""
        unit = passage.order.unit
        passage.stale = True
        self.running.pop(unit, None)
        discard(self.sinks, self._aligned(passage))
        (self.waiting.appendleft if first else self.waiting.append)(unit)

    def widen(self, schema: pa.Schema) -> None:
        """Take a wider schema of the source. Units that are done saw values that fit the narrower one."""
        self.columns = merge([self.columns, schema]) if self.columns is not None else schema
        self._note("columns", pack_text(self.columns))

    def take(self, passage: Passage) -> bool:
        """Deliver what an attempt has staged; returns whether that was needed.

        An attempt that has written in a narrower schema than the agreed one is done again.
        """
        unit = passage.order.unit
        self.running.pop(unit, None)
        self.given[unit] = sum(sum(pieces.rows) for pieces, _ in passage.pieces)
        if not self.sinks or passage.order.silent:
            known = self.units[unit]
            self.units[unit] = replace(known, counts=passage.counts) if not self.sinks else known
            return False
        replaces = self.units[unit].parts
        schemas = {op: pack_text(unpack_schema(max(found))) or "" for op, found in passage.schemas.items()}
        attempt, failed = passage.order.attempt, dict(passage.failed)
        record = UnitRecord(attempt, self._aligned(passage), schemas, passage.counts, failed)
        self.units[unit] = record
        self.committing.add(unit)
        self.held[unit] = sum(len(part.payload or b"") for group in record.parts for part in group)
        self.delivering.deliver(Delivery(self.name, self.sinks, unit, record, replaces))
        return True

    def fits(self, unit: int) -> bool:
        """Return whether what a unit has written has the agreed schemas."""
        return all(
            (unpack_text(schema) or pa.schema([])).equals(self.agreed.schemas[op])
            for op, schema in self.units[unit].schemas.items()
            if op in self.agreed.schemas  # it may not write any more since the run was resumed
        )

    def committed(self, unit: int) -> None:
        """Mark a unit as published; one that was written before a schema widened is done again."""
        self.committing.discard(unit)
        if self.held.pop(unit, 0):
            self.units[unit] = _without_payloads(self.units[unit])
        self.done.add(unit)
        self.written.add(unit)
        if not self.fits(unit):
            self.repeat(unit)

    def repeat(self, unit: int) -> None:
        """Have a unit that is done written again."""
        self._note("repeat", None, unit=unit)
        self.done.discard(unit)
        self.written.discard(unit)
        self.waiting.append(unit)

    def replay(self, unit: int) -> None:
        """Have a unit done again for the exchanges that it feeds; what it has written stays."""
        if unit in self.done:
            self.done.discard(unit)
            self.waiting.appendleft(unit)

    def enough(self, rows: int) -> None:
        """Forget the units after the first ones that have given so many records, if these are done."""
        found = 0
        for unit in range(self.total):
            if unit not in self.done:
                return
            found += self.given.get(unit, 0)
            if found >= rows:
                self._keep(unit + 1)
                return

    def _keep(self, units: int) -> None:
        """Forget all but the first units."""
        self.splits = (self.splits or [])[:units]
        self.waiting = deque(unit for unit in self.waiting if unit < units)
        self.done = {unit for unit in self.done if unit < units}
        for unit in [unit for unit in self.running if unit >= units]:
            self.running.pop(unit).stale = True

    def _aligned(self, passage: Passage) -> tuple[tuple[Any, ...], ...]:
        """Return an attempt's parts per sink to which the entry's records come."""
        empty: dict[str, list[list[Any]]] = {op.name: [[] for _ in op.all_sinks] for op in self.writers}
        return tuple(tuple(group) for op in self.writers for group in passage.parts.get(op.name, empty[op.name]))

    def _note(self, event: str, value: str | None, **more: Any) -> None:
        self.delivering.note({"event": event, "op": self.name, "value": value, **more})


def _without_payloads(record: UnitRecord) -> UnitRecord:
    return replace(record, parts=tuple(tuple(replace(part, payload=None) for part in group) for group in record.parts))


def _names(plan: Plan, entry: str, writers: list[Op]) -> dict[str, str]:
    """Return how the units are called in the sinks of each op, up to their number."""
    names = {}
    for op in writers:
        froms = [one.name for one in plan.ops() if one.is_entry and op.name in plan.reached(one.name)]
        which = f"{froms.index(entry)}-" if len(froms) > 1 else ""
        names[op.name] = f"{op.name}.{which}"
    return names
