"""One stage of a run as the driver sees it: its units of work, and what was agreed on."""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from raflow import convert
from raflow.errors import ResumeError
from raflow.metrics import Counts, StageStats, Status
from raflow.plan import Stage
from raflow.runtime.ledger import Ledger, StageRecord, UnitRecord, splits_event
from raflow.runtime.pool import Pool
from raflow.runtime.work import Order, Outcome, pack_schema, unpack_schema
from raflow.schema import merge
from raflow.sinks import Part, SinkContext
from raflow.sources import Split


class StageRun:
    """The units of work of one stage; used by the driver's thread only.

    Args:
        stage: What the plan says.
        splits: The whole input.
        columns: Names and types that the source delivers.
        started: What each sink's `start` returned.
        record: What an earlier process of this run has done.
        limit: Dry run: the stage is done after so many records.
    """

    def __init__(
        self,
        stage: Stage,
        splits: list[Split],
        columns: pa.Schema,
        started: list[object],
        record: StageRecord,
        limit: int | None = None,
    ) -> None:
        self.stage = stage
        self.splits = splits
        self.columns = columns
        self.started = started
        self.limit = limit
        self.agreed = unpack_text(record.agreed) or stage.returned
        self.units = record.units
        self.done = {unit for unit, known in record.units.items() if known.committed}
        self.waiting = deque(unit for unit in range(len(splits)) if unit not in self.done)
        self.committing: set[int] = set()
        self.losses: dict[int, int] = {}
        self.status = Status.PENDING
        self.pool: Pool | None = None
        self.began = self.ended = 0.0
        self.most_replicas = self.replicas_lost = 0

    @property
    def is_done(self) -> bool:
        """Whether every unit is committed; in a dry run, whether enough are."""
        return len(self.done) == len(self.splits) or (self.is_idle and self._has_enough)

    @property
    def work(self) -> int:
        """Units that may be given out now; in a dry run they go one by one, in order."""
        if self.limit is not None and (self._has_enough or not self.is_idle):
            return 0
        return len(self.waiting)

    @property
    def _has_enough(self) -> bool:
        return self.limit is not None and self.counts().rows_in >= self.limit

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is under way."""
        return not self.committing and not (self.pool and self.pool.in_flight)

    def order(self, unit: int) -> Order:
        """Return the order for the next attempt at a unit."""
        known = self.units.get(unit)
        attempt = (known.attempt if known else 0) + 1
        self.units[unit] = replace(known, attempt=attempt) if known else UnitRecord(attempt)
        columns = pack_schema(self.columns) or b""
        return Order(f"{self.stage.name}.{unit:05d}", attempt, self.splits[unit], columns, pack_schema(self.agreed))

    def widen_input(self, schema: pa.Schema) -> None:
        """Take a wider input schema; units that are done saw values that fit the narrower one."""
        self.columns = merge([self.columns, schema])

    def agree(self, schema: pa.Schema | None) -> list[int]:
        """Take an output schema into the agreed one.

        Returns:
            The committed units that must be done again, because their schema is narrower.

        Raises:
            SchemaError: It does not fit; names the field.
        """
        if schema is None:
            return []
        agreed = schema if self.agreed is None else merge([self.agreed, schema])
        if self.agreed is not None and agreed.equals(self.agreed):
            return []
        self.agreed = agreed
        return [unit for unit in sorted(self.done) if not self.fits(unit)]

    def fits(self, unit: int) -> bool:
        """Return whether a unit was written with the agreed schema."""
        schema = unpack_text(self.units[unit].schema)
        return schema is None or (self.agreed is not None and schema.equals(self.agreed))

    def prepared(self, unit: int, outcome: Outcome) -> UnitRecord:
        """Keep what a unit has staged, to be committed; returns the record for the ledger."""
        record = UnitRecord(outcome.attempt, outcome.parts, pack_text(unpack_schema(outcome.schema)), outcome.counts)
        self.units[unit] = record
        self.committing.add(unit)
        return record

    def committed(self, unit: int) -> None:
        """Mark a unit as published."""
        self.committing.discard(unit)
        self.done.add(unit)

    def repeat(self, unit: int) -> None:
        """Have a unit done again."""
        self.done.discard(unit)
        self.waiting.append(unit)

    def discard(self, parts: Sequence[Sequence[Part]]) -> None:
        """Remove what a unit has staged or published."""
        for sink, group in zip(self.stage.all_sinks, parts, strict=False):
            if group:
                sink.discard(group)

    def counts(self) -> Counts:
        """Return the sums over committed units and those in flight."""
        total = sum((self.units[unit].counts for unit in self.done), Counts())
        members = self.pool.members.values() if self.pool else ()
        return sum((member.counts for member in members if member.units), total)

    def stats(self) -> StageStats:
        """Return what has been done so far."""
        replicas = len(self.pool.ready) if self.pool else self.most_replicas
        self.most_replicas = max(self.most_replicas, replicas)
        return StageStats(
            name=self.stage.name,
            status=self.status,
            counts=self.counts(),
            replicas=replicas,
            units_done=len(self.done),
            units_total=len(self.splits),
            replicas_lost=self.replicas_lost,
            elapsed_s=(self.ended or time.monotonic()) - self.began if self.began else 0.0,
        )


def begin(stage: Stage, ledger: Ledger, context: SinkContext, limit: int | None = None) -> StageRun:
    """Look at a stage's input and output before data moves, and list its splits.

    Raises:
        RaflowError: Input is missing or does not fit the processor, or the output cannot be written.
    """
    columns = wanted(stage, stage.source.schema())
    started = [sink.start(context) for sink in stage.all_sinks]
    splits = stage.source.splits()
    name = stage.name
    ledger.record(
        [
            {"event": "started", "stage": name, "value": started},
            {"event": "columns", "stage": name, "value": pack_text(columns)},
            splits_event(name, splits),
        ]
    )
    return StageRun(stage, splits, columns, started, StageRecord(), limit)


def resume(stage: Stage, record: StageRecord | None, context: SinkContext) -> StageRun:
    """Continue a stage where an earlier process of the run has left it.

    Raises:
        ResumeError: The run has no such stage, or its input has changed.
    """
    columns = unpack_text(record.columns) if record else None
    if record is None or columns is None:
        msg = f"run {context.run_id} died before stage {stage.name!r} began; run it anew"
        raise ResumeError(msg)
    _check_unchanged(stage, record)
    for sink in stage.all_sinks:
        sink.resume(context)
    run = StageRun(stage, record.splits, columns, record.started, record)
    for unit in run.waiting:
        if unit in run.units:
            run.discard(run.units[unit].parts)
            run.units[unit] = UnitRecord(run.units[unit].attempt)
    return run


def wanted(stage: Stage, available: pa.Schema) -> pa.Schema:
    """Return the columns that the source is to deliver.

    All of them, or those that the record type has; the record type decides the types of text sources.

    Raises:
        SchemaError: The record type wants what the source does not have.
    """
    columns = stage.shape.columns
    if columns is None:
        return available
    if stage.source.typed_by_record():
        typed = [columns.field(f.name) if f.name in columns.names else f for f in available]
        convert.check(columns, pa.schema(typed))
        return pa.schema([field for field in typed if field.name in columns.names])
    convert.check(columns, available)
    return pa.schema([field for field in available if field.name in columns.names])


def _check_unchanged(stage: Stage, record: StageRecord) -> None:
    now = {entry.name: entry for entry in stage.source.inputs()}
    for old in dict.fromkeys(entry for split in record.splits for entry in split.inputs):
        if old.name not in now:
            msg = f"input {old.name} of {stage.name!r} is gone since the run began; put it back or run anew"
            raise ResumeError(msg)
        if now[old.name] != old:
            msg = f"input {old.name} of {stage.name!r} has changed since the run began; run anew"
            raise ResumeError(msg)


def pack_text(schema: pa.Schema | None) -> str | None:
    """Return a schema as text for the ledger."""
    data = pack_schema(schema)
    return None if data is None else base64.b64encode(data).decode()


def unpack_text(text: str | None) -> pa.Schema | None:
    """Return the schema in a ledger's text."""
    return None if text is None else unpack_schema(base64.b64decode(text))
