"""What a run consists of while it goes on; changed by the driver's thread only."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from raflow.batch import from_ipc
from raflow.operators.contract import Wide
from raflow.plan import Op, Stage
from raflow.runtime.dispatch import Dispatch
from raflow.runtime.engine import Engine
from raflow.runtime.entry import EntryRun
from raflow.runtime.intake import Intake
from raflow.runtime.passage import Passage
from raflow.runtime.pool import Member, Pool
from raflow.runtime.replica import Replica
from raflow.runtime.shuffle import Shuffle
from raflow.runtime.stage import StageRun
from raflow.runtime.work import Job, unpack_text
from raflow.sinks import SinkContext


class RunState:
    """Stages, units of work and exchanges of one run.

    Args:
        work: What there is to do.
        engine: Starts replicas.
        run_id: Of the run.
        tell: Takes what happens to replicas, from any thread.

    Attributes:
        stages: By name; those that give before those that take.
        entries: By the name of their op.
        shuffles: By the name of their wide op.
        home: By op: the name of its stage.
        notes: What the user should know.
    """

    def __init__(self, work: Intake, engine: Engine, run_id: str, tell: Callable[..., None]) -> None:
        self.work = work
        self.plan = work.plan
        self.agreed = work.agreed
        self.entries = work.entries
        self.engine = engine
        self.notes: list[str] = []
        self.home = {op.name: stage.name for stage in self.plan.stages for op in stage.ops}
        self.shuffles = {op.name: self._shuffle(op) for op in self.plan.ops() if isinstance(op.work, Wide)}
        self.stages = {stage.name: self._stage_run(stage, run_id, tell) for stage in self.plan.stages}
        self.dispatch = Dispatch(list(self.stages.values()), self.entries, self.shuffles)

    def member(self, stage: str, index: int) -> Member | None:
        """Return a replica, unless it is lost or has left."""
        return self.stages[stage].pool.members.get(index)

    def again(self, passage: Passage) -> None:
        """Give up an attempt everywhere; its unit goes back to the front of the line."""
        if passage.stale:
            return
        self.entries[passage.order.entry].again(passage)
        for name, at in passage.at.items():
            self.stages[name].forget(passage)
            for index in at.replicas:
                member = self.member(name, index)
                if member:
                    member.holds.pop(passage.key, None)
                    member.handle.call("drop_unit", passage.key)

    def count(self, entry: EntryRun, unit: int, sign: int = 1) -> None:
        """Add what a unit that is done has counted to the sums of its stages, or take it back."""
        known = entry.units[unit]
        for stage in entry.stages:
            self.stages[stage.name].add(known.counts.get(stage.name), known.failed, sign)

    def _stage_run(self, stage: Stage, run_id: str, tell: Callable[..., None]) -> StageRun:
        partitions = {one.taker: self.shuffles[one.taker].partitions for one in stage.exchanges}
        job = Job(stage, SinkContext(run_id), partitions, self.plan.options.log_level, self.work.limit)
        pool = Pool(
            stage.name,
            self.engine,
            lambda: self.engine.pack(Replica, job),
            stage.options,
            tell,
            anonymous=stage.is_ours,
        )
        return StageRun(stage, job, pool, (one for one in self.entries.values() if stage in one.stages))

    def _shuffle(self, op: Op) -> Shuffle:
        record: Any = self.work.records[op.name]
        bounds = from_ipc(base64.b64decode(record.bounds)) if record.bounds else None
        columns = tuple(unpack_text(one) for one in record.given or ())
        return Shuffle(op, record.partitions, self.plan.givers(op.name), columns, bounds)
