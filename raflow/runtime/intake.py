"""Before data moves: looks at input and output, lists the splits, or takes them from the ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from raflow import convert, pushdown, units
from raflow.errors import ResumeError, SchemaError
from raflow.operators.contract import Wide
from raflow.plan import Op, Plan
from raflow.plan.order import in_order
from raflow.runtime.delivery import discard
from raflow.runtime.entry import Agreed, EntryRun
from raflow.runtime.ledger import Ledger
from raflow.runtime.records import OpRecord, UnitRecord, splits_event
from raflow.runtime.shuffle import partitions
from raflow.runtime.work import pack_text, unpack_text
from raflow.schemas import as_wanted, check
from raflow.sinks import SinkContext
from raflow.sources import Source, Split

Records = Mapping[str, OpRecord]
_SMALL_BYTES = 8 << 20
"""Of an input's sources, as they are stored: then it is sent to every partition rather than spread by its keys."""

log = logging.getLogger("raflow")


@dataclass(frozen=True)
class Intake:
    """What a run begins with."""

    plan: Plan
    records: Records
    """What the ledger knows, by op."""
    agreed: Agreed
    """The output schemas."""
    entries: dict[str, EntryRun]
    """The units of work, by the op at which they begin."""
    limit: int | None = None
    """Dry run: only so many records of each source."""


def intake(plan: Plan, ledger: Ledger, context: SinkContext, *, resumed: bool, limit: int | None = None) -> Intake:
    """Look at what a run is to do, before data moves.

    Raises:
        RaflowError: Input is missing or does not fit, output cannot be written, or the run cannot be resumed.
    """
    plan = pushdown.without_drops(plan)
    records = (resume if resumed else begin)(plan, ledger, context)
    wide = {op.name: op.work for op in plan.ops() if isinstance(op.work, Wide)}
    sides = {name: side for name in wide if (side := records[name].all_of) is not None}
    plan = plan.with_wide({name: wide[name].with_all_of(side) for name, side in sides.items()})
    plan = replace(plan, stages=in_order(plan.stages))  # those before a join that deals rows out now, too
    agreed = Agreed(plan, records)
    return Intake(plan, records, agreed, _entry_runs(plan, records, agreed, limit), limit)


def begin(plan: Plan, ledger: Ledger, context: SinkContext) -> dict[str, OpRecord]:
    """Look at a plan's inputs and outputs before data moves, and list all splits; writes them down.

    Raises:
        RaflowError: Input is missing or does not fit a processor, or an output cannot be written.
    """
    records = {op.name: OpRecord() for op in plan.ops()}
    sources = {op.name: op.work for op in plan.ops() if isinstance(op.work, Source)}
    available = {name: typed(plan, name, source) for name, source in sources.items()}
    known = check(plan, available)
    columns = pushdown.needed(plan, known)
    for name in sources:
        records[name].columns = pack_text(columns[name])
    for op in plan.ops():
        records[op.name].started = [sink.start(context) for sink in op.all_sinks]
    for name, source in sources.items():
        condition = pushdown.condition(plan, name, available[name])
        records[name].where = _said(condition)
        records[name].splits = _splits(source, condition, available[name])
    for op in plan.ops():
        if isinstance(op.work, Wide):
            sizes = _sizes_before(plan, plan.givers(op.name), records)
            records[op.name].partitions = partitions(op.work, sum(size or 0 for size in sizes))
            records[op.name].all_of = _small_side(plan, op, records)
            records[op.name].given = [pack_text(known[name]) for name in op.inputs]
    ledger.record([event for name, record in records.items() for event in _events(name, record)])
    return records


def resume(plan: Plan, ledger: Ledger, context: SinkContext) -> dict[str, OpRecord]:
    """Take from the ledger where an earlier process of the run has left it.

    Raises:
        ResumeError: The run was of another plan, its input has changed, or the plan now reads more of its input.
    """
    records = ledger.replay()
    for op in plan.ops():
        record = records.get(op.name)
        if isinstance(op.work, Source) and (record is None or record.splits is None or record.columns is None):
            msg = f"run {context.run_id} died before {op.name!r} began, or was of other code; run it anew"
            raise ResumeError(msg)
        records.setdefault(op.name, OpRecord())
        if isinstance(op.work, Source):
            _check_unchanged(op, op.work, records[op.name])
    _check_same_read(plan, records)
    for op in plan.ops():
        for sink in op.all_sinks:
            sink.resume(context)
    return records


def _entry_runs(plan: Plan, records: Records, agreed: Agreed, limit: int | None) -> dict[str, EntryRun]:
    """Return the units of work of all entries.

    Units that feed an exchange are done again, without being written again, unless all that follows is done.
    """
    runs: dict[str, EntryRun] = {}
    givers = {op.name: plan.givers(op.name) for op in plan.ops() if isinstance(op.work, Wide)}
    for op in reversed([op for op in plan.ops() if op.is_entry]):
        feeds = [one for one in runs.values() if op.name in givers.get(one.name, ())]
        replayed = any(not one.is_done for one in feeds)
        record = records[op.name]
        bound = limit if isinstance(op.work, Source) else None
        runs[op.name] = EntryRun(op, plan, agreed, record, replayed=replayed, limit=bound)
        for unit in [] if record.splits is None else list(runs[op.name].waiting):
            if unit in record.units and unit not in runs[op.name].written:
                discard(runs[op.name].sinks, record.units[unit].parts)
                record.units[unit] = UnitRecord(record.units[unit].attempt)
    return {name: runs[name] for name in reversed(runs)}


def typed(plan: Plan, name: str, source: Source) -> pa.Schema:
    """Return the columns that a source has, as the record types of those that read it want them.

    Raises:
        SchemaError: A record type wants what the source does not have.
    """
    takers = [(op, op.shape.columns) for op in plan.ops() if name in op.inputs and op.shape]
    available = as_wanted(source, source.schema(), (columns for _, columns in takers))
    for op, columns in takers:
        try:
            if columns is not None:
                convert.check(columns, available)
        except SchemaError as error:
            msg = f"processor {op.name!r} cannot read {source!r}: {error}"
            raise SchemaError(msg) from error
    return available


def _said(condition: pc.Expression | None) -> str:
    return "" if condition is None else str(condition)


def _splits(source: Source, condition: pc.Expression | None, available: pa.Schema) -> list[Split]:
    if condition is None:
        return source.splits()
    return source.splits_where(condition, pushdown.condition_columns(condition, available))


def _events(name: str, record: OpRecord) -> list[dict[str, object]]:
    events: list[dict[str, object]] = [
        {"event": key, "op": name, "value": value}
        for key in ("started", "columns", "where", "partitions", "all_of", "given")
        if (value := getattr(record, key)) not in (None, [])
    ]
    return events if record.splits is None else [*events, splits_event(name, record.splits)]


def _small_side(plan: Plan, wide: Op, records: Records) -> int | None:
    """Return an input of a wide op of which every partition may have all rows, if its sources are small."""
    assert isinstance(wide.work, Wide)
    for side in wide.work.spreadable:
        givers = [op.name for op in plan.ops() if op.is_entry and wide.inputs[side] in plan.reached(op.name)]
        sizes = [_SMALL_BYTES + 1 if size is None else size for size in _sizes_before(plan, givers, records)]
        if sum(sizes) <= _SMALL_BYTES:
            log.info("%s: every partition gets all of input %d (%s)", wide.name, side + 1, units.size(sum(sizes)))
            return side
    return None


def _sizes_before(plan: Plan, givers: Iterable[str], records: Records) -> list[int | None]:
    """Return the bytes of each split of the sources from which some entries have their records."""
    line, found = list(givers), set()
    while line:
        name = line.pop()
        if name not in found:
            found.add(name)
            line += plan.givers(name) if records[name].splits is None else []
    return [split.bytes for name in found for split in records[name].splits or ()]


def _check_unchanged(op: Op, source: Source, record: OpRecord) -> None:
    now = {entry.name: entry for entry in source.inputs()}
    for old in dict.fromkeys(entry for split in record.splits or () for entry in split.inputs):
        if old.name not in now:
            msg = f"input {old.name} of {op.name!r} is gone since the run began; put it back or run anew"
            raise ResumeError(msg)
        if now[old.name] != old:
            msg = f"input {old.name} of {op.name!r} has changed since the run began; run anew"
            raise ResumeError(msg)


def _check_same_read(plan: Plan, records: Records) -> None:
    """Raise if the plan reads what the run began without: its splits are listed, and its columns agreed."""
    available = {op.name: typed(plan, op.name, op.work) for op in plan.ops() if isinstance(op.work, Source)}
    columns = pushdown.needed(plan, check(plan, available))
    for name, schema in available.items():
        began = unpack_text(records[name].columns)
        new = [column for column in columns[name].names if began is not None and column not in began.names]
        if new:
            msg = (
                f"{name!r} now needs {', '.join(map(repr, new))}, which the run does not read since it began without; "
                "restore the code, or start a new run"
            )
            raise ResumeError(msg)
        now, then = _said(pushdown.condition(plan, name, schema)), records[name].where
        if then is not None and now != then:
            msg = (
                f"{name!r} reads {f'where {now}' if now else 'all records'} now, but the run began with "
                f"{f'those where {then}' if then else 'all of them'}; restore the filter, or start a new run"
            )
            raise ResumeError(msg)
