"""Before data moves: looks at input and output, lists the splits, or takes them from the ledger."""

from __future__ import annotations

import pyarrow as pa

from raflow import convert
from raflow.errors import ResumeError, SchemaError
from raflow.plan import Stage
from raflow.runtime.delivery import discard
from raflow.runtime.ledger import Ledger, StageRecord, UnitRecord, splits_event
from raflow.runtime.stage import StageRun
from raflow.runtime.work import pack_text, unpack_text
from raflow.schema import is_fixed
from raflow.sinks import SinkContext


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
            discard(stage, run.units[unit].parts)
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
        decided = {field.name: field for field in columns if is_fixed(field)}
        available = pa.schema([decided.get(field.name, field) for field in available])
    try:
        convert.check(columns, available)
    except SchemaError as error:
        msg = f"processor {stage.name!r} cannot read {stage.source!r}: {error}"
        raise SchemaError(msg) from error
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
