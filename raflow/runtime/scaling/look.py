"""The look that the autoscaler takes: from the stages of a run to a frozen snapshot of their pools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from raflow.runtime.dispatch import Dispatch
from raflow.runtime.engine import Capacity
from raflow.runtime.entry import EntryRun
from raflow.runtime.scaling.speed import Speed
from raflow.runtime.scaling.values import PoolState, Snapshot
from raflow.runtime.shuffle import Shuffle
from raflow.runtime.stage import Feed, StageRun

_SOME_ROWS = 1000.0
"""Taken for the records of a unit while nothing is known."""


class Snapshots:
    """Takes snapshots, and keeps the measured speeds between them.

    Args:
        stages: All of the run.
        dispatch: Knows which stages wait for room.
        shuffles: By name of the wide op.
    """

    def __init__(self, stages: Iterable[StageRun], dispatch: Dispatch, shuffles: Mapping[str, Shuffle]) -> None:
        self._stages = list(stages)
        self._dispatch = dispatch
        self._shuffles = shuffles
        self._speeds: defaultdict[str, Speed] = defaultdict(Speed)

    def take(self, now_s: float, capacity: Mapping[str, float], *, can_grow: bool) -> Snapshot:
        """Return all pools that have, or will have, work."""
        live = [stage for stage in self._stages if not stage.is_done]
        names = {stage.stage.name for stage in live}
        pools = tuple(self._pool(stage, names, now_s) for stage in live)
        return Snapshot(now_s, dict(capacity), pools, can_grow)

    def _waits(self, stage: StageRun) -> bool:
        """Whether no unit that passes through the stage can begin yet."""
        return not any(entry.running or (entry.waiting and self._can_begin(entry)) for entry in stage.through)

    def _can_begin(self, entry: EntryRun) -> bool:
        shuffle = self._shuffles.get(entry.name)
        return shuffle is None or (self._dispatch.is_given(shuffle) and shuffle.is_cut)

    def _pool(self, stage: StageRun, names: set[str], now_s: float) -> PoolState:
        name, options, pool = stage.stage.name, stage.stage.options, stage.pool
        counts = stage.counts()
        speed = self._speeds[name] = self._speeds[name].look(counts.rows_in, counts.rows_out, counts.busy_s)
        units, rows = self._waiting(stage)
        members = [member for member in pool.members.values() if not member.leaving]
        fixed = options.num_replicas if options.autoscale or options.num_replicas else pool.size or None
        return PoolState(
            name,
            options.needs(),
            ready=sum(member.ready for member in members),
            starting=sum(not member.ready for member in members),
            draining=len(pool.members) - len(members),
            min_replicas=options.min_replicas,
            max_replicas=options.max_replicas,
            fixed=fixed,
            queued=units,
            in_flight=pool.in_flight,
            held_s=max([pool.held_s, *(now_s - since for member in members for since in member.holds.values())]),
            busy_s=counts.busy_s,
            unit=_unit(stage, units, rows),
            rate=speed.rate,
            selectivity=speed.selectivity,
            setup_s=pool.setup_s,
            runs_users=not stage.stage.is_ours,
            consumers=tuple(
                dict.fromkeys(
                    taker.stage.name
                    for channel in stage.stage.emits
                    for taker in self._dispatch.takers(channel)
                    if taker.stage.name in names
                )
            ),
            blocked=self._dispatch.is_full(stage),
            waits=self._waits(stage),
            exhausted=self._is_exhausted(stage),
        )

    def _waiting(self, stage: StageRun) -> tuple[int, float]:
        """Return the units that wait for a replica, and about how many records they have."""
        units, rows = len(stage.line), float(sum(piece.rows for piece in stage.line))
        for entry in stage.entries:
            if self._can_begin(entry):
                units += entry.work
                rows += entry.work * _rows_of(entry, stage)
        return units, rows

    def _is_exhausted(self, stage: StageRun) -> bool:
        """Whether nothing will come that is not in line yet."""
        for entry in stage.through:
            if entry in stage.entries:
                if entry.waiting and not entry.work:  # what was made has to be taken first
                    return False
                continue
            if entry.waiting or entry.splits is None:
                return False
            for passage in entry.running.values():
                before = [at for at in passage.at.values() if set(at.stage.emits) & set(stage.stage.takes)]
                if not all(at.over for at in before):
                    return False
        return True


def _unit(stage: StageRun, units: int, rows: float) -> float:
    """Return about how many records a unit has, of those that wait and those that are being worked on."""
    feeds = [one for member in stage.pool.members.values() for one in member.units if isinstance(one, Feed)]
    if units or feeds:
        return (rows + sum(piece.rows for feed in feeds for piece in feed.pieces)) / (units + len(feeds))
    return next((_rows_of(entry, stage) for entry in stage.entries), _SOME_ROWS)


def _rows_of(entry: EntryRun, stage: StageRun) -> float:
    """Return about how many records a unit has: of the first that waits, or of those that the stage has had."""
    split = entry.splits[entry.waiting[0]] if entry.splits and entry.waiting else None
    if split is not None and split.rows:
        return float(split.rows)
    through = sum(1 for _ in entry.uncounted(stage.stage.name))
    begun = len(entry.running) + len(entry.committing) - through
    return rows_each(stage.counts().rows_in, len(entry.done) + through, begun)


def rows_each(rows: int, ended: int, begun: int) -> float:
    """Return about how many records a unit has, by those that a stage has had.

    Args:
        rows: Of all units so far.
        ended: Units that the stage is through with; others of the run may still have them.
        begun: Units that it is at, on average half way.
    """
    units = ended + begun / 2
    return rows / units if rows and units else _SOME_ROWS


def room(snapshot: Snapshot, capacity: Capacity) -> Snapshot:
    """Return the snapshot with the room that there is for replicas of this run.

    What others hold is not there, but for one replica of each pool: it waits until they give something back.
    Where replicas share what there is, one of each pool always fits.
    """
    least: dict[str, float] = {}
    for pool in [pool for pool in snapshot.pools if not pool.waits and not pool.ended]:
        for name, amount in pool.needs.items():
            least[name] = least.get(name, 0.0) + amount * max(pool.fixed or 0, pool.min_replicas, 1)
    found = {}
    for name, total in snapshot.capacity.items():
        wanted = least.get(name, 0.0) if capacity.shared else min(least.get(name, 0.0), total)
        found[name] = max(total - capacity.others.get(name, 0.0), wanted)
    return replace(snapshot, capacity=found)
