"""One stage of a run as the driver sees it: its units of work, and what was agreed on."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import replace

import pyarrow as pa

from raflow.errors import ReplicaLost, RunFailed
from raflow.metrics import Counts, StageStats, Status
from raflow.plan import Stage
from raflow.runtime.delivery import Delivering, Delivery, discard
from raflow.runtime.ledger import StageRecord, UnitRecord
from raflow.runtime.pool import Pool
from raflow.runtime.scheduler import assign
from raflow.runtime.work import Order, Outcome, pack_schema, pack_text, unpack_schema, unpack_text
from raflow.schema import merge
from raflow.sources import Split

SETUP = -1
"""Stands for a unit where a replica was lost before it had one."""
_MAX_LOSSES = 3

log = logging.getLogger("raflow")


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
        self.delivering: Delivering
        self.done = {unit for unit, known in record.units.items() if known.committed}
        self.waiting = deque(unit for unit in range(len(splits)) if unit not in self.done)
        self.total = sum((self.units[unit].counts for unit in self.done), Counts())
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

    def ready(self) -> None:
        """Take note that a replica can work."""
        self.status = Status.RUNNING
        self.began = self.began or time.monotonic()

    def next(self) -> tuple[int, int] | None:
        """Take a unit from the line and say which replica gets it; None if there is nothing to give out now.

        A unit that has cost a replica goes alone, so that it can be told from its neighbour.
        """
        if self.pool is None:
            return None
        members = self.pool.members
        free = [
            slot for slot in self.pool.slots() if not any(unit in self.losses for unit in members[slot.replica].units)
        ]
        chosen = assign(self.work, free)[:1]
        if not chosen or (self.waiting[0] in self.losses and members[chosen[0]].units):
            return None
        return chosen[0], self.waiting.popleft()

    def order(self, unit: int) -> Order:
        """Return the order for the next attempt at a unit."""
        known = self.units.get(unit)
        attempt = (known.attempt if known else 0) + 1
        self.units[unit] = replace(known, attempt=attempt) if known else UnitRecord(attempt)
        columns = pack_schema(self.columns) or b""
        return Order(f"{self.stage.name}.{unit:05d}", attempt, self.splits[unit], columns, pack_schema(self.agreed))

    def take(self, unit: int, outcome: Outcome) -> None:
        """Deliver what a unit has staged, or have it done again because the schema has widened.

        Raises:
            SchemaError: Its schema does not fit the agreed one; names the field.
        """
        schema = unpack_schema(outcome.widened or outcome.schema)
        if outcome.widened and outcome.widened_input:
            # Units that are done saw values that fit the narrower input.
            self.columns = merge([self.columns, schema])
            self._note("columns", pack_text(self.columns))
        else:
            self._agree(schema)
        if outcome.widened or not (schema is None or schema.equals(self.agreed)):
            discard(self.stage, outcome.parts)
            self.waiting.appendleft(unit)
            return
        replaces = self.units[unit].parts
        record = UnitRecord(outcome.attempt, outcome.parts, pack_text(schema), outcome.counts)
        self.units[unit] = record
        self.committing.add(unit)
        self.delivering.deliver(Delivery(self.stage, unit, record, replaces))

    def committed(self, unit: int) -> None:
        """Mark a unit as published; one that was written before the schema widened is done again."""
        self.committing.discard(unit)
        self.done.add(unit)
        self.total += self.units[unit].counts
        if not self._fits(unit):
            self._repeat(unit)

    def lose(self, index: int, error: ReplicaLost) -> None:
        """Replace a lost replica; its units go back to the front of the line.

        Raises:
            RunFailed: The same unit, or set-up, has cost several replicas.
        """
        pool, name = self.pool, self.stage.name
        if pool is None or index not in pool.members:
            return
        size = len(pool.members)
        self.replicas_lost += 1
        units = pool.remove(index)
        self.waiting.extendleft(reversed(units))
        for unit in units or [SETUP]:
            self.losses[unit] = self.losses.get(unit, 0) + 1
        suspect = units[0] if units else SETUP
        if len(units) <= 1 and self.losses[suspect] >= _MAX_LOSSES:
            what = "set-up" if suspect == SETUP else self.splits[suspect].name
            msg = f"{self.losses[suspect]} replicas of {name!r} died in {what}; the last: {error}"
            raise RunFailed(msg, processor=name, replica=f"{name}[{index}]", split=what) from error
        log.warning("%s; a new one does its work again", error)
        pool.grow(size)

    def _agree(self, schema: pa.Schema | None) -> None:
        """Take an output schema into the agreed one; committed units that are narrower are done again."""
        if schema is None:
            return
        agreed = schema if self.agreed is None else merge([self.agreed, schema])
        if self.agreed is not None and agreed.equals(self.agreed):
            return
        self.agreed = agreed
        self._note("agreed", pack_text(agreed))
        for unit in sorted(self.done):
            if not self._fits(unit):
                self._repeat(unit)

    def _fits(self, unit: int) -> bool:
        schema = unpack_text(self.units[unit].schema)
        return schema is None or bool(schema.equals(self.agreed))

    def _repeat(self, unit: int) -> None:
        self.delivering.note({"event": "repeat", "stage": self.stage.name, "unit": unit})
        self.total -= self.units[unit].counts
        self.done.discard(unit)
        self.waiting.append(unit)

    def _note(self, event: str, value: str | None) -> None:
        self.delivering.note({"event": event, "stage": self.stage.name, "value": value})

    def counts(self) -> Counts:
        """Return the sums over committed units and those in flight."""
        members = self.pool.members.values() if self.pool else ()
        return sum((member.counts for member in members), self.total)

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
