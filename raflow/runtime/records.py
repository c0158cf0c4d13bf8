"""What a run's ledger knows of its ops and units of work, and the events that say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raflow.metrics import Counts
from raflow.sinks import Part
from raflow.sources import Input, Split


@dataclass
class UnitRecord:
    """What the ledger knows of one unit of work."""

    attempt: int = 0
    parts: tuple[tuple[Part, ...], ...] = ()
    """Per sink to which its records come, in the plan's order."""
    schemas: dict[str, str] = field(default_factory=dict)
    """By op that writes; absent if it wrote nothing."""
    counts: dict[str, Counts] = field(default_factory=dict)
    """By stage."""
    failed: dict[str, int] = field(default_factory=dict)
    """By op: failing records."""
    committed: bool = False


@dataclass
class OpRecord:
    """What the ledger knows of one op: as an entry, as one that writes, or both."""

    splits: list[Split] | None = None
    """Units of work that begin here; None while they are not known."""
    columns: str | None = None
    """Agreed schema of a source."""
    where: str | None = None
    """Of a source: the condition by which its splits leave out records; empty for none, None where it is not known."""
    partitions: int | None = None
    """Of the exchange before a wide op."""
    all_of: int | None = None
    """Of a wide op: the input of which every partition has all rows."""
    given: list[str | None] | None = None
    """Of a wide op: the columns of each input, as far as they are known before the run."""
    bounds: str | None = None
    """Of a range exchange: where its partitions end."""
    units: dict[int, UnitRecord] = field(default_factory=dict)
    started: list[Any] = field(default_factory=list)
    """What each sink's `start` returned."""
    agreed: str | None = None
    """Agreed schema of what it writes."""

    def apply(self, event: dict[str, Any]) -> None:
        """Take what an event says."""
        kind = event["event"]
        if kind == "splits":
            said = event["splits"]
            self.splits = [Split(n, p, r, b, tuple(Input(*i) for i in inputs)) for n, p, r, b, inputs in said]
        elif kind == "prepared":
            parts = tuple(tuple(Part(*part) for part in group) for group in event["parts"])
            counts = {stage: Counts(**count) for stage, count in event["counts"].items()}
            self.units[event["unit"]] = UnitRecord(event["attempt"], parts, event["schemas"], counts, event["failed"])
        elif kind == "committed":
            self.units[event["unit"]].committed = True
        elif kind == "repeat":
            self.units[event["unit"]].committed = False
        else:
            setattr(self, kind, event["value"])  # started, columns, where, agreed, partitions, all_of, given, bounds


def splits_event(op: str, splits: list[Split]) -> dict[str, Any]:
    """Return the event that holds an entry's splits."""
    rows = [
        [one.name, one.payload, one.rows, one.bytes, [[i.name, i.size, i.version] for i in one.inputs]]
        for one in splits
    ]
    return {"event": "splits", "op": op, "splits": rows}


def prepared_event(op: str, unit: int, record: UnitRecord) -> dict[str, Any]:
    """Return the event that must be durable before the unit's parts are published."""
    parts = [[[p.target, p.rows, p.size_bytes, p.token] for p in group] for group in record.parts]
    counts = {stage: vars(count) for stage, count in record.counts.items()}
    return {
        "event": "prepared", "op": op, "unit": unit, "attempt": record.attempt,
        "parts": parts, "schemas": record.schemas, "counts": counts, "failed": record.failed,
    }  # fmt: skip
